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


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


def test_the_count_of_repos_is_right(quantpick: Command) -> None:
    (told,) = re.findall(r"The catalog has (\d+) repos", README)
    assert quantpick("catalog", "check").stdout.startswith(f"{told} repos ")
