"""Whatever an outside source prints, every parser of the probes answers and none raises."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantpick.probes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(quantpick.probes.__file__).parent

#: A megabyte of what makes a careless pattern slow, and of nothing at all.
LARGE = ["(" * 2**20, " (1 MiB" * 2**17, "\n" * 2**20, "a: " * 2**19, "[" * 2**20, "9" * 2**20]


def parsers() -> Iterator[Callable[..., Any]]:
    """Yield the ``parse_`` functions of all probes."""
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.endswith("_child"):
            continue
        module = import_module(f"quantpick.probes.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("parse_") and function.__module__ == module.__name__:
                yield function


ALL = list(parsers())
SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.binary()

#: What sources hand over, by the words of the annotation.
INPUTS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "object": SCALARS,
    "frozenset[str]": st.frozensets(st.text()),
    "Sequence[str]": st.lists(st.text()),
    "Mapping[str, int]": st.dictionaries(st.text(), st.integers()),
    "Mapping[str, object]": st.dictionaries(st.text(), SCALARS),
}
TEXTUAL = [parser for parser in ALL if next(iter(parser.__annotations__.values())) == "str"]


def named(parser: Callable[..., Any]) -> str:
    """Return a parser's name with its module."""
    return f"{parser.__module__}.{parser.__name__}"


def inputs(parser: Callable[..., Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Return what each parameter of a parser may be."""
    hints = {name: kind for name, kind in parser.__annotations__.items() if name != "return"}
    return {name: INPUTS[kind] for name, kind in hints.items()}


def test_every_source_that_is_text_has_one() -> None:
    modules = {parser.__module__.rpartition(".")[2] for parser in ALL}
    assert {"engine_output", "nvidia_smi", "ram", "cgroup", "drm", "kfd", "apple"} <= modules
    assert {"vulkan_listing", "windows"} <= modules


@pytest.mark.parametrize("parser", ALL, ids=named)
@given(data=st.data())
def test_nothing_a_source_prints_stops_a_parser(
    parser: Callable[..., Any], data: st.DataObject
) -> None:
    parser(**data.draw(st.fixed_dictionaries(inputs(parser))))


@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:8])
@pytest.mark.parametrize("parser", TEXTUAL, ids=named)
@given(data=st.data())
@settings(max_examples=1)
def test_a_megabyte_stops_no_parser(
    parser: Callable[..., Any], text: str, data: st.DataObject
) -> None:
    first, *others = inputs(parser).items()
    parser(**{first[0]: text}, **data.draw(st.fixed_dictionaries(dict(others))))
