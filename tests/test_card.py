"""Published model cards: what their tables say, and what hostile ones cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.card import MOST_CHARS, Card, CardRow, parse_card
from quantpick.domain.names import unsafe_path
from quantpick.domain.quant import canonical_label, parse_filename
from quantpick.errors import UsageError
from tests.support.cards import BARTOWSKI, BARTOWSKI_REPO, MRADERMACHER, MRADERMACHER_REPO

if TYPE_CHECKING:
    from collections.abc import Iterable

GB = 10**9


def by_label(card: Card) -> dict[str, CardRow]:
    return {row.label: row for row in card.rows}


def reasons(card: Card) -> dict[str, str]:
    return {row.words: row.why for row in card.left_out}


# The forms that are published


def test_card_in_bartowskis_form() -> None:
    card = parse_card(BARTOWSKI, BARTOWSKI_REPO)
    rows = by_label(card)
    assert list(rows) == ["F32", "Q8_0", "Q6_K_L", "Q4_K_M", "IQ4_XS", "Q3_K_S", "Q2_K"]
    assert rows["Q4_K_M"] == CardRow(
        "Q4_K_M", 42_520_000_000, 10**7, ("Tiny-Llama-70B-Q4_K_M.gguf",), recommended=True
    )
    assert rows["Q2_K"].file_bytes == 320_000_000
    assert [rows[label].paths for label in ("F32", "Q8_0")] == [(), ()]
    assert rows["Q6_K_L"].heavy_ends == "Q8_0"
    assert (rows["Q3_K_S"].recommended, rows["IQ4_XS"].recommended) == (False, True)
    assert card.left_out == ()


def test_words_of_bartowskis_card() -> None:
    words = parse_card(BARTOWSKI, BARTOWSKI_REPO).words
    assert (words.license, words.base_model) == ("llama3.1", "someone/Tiny-Llama-70B")
    assert (words.llama_cpp, words.imatrix) == ("b3472", True)
    assert words.prompt_format == "<|sys|>{system_prompt}<|end|>\n<|user|>{prompt}<|end|>\n"


@pytest.mark.parametrize("evil", ["\x1b[31m", "\u202e", "\x07"])
def test_prompt_that_plays_tricks_on_a_terminal_is_none(evil: str) -> None:
    text = f"## Prompt format\n```\n<|user|>{evil}{{prompt}}\n```\n"
    assert parse_card(text, BARTOWSKI_REPO).words.prompt_format is None


def test_card_in_mradermachers_form() -> None:
    card = parse_card(MRADERMACHER, MRADERMACHER_REPO)
    rows = by_label(card)
    assert rows["i1-Q4_K_M"] == CardRow(
        "i1-Q4_K_M", 42_600_000_000, 10**8, ("Tiny.i1-Q4_K_M.gguf",), recommended=True
    )
    assert rows["i1-IQ1_S"].file_bytes == 15_400_000_000
    assert rows["i1-Q5_K_M"].paths == tuple(f"Tiny.i1-Q5_K_M-0000{n}-of-00002.gguf" for n in (1, 2))
    assert reasons(card) == {
        "PART 1 PART 2": "it is cut into raw byte parts",
        "imatrix": "it is no model",
    }
    assert card.words.imatrix is True
    assert card.words.license == "apache-2.0"


def table(*rows: str, head: str = "| Filename | Quant type | File Size | Split |") -> str:
    return "\n".join([head, "|---|:-:|--:|---|", *rows])


def one(row: str, head: str = "| Filename | Quant type | File Size | Split |") -> Card:
    return parse_card(table(row, head=head), "a/b")


@pytest.mark.parametrize(
    ("cell", "size", "step"),
    [
        ("74.98GB", 74_980_000_000, 10**7),
        ("0.32GB", 320_000_000, 10**7),
        ("**4 GB**", 4 * GB, GB),
        ("`4.1` GiB", 4_402_341_478, 107_374_182),
        ("850.5 MB", 850_500_000, 10**5),
        ("<b>1.5&nbsp;TB</b>", 1_500_000_000_000, 10**11),
        ("~7.2gb", 7_200_000_000, 10**8),
    ],
)
def test_size_is_read_with_its_step(cell: str, size: int, step: int) -> None:
    (row,) = one(f"| x-Q8_0.gguf | Q8_0 | {cell} | false |").rows
    assert (row.file_bytes, row.rounded_to) == (size, step)


@pytest.mark.parametrize(
    "cell",
    ["", "large", "12", "-4GB", "4,5GB", "0.00GB", "9" * 30 + "GB", "1e9GB", "4GB GB", "٤GB"],
)
def test_size_that_cannot_be_read_is_left_out(cell: str) -> None:
    card = one(f"| x-Q8_0.gguf | Q8_0 | {cell} | false |")
    assert card.rows == ()
    (left_out,) = card.left_out
    assert "size" in left_out.why


@pytest.mark.parametrize(
    "file",
    [
        "x-Q8_0.gguf",
        "[x-Q8_0.gguf](https://huggingface.co/a/b/blob/main/x-Q8_0.gguf)",
        "[any](https://huggingface.co/a/b/resolve/main/x-Q8_0.gguf?download=true)",
        "**[`x`](<https://hf.co/A/B/resolve/main/x-Q8%5F0.gguf>)**",
        '<a href="https://huggingface.co/a/b/blob/main/x-Q8_0.gguf">here</a>',
        '[x](./x-Q8_0.gguf "a title")',
    ],
)
def test_file_is_found_however_it_is_linked(file: str) -> None:
    (row,) = one(f"| {file} | Q8_0 | 1GB | false |").rows
    assert row.paths == ("x-Q8_0.gguf",)


def test_shards_follow_from_the_name_of_one() -> None:
    (row,) = one("| Q8_0/x-Q8_0-00002-of-00003.gguf | Q8_0 | 99GB | true |").rows
    assert row.paths == tuple(f"Q8_0/x-Q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("| x-Q8_0.gguf | Q6_K | 1GB | |", "the card calls it Q6_K and its name Q8_0"),
        ("| x.gguf | | 1GB | |", "its label is none that is known"),
        ("| mmproj-Q8_0.gguf | Q8_0 | 1GB | |", "it is no model"),
        ("| x-folder | Q8_0 | 1GB | false |", "it names no file"),
        ("| ../../x-Q8_0.gguf | Q8_0 | 1GB | |", "its file name is not safe to write"),
        ("| [x](../x-Q8_0.gguf) | Q8_0 | 1GB | |", "its file name is not safe to write"),
        (
            "| [x](https://huggingface.co/a/b/blob/main/%2e%2e/x-Q8_0.gguf) | Q8_0 | 1GB | |",
            "its file name is not safe to write",
        ),
        (
            "| [x](https://huggingface.co/a/b/blob/main/x%1b[0m-Q8_0.gguf) | Q8_0 | 1GB | |",
            "its file name is not safe to write",
        ),
        (
            "| [x](https://huggingface.co/evil/repo/blob/main/x-Q8_0.gguf) | Q8_0 | 1GB | |",
            "its link leads to evil/repo",
        ),
        ("| [x](https://evil.example/x-Q8_0.gguf) | Q8_0 | 1GB | |", "its link leads elsewhere"),
        ("| [x](javascript:alert(1)) | Q8_0 | 1GB | |", "it names no file"),
        (
            "| [1](x-Q8_0.gguf) [2](y-Q8_0.gguf) | Q8_0 | 1GB | |",
            "it names several files that are no set of shards",
        ),
    ],
)
def test_row_that_cannot_be_used_is_left_out_with_its_reason(row: str, why: str) -> None:
    card = one(row)
    assert card.rows == ()
    assert [left_out.why for left_out in card.left_out] == [why]


def test_label_that_is_there_twice_counts_once() -> None:
    card = parse_card(
        table("| x-Q8_0.gguf | Q8_0 | 1GB | |", "| y-Q8_0.gguf | Q8_0 | 2GB | |"), "a/b"
    )
    assert [row.paths for row in card.rows] == [("x-Q8_0.gguf",)]
    assert reasons(card) == {"y-Q8_0.gguf": "Q8_0 is there twice"}


def test_tables_of_other_things_are_passed_over() -> None:
    text = "| Benchmark | Score |\n|---|---|\n| MMLU | 12GB |\n\n" + table(
        "| x-Q8_0.gguf | Q8_0 | 1GB | |"
    )
    card = parse_card(text, "a/b")
    assert len(card.rows) == 1
    assert card.left_out == ()


# Hostile cards


def test_card_that_is_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="characters"):
        parse_card("|" * (MOST_CHARS + 1), "a/b")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "|[](" * 500_000,
        "<" * 1_000_000,
        "| Link | Size/GB |\n" + "| <a href=" * 100_000,
        "| Link | Size/GB |\n" + ("| [a](b" * 2_000 + "\n") * 200,
        "---\nlicense:" + " " * 1_000_000,
        "---\n" + "- x\n" * 300_000,
        "# Prompt format\n" + "```\n" * 300_000,
        "\n".join(["| Link | Size/GB |"] + [f"| x{n}-Q8_0.gguf | 1 |" for n in range(50_000)]),
    ],
    ids=lambda text: text[:12],
)
def test_long_hostile_card_is_read_to_its_end(text: str) -> None:
    card = parse_card(text, "a/b")
    assert len(card.rows) + len(card.left_out) <= 1000


def test_line_that_is_too_long_is_passed_over() -> None:
    long = f"| x-Q8_0.gguf | Q8_0 | 1GB | {' ' * 20_000} |"
    card = parse_card(table(long, "| x-Q6_K.gguf | Q6_K | 1GB | |"), "a/b")
    assert [row.label for row in card.rows] == ["Q6_K"]


def check(card: Card) -> None:
    """Check what holds of every card: no row is unsafe, unlabelled or without a size."""
    for row in card.rows:
        assert canonical_label(row.label) == row.label
        assert row.file_bytes > 0
        assert row.rounded_to > 0
        assert not any(map(unsafe_path, row.paths))
        assert {parse_filename(path).label for path in row.paths} <= {row.label}
    texts: Iterable[str] = [text for row in card.left_out for text in (row.words, row.why)]
    assert all(text.isprintable() for text in texts)


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    check(parse_card(text, "a/b"))


CELLS = st.one_of(
    st.text(max_size=30).map(lambda text: text.replace("\n", " ")),
    st.sampled_from(
        [
            "x-Q8_0.gguf",
            "../x-Q8_0.gguf",
            "[x](https://huggingface.co/a/b/resolve/main/d/x-IQ2_M.gguf)",
            "[P1](x-Q6_K-00001-of-00002.gguf) [P2](x-Q6_K-00002-of-00002.gguf)",
            "Q8_0",
            "i1-Q4_K_M",
            "1.5GB",
            "7",
            "true",
            "not recommended",
        ]
    ),
)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=12))
def test_any_rows_are_read(rows: list[list[str]]) -> None:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    check(parse_card(table(*lines, head="| Link | Type | Size/GB | Split | Notes |"), "a/b"))
