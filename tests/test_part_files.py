"""Which bytes are there: spans, how large a request and a wait may be, and files under way."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from quantpick.domain.policy import (
    LARGEST_RANGE,
    SMALLEST_RANGE,
    asked_wait,
    range_length,
    waits_of,
)
from quantpick.domain.spans import add_span, covered, front, gaps
from quantpick.fetch.part import PartFile, adopt, bytes_there, discard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from quantpick.domain.spans import Span, Spans

#: Small enough to hold each byte of a file on its own, large enough for several spans.
SIZE = 60
BYTES = st.integers(0, SIZE)
SPANS = st.lists(st.tuples(BYTES, BYTES), max_size=12)
#: What a file holds in the end; every byte tells its place.
WHOLE = bytes(range(1, SIZE + 1))


def spans_of(pieces: Iterable[Span]) -> Spans:
    spans: Spans = ()
    for start, stop in pieces:
        spans = add_span(spans, start, stop)
    return spans


def bytes_of(pieces: Iterable[Span]) -> set[int]:
    """Name every byte of some pieces: what the spans have to tell of."""
    return {at for start, stop in pieces for at in range(start, stop)}


# Spans


@given(SPANS)
def test_spans_hold_exactly_the_bytes_that_were_added(pieces: list[Span]) -> None:
    spans, there = spans_of(pieces), bytes_of(pieces)
    assert bytes_of(spans) == there
    assert covered(spans) == len(there)


@given(SPANS)
def test_spans_are_in_order_and_never_touch(pieces: list[Span]) -> None:
    edges = [edge for span in spans_of(pieces) for edge in span]
    assert all(low < high for low, high in pairwise(edges))


@given(SPANS, st.randoms(use_true_random=False))
def test_order_of_the_pieces_does_not_matter(pieces: list[Span], chance: object) -> None:
    shuffled = list(pieces)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert spans_of(shuffled) == spans_of(pieces)


@given(SPANS, BYTES, BYTES)
def test_gaps_and_spans_make_up_the_whole_and_share_nothing(
    pieces: list[Span], start: int, stop: int
) -> None:
    missing = list(gaps(spans_of(pieces), start, stop))
    assert bytes_of(missing) == set(range(start, stop)) - bytes_of(pieces)
    assert all(low < high for low, high in missing)
    assert missing == sorted(missing)


@given(SPANS, BYTES)
def test_front_is_the_first_byte_from_there_on_that_is_missing(pieces: list[Span], at: int) -> None:
    there = bytes_of(pieces)
    expected = next(place for place in range(at, SIZE + 2) if place not in there)
    assert front(spans_of(pieces), at) == expected


# Sizes of requests, and waits


@given(st.integers(0, 10**13), st.integers(1, 64))
def test_a_request_is_neither_tiny_nor_huge_and_leaves_work_for_the_others(
    missing: int, connections: int
) -> None:
    length = range_length(missing, connections)
    assert SMALLEST_RANGE <= length <= LARGEST_RANGE
    assert length == SMALLEST_RANGE or length * 2 * connections <= missing


@given(st.integers(0, 10**13), st.integers(0, 10**9), st.integers(1, 64))
def test_more_to_fetch_never_makes_requests_smaller(
    missing: int, more: int, connections: int
) -> None:
    assert range_length(missing, connections) <= range_length(missing + more, connections)


@given(st.integers(0, 20))
def test_there_is_one_wait_a_retry_and_none_is_longer_than_eight_seconds(retries: int) -> None:
    waits = waits_of(retries)
    assert len(waits) == retries
    assert list(waits) == sorted(waits)
    assert waits[:5] == (1.0, 2.0, 4.0, 8.0, 8.0)[:retries]
    assert set(waits[3:]) <= {8.0}


@pytest.mark.parametrize(
    ("retry_after", "rate_limit", "wait"),
    [
        ("7", "", 7.0),
        (" 7 ", "", 7.0),
        ("0", "", 0.0),
        ("7", '"api";r=0;t=55', 7.0),
        ("", '"api";r=0;t=55', 55.0),
        ("", '"api"; r=0; t=55', 55.0),
        ("", '"api";t=55;r=0', 55.0),
        ("", '"api";r=3;t=55', None),
        ("", '"api";r=0', None),
        ("", "", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "", None),
        ("-5", '"api";r=0;t=-5', None),
        ("1.5", "", None),
        ("\u0663", '"api";r=0;t=\u0663', None),
    ],
)
def test_a_wait_is_what_the_server_asks_for(
    retry_after: str, rate_limit: str, wait: float | None
) -> None:
    assert asked_wait(retry_after, rate_limit) == wait


@given(st.text(max_size=30), st.text("apir=t0123456789;\"' ", max_size=30))
def test_any_header_is_read_without_error_and_asks_for_no_negative_wait(
    retry_after: str, rate_limit: str
) -> None:
    wait = asked_wait(retry_after, rate_limit)
    assert wait is None or wait >= 0


# Files under way


class PartFileLife(RuleBasedStateMachine):
    """One file that is written piece by piece, and whose writer ends or is killed at any time."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        discard(self.folder / "x.part")
        self.part = PartFile(self.folder / "x.part", SIZE)
        self.there: set[int] = set()
        self.noted: set[int] = set()

    @rule(start=BYTES, length=BYTES)
    def write(self, start: int, length: int) -> None:
        """Write some of the file's bytes, over others or not."""
        data = WHOLE[start : start + length]
        self.part.write(start, data)
        self.there |= set(range(start, start + len(data)))

    @rule()
    def save(self) -> None:
        """Note what is there."""
        self.part.save()
        self.noted = set(self.there)

    @rule()
    def reopen(self) -> None:
        """End the run in good order, and begin another."""
        self.part.close()
        self.part = PartFile(self.folder / "x.part", SIZE)
        self.noted = set(self.there)

    @rule()
    def kill(self) -> None:
        """Go on with what a kill leaves: the disk as it is, without the note of the last bytes."""
        kept = [(path, path.read_bytes()) for path in self.folder.iterdir()]
        self.part.close()
        for path in self.folder.iterdir():
            path.unlink()
        for path, data in kept:
            path.write_bytes(data)
        self.part = PartFile(self.folder / "x.part", SIZE)
        self.there = set(self.noted)

    @rule(cut=st.integers(0, 200))
    def damage_the_note(self, cut: int) -> None:
        """Cut the note short, as a disk may: it then tells of nothing."""
        self.part.close()
        note = self.folder / "x.part.json"
        text = note.read_bytes() if note.exists() else b""
        note.write_bytes(text[: min(cut, max(len(text) - 1, 0))])
        self.part = PartFile(self.folder / "x.part", SIZE)
        self.there, self.noted = set(), set()

    @invariant()
    def what_it_says_is_there_is_there(self) -> None:
        """Hold what it says against each byte of the disk."""
        assert bytes_of(self.part.done) == self.there
        buffer = bytearray(SIZE)
        assert self.part.read_into(0, memoryview(buffer)) == SIZE
        assert all(buffer[at] == WHOLE[at] for at in self.there)

    @invariant()
    def a_later_run_hears_of_what_was_noted(self) -> None:
        """Ask as the check of the disk's room does, before the file is opened."""
        assert bytes_there(self.folder / "x.part", SIZE) == len(self.noted)

    def teardown(self) -> None:
        """Let the file go."""
        self.part.close()


def test_what_a_part_file_says_is_there_is_there_with_the_right_bytes(tmp_path: Path) -> None:
    class Life(PartFileLife):
        folder = tmp_path

    run_state_machine_as_test(Life, settings=settings(max_examples=60, stateful_step_count=20))


def half_written(folder: Path) -> Path:
    """Leave a part file of which the first ten bytes are noted."""
    path = folder / "x.part"
    with PartFile(path, SIZE) as part:
        part.write(0, WHOLE[:10])
    assert bytes_there(path, SIZE) == 10
    return path


def opened(path: Path, size: int = SIZE) -> Spans:
    with PartFile(path, size) as part:
        return part.done


NOTE = {"format": 1, "size": SIZE, "done": [[0, 10]]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        json.dumps({**NOTE, "format": 2}),
        json.dumps({**NOTE, "size": SIZE + 1}),
        json.dumps({**NOTE, "done": [[0, SIZE + 1]]}),
        json.dumps({**NOTE, "done": [[-1, 10]]}),
        json.dumps({**NOTE, "done": [[10, 0]]}),
        json.dumps({**NOTE, "done": [[0, 10], [12]]}),
        json.dumps({**NOTE, "done": [0, 10]}),
        json.dumps({**NOTE, "done": None}),
        json.dumps({**NOTE, "done": [[0, None]]}),
        json.dumps({**NOTE, "done": [["a", "b"]]}),
        json.dumps({**NOTE, "done": [[0, float("nan")]]}),
        json.dumps({**NOTE, "done": [[0, float("inf")]]}),
        json.dumps({**NOTE, "done": [[0, 10**30]]}),
        json.dumps({"size": SIZE, "done": [[0, 10]]}),
    ],
    ids=lambda text: text[:60],
)
def test_a_note_that_makes_no_sense_counts_as_none(tmp_path: Path, text: str) -> None:
    path = half_written(tmp_path)
    (tmp_path / "x.part.json").write_text(text)
    assert bytes_there(path, SIZE) == 0
    assert opened(path) == ()


@given(st.binary(max_size=80))
@example(b"\xff\xfe")
@example(b"\x00" * 64)
def test_any_bytes_for_a_note_are_read_without_error(
    tmp_path_factory: pytest.TempPathFactory, note: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.part"
    path.write_bytes(bytes(SIZE))
    path.with_name("any.part.json").write_bytes(note)
    assert opened(path) == ()
    assert not path.exists()


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, 0])
def test_a_note_of_a_file_of_another_size_counts_as_none(tmp_path: Path, size: int) -> None:
    path = half_written(tmp_path)
    assert bytes_there(path, size) == 0
    assert opened(path, size) == ()


def test_a_note_whose_file_was_cut_or_is_gone_counts_as_none(tmp_path: Path) -> None:
    path = half_written(tmp_path)
    path.write_bytes(WHOLE[:5])
    assert bytes_there(path, SIZE) == 0
    path.unlink()
    assert opened(path) == ()


def test_a_file_of_which_nothing_came_leaves_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "deep" / "x.part")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_whole_file_gets_its_name_and_leaves_no_note(tmp_path: Path) -> None:
    path = half_written(tmp_path)
    part = PartFile(path, SIZE)
    part.write(10, WHOLE[10:])
    assert part.done == ((0, SIZE),)
    part.finish(tmp_path / "there" / "x.gguf")
    assert (tmp_path / "there" / "x.gguf").read_bytes() == WHOLE
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


def test_a_file_fetched_in_another_way_is_a_whole_part_file(tmp_path: Path) -> None:
    (tmp_path / "came").write_bytes(WHOLE)
    adopt(tmp_path / "came", tmp_path / "x.part")
    assert bytes_there(tmp_path / "x.part", SIZE) == SIZE
    assert opened(tmp_path / "x.part") == ((0, SIZE),)
    assert not (tmp_path / "came").exists()


def test_a_discarded_file_takes_its_note_along(tmp_path: Path) -> None:
    discard(half_written(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_at_once_lose_no_byte(tmp_path: Path) -> None:
    with PartFile(tmp_path / "x.part", 64 * SIZE) as part:

        def write(number: int) -> None:
            for at in range(number, 64, 4):
                part.write(at * SIZE, WHOLE)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert part.done == ((0, 64 * SIZE),)
    assert (tmp_path / "x.part").read_bytes() == WHOLE * 64


def test_a_note_is_whole_even_when_the_disk_takes_no_other(tmp_path: Path) -> None:
    path = half_written(tmp_path)
    (tmp_path / "x.part.json.new").mkdir()
    with PartFile(path, SIZE) as part:
        part.write(20, WHOLE[20:30])
        with pytest.raises(OSError, match=r"x\.part\.json\.new"):
            part.save()
    assert bytes_there(path, SIZE) == 10
