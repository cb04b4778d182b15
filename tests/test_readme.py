"""What README.md shows is what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.command import Command

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")

#: Commands on a prompt with what they print, but for the one that asks the machine.
EXAMPLES = [
    (words, lines)
    for words, *lines in (
        block.splitlines() for block in re.findall(r"(?ms)^```console\n\$ (.*?)^```", README)
    )
    if words != "quantpick hardware"
]


@pytest.mark.parametrize(("words", "lines"), EXAMPLES)
def test_example_prints_what_is_shown(words: str, lines: list[str], quantpick: Command) -> None:
    _, *arguments = shlex.split(words)
    run = quantpick(*arguments)
    assert run.status == 0
    # Three dots stand for lines left out.
    pattern = "".join(
        r"(.*\n)+" if line.strip() == "..." else re.escape(f"{line}\n") for line in lines
    )
    assert re.fullmatch(pattern, run.stdout), run.stdout


def told_fields(text: str) -> set[str]:
    """Return the fields that a text names, without the examples of their values."""
    return set(re.findall(r"`(\w+)(?:\[\])?`", text))


def row_of(command: str) -> str:
    (row,) = re.findall(rf"(?m)^\| `{command}` \| (.*) \|$", README)
    return str(row)


def test_the_fields_of_a_recommendation_are_those_of_the_readme(quantpick: Command) -> None:
    recommend, explain = row_of("recommend"), row_of("explain")
    answer = quantpick("recommend", "llama-3.2-1b", "--vram", "8GiB", "--json").json
    assert {*answer} == {"schema_version", "command"} | told_fields(recommend)
    explained = quantpick("explain", "llama-3.2-1b:Q8_0", "--vram", "8GiB", "--json").json
    assert {*explained} == {"schema_version", "command"} | told_fields(explain)
    (verdict,) = re.findall(r"(?s)\nA verdict has (.*?)\n\n", README)
    assert {*answer["pick"]} <= told_fields(verdict)


def test_the_fields_of_a_machine_are_those_of_the_readme(quantpick: Command) -> None:
    told = told_fields(row_of("hardware")) - {"why"}
    assert {*quantpick("hardware", "--json").json} == {"schema_version", "command"} | told


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


def test_the_count_of_repos_is_right(quantpick: Command) -> None:
    (told,) = re.findall(r"The catalog has (\d+) repos", README)
    assert quantpick("catalog", "check").stdout.startswith(f"{told} repos ")
