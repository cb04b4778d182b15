"""Laws of the catalog's upkeep that hold of every listing, shape and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.bits import band_of, out_of_order
from quantpick.domain.card_words import card_words
from quantpick.domain.catalog_diff import changes, merge_listing
from quantpick.domain.entry import EntryFacts, EntryFile, entry_document
from quantpick.domain.first_facts import blank_facts, with_header
from quantpick.domain.header import Header, LongArray
from quantpick.domain.listing import Listing, QuantSet, RemoteFile
from quantpick.domain.shape import layers_of
from quantpick.domain.tensors import Tensor
from quantpick.sources import catalog
from tests.support.catalogs import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.header import Value

REPO = "a/b-GGUF"
COMMIT = "c3" * 20
LABELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "IQ2_M", "UD-Q4_K_XL")
DIGEST = sha256(b"x")


def listing_of(*files: RemoteFile) -> Listing:
    return Listing(REPO, COMMIT, files)


def file(path: str, size: int = 100, digest: str | None = DIGEST) -> RemoteFile:
    return RemoteFile(path, size, digest)


def known(label: str, *paths: str, **more: Any) -> EntryFile:  # noqa: ANN401 -- any field
    row = EntryFile(label, paths, 100, 0, (DIGEST,) * len(paths), "card", "2025-01-31")
    return row._replace(**more)


def facts(**more: Any) -> EntryFacts:  # noqa: ANN401 -- any field
    return blank_facts(REPO)._replace(sources={"card": "a card", "listing": "the Hub"}, **more)


# A listing


def test_of_two_sets_under_one_label_the_known_one_stays() -> None:
    two = listing_of(file("a/x-Q8_0.gguf"), file("b/x-Q8_0.gguf"))
    row = known("Q8_0", "b/x-Q8_0.gguf")
    assert merge_listing([row], two, "2026-01-01") == ((row,), ())
    ((new,), (note,)) = merge_listing([], two, "2026-01-01")
    assert new.paths == ("a/x-Q8_0.gguf",)
    assert note == "Q8_0 is there 2 times: took a/x-Q8_0.gguf"


def test_mirror_without_digests_takes_none_away() -> None:
    row = known("Q8_0", "x-Q8_0.gguf")
    assert merge_listing([row], listing_of(file("x-Q8_0.gguf", digest=None)), "") == ((row,), ())
    ((changed,), _) = merge_listing([row], listing_of(file("x-Q8_0.gguf", 99, None)), "")
    assert (changed.file_bytes, changed.sha256) == (99, ())


def test_known_raw_parts_stay_and_new_ones_are_left_out() -> None:
    paths = [f"x.Q8_0.gguf.part{n}of2" for n in (1, 2)]
    parts = listing_of(*(file(path, 50) for path in paths))
    row = known("Q8_0", *paths)
    assert merge_listing([row], parts, "") == ((row,), ())
    assert merge_listing([], parts, "").files == ()


SIZES = st.integers(1, 10**12)
ROWS = st.dictionaries(st.sampled_from(LABELS), st.tuples(SIZES, st.booleans()), max_size=8)


def rows_of(found: Mapping[str, tuple[int, bool]]) -> list[EntryFile]:
    return [
        known(label, f"x-{label}.gguf", file_bytes=size, rounded_to=10 if rounded else 0)
        for label, (size, rounded) in found.items()
    ]


@given(ROWS, st.dictionaries(st.sampled_from(LABELS), SIZES, max_size=8))
def test_merging_leaves_what_is_listed_and_merging_again_changes_nothing(
    old: dict[str, tuple[int, bool]], now: dict[str, int]
) -> None:
    listed = listing_of(*(file(f"x-{label}.gguf", size) for label, size in now.items()))
    merged = merge_listing(rows_of(old), listed, "2026-01-01")
    assert {row.label: row.file_bytes for row in merged.files} == now
    assert all(row.rounded_to == 0 and row.sha256 == (DIGEST,) for row in merged.files)
    assert merge_listing(merged.files, listed, "2027-01-01").files == merged.files


@given(ROWS, ROWS)
def test_changes_are_told_where_entries_differ_and_nowhere_else(
    old: dict[str, tuple[int, bool]], new: dict[str, tuple[int, bool]]
) -> None:
    before, after = entry_document(facts(), rows_of(old)), entry_document(facts(), rows_of(new))
    told = {change.what for change in changes(before, after)}
    labels = old.keys() | new.keys()
    assert told == {label for label in labels if old.get(label) != new.get(label)}


# A header


def header(architecture: str, blocks: int, **figures: Value) -> Header:
    keys = {
        "block_count": blocks,
        "embedding_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "feed_forward_length": 512,
        "context_length": 2048,
    }
    metadata: dict[str, Value] = {f"{architecture}.{name}": value for name, value in keys.items()}
    metadata |= {name.replace("__", "."): value for name, value in figures.items()}
    metadata["general.architecture"] = architecture
    metadata["tokenizer.ggml.tokens"] = LongArray("string", 512)
    tensors = (Tensor("token_embd.weight", (256, 512), "Q8_0"),)
    return Header(3, metadata, tensors, 1000, 2000)


QUANT = QuantSet("Q8_0", (file("x-Q8_0.gguf"),))


@pytest.mark.parametrize(("architecture", "period"), [("gemma3", 6), ("gemma2", 2)])
def test_windows_of_a_header_become_their_pattern(architecture: str, period: int) -> None:
    window: dict[str, Value] = {f"{architecture}.attention.sliding_window": 1024}
    read = header(architecture, 26)
    read = read._replace(metadata={**read.metadata, **window})
    found, why = with_header(facts(), listing_of(), QUANT, read)
    assert why is None
    assert found.shape is not None
    assert (found.shape.sliding_window, found.shape.sliding_window_pattern) == (1024, period)
    assert found.shape.layers == ()
    windowed = [layer.windowed for layer in layers_of(found.shape)]
    assert windowed == [index % period < period - 1 for index in range(26)]


def test_matrix_is_known_from_the_header_that_names_it() -> None:
    plain, _ = with_header(facts(), listing_of(), QUANT, header("llama", 2))
    made, _ = with_header(
        facts(), listing_of(), QUANT, header("llama", 2, quantize__imatrix__file="x.dat")
    )
    assert (plain.imatrix, made.imatrix) == (None, True)


# Bits


def test_bits_of_a_label_hold_for_every_kind_of_model() -> None:
    info = catalog.load_reference().quants
    plain = {"architecture": "llama", "embedding_length": 4096, "feed_forward_length": 14336}
    low, high = band_of("Q4_K_M", info["Q4_K_M"], plain)
    assert 4.3 < low < 4.5
    assert high < 8
    # A width that blocks do not divide falls back to larger types.
    assert band_of("Q4_K_M", info["Q4_K_M"], {**plain, "embedding_length": 896})[1] > 8.5
    # Weights that were published in four bits stay so under every label.
    assert band_of("Q8_0", info["Q8_0"], {**plain, "architecture": "gpt-oss"})[0] == 0
    # Other mixes may keep what they like in 16 bits.
    assert band_of("UD-Q8_K_XL", info["Q8_K_XL"], plain)[1] == 16
    assert band_of("UD-IQ1_S", info["IQ1_S"], plain)[1] < band_of("IQ1_S", info["IQ1_S"], plain)[1]


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_order_of_sizes_allows_for_their_rounding(size: int, step: int) -> None:
    rows = [
        {"label": "Q4_K_M", "bytes": size + step, "rounded_to": step},
        {"label": "Q5_K_M", "bytes": size},
    ]
    assert list(out_of_order(rows)) == []
    rows[0]["bytes"] = size + size // 50 + step + 1
    assert list(out_of_order(rows)) == [("Q4_K_M", "Q5_K_M")]


# A card's words


def test_words_that_other_makers_use() -> None:
    assert card_words(["static quants of https://huggingface.co/a/b"]).imatrix is False
    assert card_words(["quants of a/b"]).imatrix is None
    other = ["---", "license: other", "license_name: mrl", "---"]
    assert card_words(other).license == "mrl"
    assert card_words(["---", "license: other", "---"]).license == "other"
    assert card_words(["---", "license: mit"]).license is None
    example = ["## Prompt template: Alpaca", "", "```", "no place for it", "```"]
    assert card_words(example).prompt_format is None
