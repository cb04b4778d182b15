"""The header reader: what valid files hold, and one clear error for every other one."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.header import LongArray
from quantpick.domain.header_record import header_from_record, header_record
from quantpick.domain.inspection import FILE_TYPES
from quantpick.domain.tensors import TENSOR_TYPES
from quantpick.errors import IntegrityError, UsageError
from quantpick.gguf_header import parse_header, read_file
from tests.support.gguf_headers import (
    ARCHITECTURE,
    ARR,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    ROWS,
    STR,
    U8,
    U16,
    U32,
    U64,
    Pair,
    Row,
    pack_file,
    pack_header,
)

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.header import Header

#: One value of every type, with texts that are no plain English.
PAIRS = (
    ARCHITECTURE,
    Pair("a.u8", U8, 200),
    Pair("a.i8", I8, -100),
    Pair("a.u16", U16, 60000),
    Pair("a.i16", I16, -30000),
    Pair("a.u32", U32, 4_000_000_000),
    Pair("a.i32", I32, -2_000_000_000),
    Pair("a.f32", F32, 0.5),
    Pair("a.bool", BOOL, True),
    Pair("a.u64", U64, 1 << 63),
    Pair("a.i64", I64, -(1 << 62)),
    Pair("a.f64", F64, 1e300),
    Pair("a.text", STR, "schön \u2713\n"),
    Pair("a.heads", ARR, [8, 0, 8], U32),
    Pair("a.texts", ARR, ["x", "", "yz"], STR),
    Pair("a.none", ARR, [], F32),
    Pair("tokenizer.ggml.tokens", ARR, [f"t{n}" for n in range(3000)], STR),
    Pair("tokenizer.ggml.scores", ARR, [0.0] * 3000, F32),
)


def parse(data: bytes, block: int = 1 << 20) -> Header:
    """Parse a file's bytes, fetched at least ``block`` at a time."""
    return parse_header(
        lambda start, least: data[start : start + max(least, block)], len(data), "x.gguf"
    )


# What valid files hold


def test_the_real_model_reads_as_it_is(gemma: Path) -> None:
    header = read_file(gemma)
    assert (header.version, header.header_bytes, header.file_bytes) == (3, 6525120, 253113024)
    assert len(header.tensors) == 236
    assert header.metadata["general.architecture"] == "gemma3"
    assert header.metadata["gemma3.block_count"] == 18
    assert header.metadata["tokenizer.ggml.tokens"] == LongArray("str", 262144)
    assert header.metadata["tokenizer.ggml.scores"] == LongArray("f32", 262144)
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    first = header.tensors[1]
    assert (first.name, first.dims, first.type) == ("token_embd.weight", (640, 262144), "Q8_0")
    assert first.nbytes == 640 * 262144 // 32 * 34
    data = sum(tensor.nbytes + -tensor.nbytes % 32 for tensor in header.tensors)
    assert header.header_bytes + data == header.file_bytes


@pytest.mark.parametrize("index", [0, 1])
def test_any_shard_stands_for_its_set(index: int, gemma: Path, gemma_shards: list[Path]) -> None:
    whole, split = read_file(gemma), read_file(gemma_shards[index])
    assert split.tensors == whole.tensors
    assert split.shard_count == 2
    assert split.file_bytes == sum(path.stat().st_size for path in gemma_shards)
    pairs = {k: v for k, v in split.metadata.items() if not k.startswith("split.")}
    assert pairs == whole.metadata


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_every_type_reads_in_both_versions_and_byte_orders(
    version: int, order: str, block: int
) -> None:
    header = parse(pack_file(PAIRS, version=version, order=order), block)
    wanted = {p.key: tuple(p.value) if p.kind == ARR else p.value for p in PAIRS}
    wanted["tokenizer.ggml.tokens"] = LongArray("str", 3000)
    wanted["tokenizer.ggml.scores"] = LongArray("f32", 3000)
    assert header.metadata == wanted
    assert header.version == version
    assert [(t.name, t.dims, t.type) for t in header.tensors] == [
        (row.name, row.dims, row.type) for row in ROWS
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_package_gguf_reads_the_same(order: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(pack_file(PAIRS, order=order))
    header, theirs = read_file(path), gguf.GGUFReader(path)
    assert header.header_bytes == theirs.data_offset
    assert [(t.name, t.dims, t.type, t.nbytes) for t in header.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.n_bytes) for t in theirs.tensors
    ]
    for pair in PAIRS:
        found, field = header.metadata[pair.key], theirs.fields[pair.key]
        if isinstance(found, LongArray):
            assert found.length == len(field.data)
        else:
            contents = field.contents()
            assert found == (tuple(contents) if pair.kind == ARR else contents)


def test_a_header_survives_as_a_record() -> None:
    header = parse(pack_file((*PAIRS, Pair("a.inf", F32, -math.inf))))
    assert header_from_record(header_record(header)) == header


def test_unusual_but_valid_files_read() -> None:
    assert parse(pack_file((), ())).tensors == ()
    wide = (ARCHITECTURE, Pair("general.alignment", U32, 1024))
    assert parse(pack_file(wide, alignment=1024)).header_bytes == 1024
    scalar = parse(pack_file(rows=(Row("scalar", ()), Row("empty", (0, 5)))))
    assert [tensor.nbytes for tensor in scalar.tensors] == [4, 0]
    assert parse(pack_file()[:-4]).file_bytes, "padding after the last tensor may be missing"
    assert parse(pack_file((Pair("a", STR, b"\xff\xfe"),))).metadata == {"a": "\ufffd\ufffd"}


def test_long_texts_are_walked_past_once_enough_is_kept() -> None:
    big = "x" * (5 << 20)
    header = parse(pack_file((Pair("a", STR, big), Pair("b", STR, big), Pair("c", STR, "z"))))
    assert header.metadata == {"a": big, "b": LongArray("char", 5 << 20), "c": "z"}


def test_tensor_types_are_those_of_the_package_gguf() -> None:
    ours = {number: (kind.name, kind.elements, kind.bytes) for number, kind in TENSOR_TYPES.items()}
    theirs = {
        kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType
    }
    assert {number: ours[number] for number in theirs} == theirs
    assert set(ours) - set(theirs) <= {42}


def test_file_types_are_those_of_the_package_gguf() -> None:
    theirs = {
        kind.value: kind.name.partition("_")[2]
        for kind in gguf.LlamaFileType
        if kind is not gguf.LlamaFileType.GUESSED
    }
    assert {number: FILE_TYPES[number] for number in theirs} == theirs
    assert set(FILE_TYPES) - set(theirs) <= {41}


# What is refused


def patched(at: int, form: str, value: int) -> bytes:
    """Return a valid file with one number of its first fields replaced."""
    data = bytearray(pack_file())
    struct.pack_into(form, data, at, value)
    return bytes(data)


def rows(*changed: Row) -> bytes:
    return pack_header(rows=changed) + bytes(4096)


def pairs(*changed: Pair) -> bytes:
    return pack_file(changed)


def alignment(kind: int, value: object) -> bytes:
    return pairs(Pair("general.alignment", kind, value))


#: Where the type of the first value stands: after magic, version, two counts and its key.
TYPE_AT = 24 + 8 + len("general.architecture")

WRONG = {
    "empty": (b"", "cut short"),
    "magic": (b"FUGG" + pack_file()[4:], "no GGUF file: it begins with b'FUGG'"),
    "not-gguf": (b"<!DOCTYPE html><html>", "no GGUF file"),
    "version-0": (patched(4, "<I", 0), "GGUF version 0"),
    "version-1": (patched(4, "<I", 1), "GGUF version 1, where 2 and 3 are known"),
    "version-4": (patched(4, "<I", 4), "GGUF version 4"),
    "version-4-big": (patched(4, ">I", 4), "GGUF version 4"),
    "tensors": (patched(8, "<Q", 1 << 40), "tensors, more than can be"),
    "tensors-negative": (patched(8, "<q", -1), "tensors, more than can be"),
    "keys": (patched(16, "<Q", (1 << 64) - 1), "keys, more than can be"),
    "key-length": (patched(24, "<Q", 1 << 62), "a key of"),
    "key-too-long": (pairs(Pair("k" * 70000, U8, 1)), "a key of 70000 bytes, more than 65535"),
    "key-empty": (pairs(Pair("", U8, 1)), "empty key"),
    "key-twice": (pairs(ARCHITECTURE, ARCHITECTURE), "'general.architecture' is there twice"),
    "value-type": (patched(TYPE_AT, "<I", 13), "a value of unknown type 13"),
    "value-length": (patched(TYPE_AT + 4, "<Q", 1 << 63), "a text of 9223372036854775808 bytes"),
    "array-of-arrays": (pairs(Pair("a", ARR, [], ARR)), "an array of arrays"),
    "array-type": (pairs(Pair("a", ARR, [], 99)), "an array of unknown type 99"),
    "array-length": (
        pack_file()[:TYPE_AT] + struct.pack("<IIQ", ARR, STR, 1 << 50) + bytes(64),
        "texts in 'general.architecture', more than can be",
    ),
    "alignment-odd": (alignment(U32, 48), "general.alignment is 48"),
    "alignment-zero": (alignment(U32, 0), "general.alignment is 0"),
    "alignment-text": (alignment(STR, "32"), "general.alignment is no u32"),
    "alignment-u64": (alignment(U64, 32), "general.alignment is no u32"),
    "alignment-huge": (alignment(U32, 1 << 31), "is at 1088, not at 2147483648"),
    "name-long": (rows(Row("n" * 64, (1,))), "a tensor name of 64 bytes, more than 63"),
    "name-twice": (rows(Row("n", (8,)), Row("n", (8,))), "the tensor 'n' is there twice"),
    "dims": (rows(Row("n", (1, 1, 1, 1, 1))), "has 5 dimensions"),
    "elements": (rows(Row("n", (1 << 62, 1 << 62))), "more elements than can be counted"),
    "elements-zero": (rows(Row("n", (0, 1 << 62, 8))), "more elements than can be counted"),
    "type-unknown": (rows(Row("n", (256,), 139)), "has the unknown type 139"),
    "type-removed": (rows(Row("n", (256,), 31)), "has type 31, which llama.cpp has removed"),
    "type-iq4-nl-4-4": (rows(Row("n", (256,), 36)), "has type 36, which llama.cpp has removed"),
    "block": (rows(Row("n", (100,), "Q4_K")), "rows of 100, not a multiple of the 256"),
    "offset": (rows(Row("n", (8,), offset=64)), "is at 64, not at 0"),
    "data": (pack_header(rows=(Row("n", (1 << 20,)),)), "cut short: its tensors end at byte"),
    "control": (rows(Row("a\x1b[2Jb", (8,)), Row("a\x1b[2Jb", (8,))), r"'a\x1b[2Jb'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_malformed_header_ends_in_one_clear_error(case: str, tmp_path: Path) -> None:
    data, said = WRONG[case]
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_file(path)
    assert caught.value.message.startswith("x.gguf: ")
    assert said in caught.value.message
    assert caught.value.message.endswith(")")
    assert "(byte " in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.hints


def test_a_header_without_end_is_not_read_on_for_ever() -> None:
    texts = struct.pack("<Q", 0) * (1 << 17)
    head = pack_header((Pair("a", ARR, [], STR),), ())[:-8] + struct.pack("<Q", 1 << 38)
    asked: list[int] = []

    def fetch(start: int, least: int) -> bytes:
        asked.append(start)
        return (head + texts) if start == 0 else texts[: max(least, len(texts))]

    with pytest.raises(IntegrityError, match="a header of more than 128 MiB"):
        parse_header(fetch, 1 << 50, "x.gguf")
    assert asked[-1] <= 128 << 20


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(UsageError, match="cannot read"):
            read_file(path)


# Split sets


def shard(number: int, count: int = 2, total: int = 2, row: Row | None = None) -> bytes:
    split = (
        Pair("split.no", U16, number),
        Pair("split.count", U16, count),
        Pair("split.tensors.count", I32, total),
    )
    return pack_file((ARCHITECTURE, *split), (row or ROWS[number % 2],))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (shard(0), None, "incomplete: m-00002-of-00002.gguf not found"),
        (shard(0), shard(0), "holds shard 0 (from 0), not 1"),
        (shard(0), shard(1, 3), "is one of 3 shards, the set has 2"),
        (shard(0), pack_file(), "is one of 1 shards, the set has 2"),
        (shard(0, total=5), shard(1), "says 5 tensors, the set has 2"),
        (shard(0), shard(1, row=ROWS[0]), "hold a tensor of the same name"),
        (shard(0, 9), shard(1, 9), "is one of 9 shards by its header, but not by its name"),
    ],
    ids=["missing", "number", "count", "single", "total", "same-tensor", "name"],
)
def test_shards_that_are_no_set_are_refused(
    first: bytes, second: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(first)
    if second is not None:
        (tmp_path / "m-00002-of-00002.gguf").write_bytes(second)
    with pytest.raises(IntegrityError) as caught:
        read_file(path)
    assert said in caught.value.message


# Anything at all

SEEDS = [
    pack_file(PAIRS),
    pack_file(PAIRS, version=2, order=">"),
    pack_file((*PAIRS[:3], Pair("general.alignment", U32, 8)), alignment=8),
    shard(0),
]

#: Numbers that sit on the edges of what is checked.
EDGES = [0, 1, 2, 3, 8, 9, 12, 13, 63, 64, 1024, 1025, 65535, 65536]
EDGES += [1 << n for n in (31, 32, 40, 62, 63)] + [(1 << n) - 1 for n in (31, 32, 62, 63, 64)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a valid file with numbers overwritten, bytes changed, cut or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(data), 700)))
        how = draw(st.sampled_from(["number", "half", "bytes", "cut", "insert", "delete"]))
        if how in {"number", "half"}:
            width = 8 if how == "number" else 4
            data[at : at + width] = draw(st.sampled_from(EDGES)).to_bytes(8, "little")[:width]
        elif how == "bytes":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=24))
        elif how == "delete":
            del data[at : at + draw(st.integers(1, 24))]
        else:
            del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def outcome(data: bytes, block: int) -> Header | IntegrityError:
    """Parse a file's bytes, no byte fetched twice; return the header or the one error."""
    fetched = 0

    def fetch(start: int, least: int) -> bytes:
        nonlocal fetched
        found = data[start : start + max(least, block)]
        fetched += len(found)
        return found

    try:
        return parse_header(fetch, len(data), "x.gguf")
    except IntegrityError as error:
        return error
    finally:
        assert fetched <= len(data)


@given(damaged(), st.sampled_from([1, 37, 1 << 20]))
def test_damaged_files_read_or_end_in_the_error(data: bytes, block: int) -> None:
    found = outcome(data, block)
    if isinstance(found, IntegrityError):
        assert found.message.isprintable()
        assert len(found.message) < 500
    else:
        assert found.header_bytes <= len(data)
        # As text: a number that is none differs from itself.
        assert repr(header_from_record(header_record(found))) == repr(found)


@given(st.binary(max_size=400), st.sampled_from([b"", b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"]))
def test_any_bytes_read_or_end_in_the_error(data: bytes, head: bytes) -> None:
    assert outcome(head + data, 64)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_header_cut_at_any_byte_ends_in_the_error(seed: bytes) -> None:
    end = parse(seed).header_bytes
    for size in [*range(min(end, 900)), *range(max(end - 200, 0), end)]:
        with pytest.raises(IntegrityError):
            parse(seed[:size], 64)
