"""Coverage-guided fuzzing of the header reader: `python -m tests.fuzz_gguf_header [OPTIONS] DIR`.

Needs the package atheris, which the tests do without. DIR is the corpus and is filled with valid
headers first; the options are libFuzzer's, for example -max_total_time=300. It stops at the first
input that ends in anything but a header or the one error, or that takes more than `-timeout`
seconds or `-rss_limit_mb` of memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from quantpick import gguf_cursor, gguf_header

from quantpick.domain.header_record import header_from_record, header_record
from quantpick.errors import IntegrityError
from tests.support.gguf_headers import (
    ARCHITECTURE,
    ARR,
    F64,
    STR,
    U16,
    U32,
    Pair,
    Row,
    pack_file,
)

_PAIRS = (
    ARCHITECTURE,
    Pair("general.alignment", U32, 8),
    Pair("split.count", U16, 2),
    Pair("heads", ARR, [1, 2, 3], U32),
    Pair("texts", ARR, ["a", "bc"], STR),
    Pair("tokens", ARR, ["t"] * 1100, STR),
    Pair("scores", ARR, [0.5] * 1100, F64),
)
_ROWS = (Row("a", (256, 2), "Q4_K"), Row("b", (5,)), Row("c", ()))


def main() -> None:
    """Fill the corpus with seeds and fuzz."""
    folder = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (version, order) in enumerate([(3, "<"), (2, "<"), (3, ">")]):
            seed = pack_file(_PAIRS, _ROWS, version=version, order=order, alignment=8)
            (folder / f"seed-{number}").write_bytes(seed)
        (folder / "seed-small").write_bytes(pack_file())
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def one_input(data: bytes) -> None:
    """Parse one input: small and large blocks have to give the same."""
    found = [_outcome(data, block) for block in (1, 1 << 20)]
    if found[0] != found[1]:
        raise AssertionError(f"blocks make a difference: {found}")


def _outcome(data: bytes, block: int) -> str:
    def fetch(start: int, least: int) -> bytes:
        return data[start : start + max(least, block)]

    try:
        header = gguf_header.parse_header(fetch, len(data), "x.gguf")
    except IntegrityError as error:
        return error.message
    if repr(header_from_record(header_record(header))) != repr(header):
        raise AssertionError("the record is another header")
    if header.header_bytes > min(len(data), gguf_cursor.MOST_BYTES):
        raise AssertionError("a header longer than its file")
    return repr(header)


if __name__ == "__main__":
    main()
