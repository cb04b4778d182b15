"""A GGUF header: as lines of 80 columns for people, as a document for scripts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from quantpick.domain.header_record import header_record
from quantpick.domain.inspection import Summary, summary
from quantpick.domain.names import printable
from quantpick.domain.units import GB, MB, format_gb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.inspection import Inspection, TypeUse

Record = dict[str, Any]

_UNKNOWN = "not stated"

#: Characters of a text from the file that are shown: with its name it stays within 80 columns.
_LONGEST = 62


def print_header(found: Inspection) -> None:
    """Print the facts of a header, and a table of its types."""
    facts = summary(found.header)
    print(printable(f"{found.source}: {_state(found)}"))
    for name, value in _lines(facts, found):
        print(f"{name + ':':<16}{_short(value)}")
    print()
    print(f"{'type':<10}{'tensors':>8}{'weights':>12}{'bytes':>16}{'bits/weight':>13}{'share':>8}")
    for use in (*facts.types, facts.total):
        print(_type_line(use, facts.total.bytes))


def header_document(found: Inspection) -> Record:
    """Return a header's facts, all its key-values and its tensor table.

    A long array stands as its element type and its length. A number that JSON cannot hold, such
    as an infinite one, stands as text.
    """
    header, facts = found.header, summary(found.header)
    record = header_record(header)
    return {
        "source": found.source,
        "repo_id": found.repo_id,
        "revision": found.revision,
        "label": found.label,
        "paths": list(found.paths),
        "gguf_version": header.version,
        "shard_count": header.shard_count,
        "file_bytes": header.file_bytes,
        "header_bytes": header.header_bytes,
        **_facts(facts),
        "metadata": {key: _finite(value) for key, value in record["metadata"].items()},
        "tensors": [
            {"name": t.name, "dims": list(t.dims), "type": t.type, "bytes": t.nbytes}
            for t in header.tensors
        ],
    }


def _facts(facts: Summary) -> Record:
    record = facts._asdict()
    total = record.pop("total")
    return {
        **record,
        "parameters": total.elements,
        "tensor_count": total.tensors,
        "tensor_bytes": total.bytes,
        "bits_per_weight": total.bpw,
        "types": [{**use._asdict(), "bits_per_weight": use.bpw} for use in facts.types],
    }


def _finite(value: Any) -> Any:  # noqa: ANN401 -- what a JSON document holds
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _lines(facts: Summary, found: Inspection) -> Iterator[tuple[str, str]]:
    header, total = found.header, facts.total
    yield "name", facts.name or _UNKNOWN
    yield "architecture", facts.architecture or _UNKNOWN
    yield "parameters", _count(total.elements)
    yield "size", f"{header.file_bytes} bytes ({format_gb(header.file_bytes)}){_bpw(total)}"
    yield "file type", _file_type(facts)
    yield "quantized by", facts.quantized_by or _UNKNOWN
    yield "embedding", facts.token_embd_type or "none"
    yield "output", facts.output_type or ("tied to the embedding" if facts.tied else "none")
    yield "context", _known(facts.context_length, "tokens")
    yield "layers", _known(facts.block_count)
    vocabulary = f", {facts.vocab_size} tokens" if facts.vocab_size is not None else ""
    yield "tokenizer", f"{facts.tokenizer_model or _UNKNOWN}{vocabulary}"
    template = facts.chat_template_length
    yield "chat template", "none" if template is None else f"yes, {template} characters"
    yield from _licence(facts)
    if found.revision is not None:
        yield "commit", found.revision


def _licence(facts: Summary) -> Iterator[tuple[str, str]]:
    if not facts.license:
        yield "licence", _UNKNOWN
    for key, value in sorted(facts.license.items()):
        part = key.removeprefix("general.license").lstrip(".")
        yield f"licence {part}".rstrip(), value


def _state(found: Inspection) -> str:
    count = found.header.shard_count
    return f"GGUF version {found.header.version}, " + (
        f"{count} shards" if count > 1 else "one file"
    )


def _file_type(facts: Summary) -> str:
    if facts.file_type is None:
        return _UNKNOWN
    return facts.file_type_label or f"unknown number {facts.file_type}"


def _type_line(use: TypeUse, total: int) -> str:
    share = f"{100 * use.bytes / total:.1f} %" if total else ""
    bpw = "" if use.bpw is None else f"{use.bpw:.2f}"
    return (
        f"{use.type:<10}{use.tensors:>8}{_count(use.elements):>12}{use.bytes:>16}"
        f"{bpw:>13}{share:>8}"
    )


def _bpw(total: TypeUse) -> str:
    return "" if total.bpw is None else f", {total.bpw:.2f} bits per weight"


def _count(number: int) -> str:
    """Return a number of weights as model cards print it."""
    return f"{number / GB:.2f} B" if number >= GB else f"{number / MB:.2f} M"


def _known(number: int | None, unit: str = "") -> str:
    return _UNKNOWN if number is None else f"{number} {unit}".rstrip()


def _short(text: str) -> str:
    """Return a text from the file without what a terminal would obey, and not over its line."""
    plain = printable(text)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "..."
