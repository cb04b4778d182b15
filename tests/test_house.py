"""The house rules: clean tools, small pieces, one door a library, and a start that loads little."""

from __future__ import annotations

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quantpick.errors import EXIT_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.command import Command

ROOT = Path(__file__).parents[1]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
EVERYTHING = [*SOURCE, *sorted((ROOT / "tests").rglob("*.py"))]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMMANDS = ["recommend", "explain", "download", "verify", "lock", "inspect", "list", "hardware"]
COMMANDS += ["catalog"]
TOP_LEVEL = {"LICENSE", "NOTICE", "README.md", "catalog", "pyproject.toml", "src", "tests"}

#: What takes long to load, and that neither help nor a recommendation from flags needs.
SLOW = {
    "huggingface_hub",
    "gguf",
    "numpy",
    "pynvml",
    "rich",
    "pydantic",
    "httpx",
    "requests",
    "urllib3",
    "truststore",
    "hashlib",
    "tempfile",
}
SLOW |= {"psutil"} if sys.platform.startswith("linux") else set()

#: The modules that may import each library.
DOORS = {
    "typer": {
        *("cli/main", "cli/options", "cli/recommend"),
        *("cli/show", "cli/download", "cli/inspect", "cli/lock", "cli/verify", "cli/catalog"),
    },
    "click": {"cli/main"},
    "rich": {"render/console", "render/progress"},
    "psutil": {"probes/ram"},
    "pynvml": {"probes/nvidia"},
    "huggingface_hub": {"hub"},
    "filelock": {"locks"},
    "platformdirs": {"kept"},
    "urllib3": {"web"},
    "truststore": {"web"},
    "tomli_w": {"fetch/lock_file"},
}

_LINT_IMPORTS = "from importlinter.cli import lint_imports_command as c; c(standalone_mode=True)"


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "ruff", "check"],
        ["-m", "ruff", "format", "--check"],
        ["-m", "mypy"],
        ["-c", _LINT_IMPORTS],
    ],
    ids=["ruff check", "ruff format", "mypy", "lint-imports"],
)
def test_the_tools_find_nothing(words: list[str]) -> None:
    command = [sys.executable, *words]
    env = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Size


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def lengths(paths: list[Path]) -> Iterator[tuple[int, str]]:
    """Yield the length of each function in lines, without decorators, and where it is."""
    for path in paths:
        for node in ast.walk(parse(path)):
            if isinstance(node, DEFINITIONS) and node.end_lineno is not None:
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield node.end_lineno - node.lineno + 1, where


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in EVERYTHING}
    assert {path: length for path, length in long.items() if length > 400} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    assert [found for found in lengths(EVERYTHING) if found[0] > 60] == []


def test_functions_of_the_package_are_short() -> None:
    found = sorted(length for length, _ in lengths(SOURCE))
    assert statistics.median(found) <= 10
    assert statistics.quantiles(found, n=10)[-1] <= 30


def test_no_function_changes_a_global() -> None:
    changing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in EVERYTHING
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Global)
    ]
    assert changing == []


def test_the_top_of_the_repo_holds_seven_names() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("only a git checkout tells which files are the project's")
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {name.partition("/")[0] for name in listed.splitlines()}
    assert {top for top in tops if not top.startswith(".")} == TOP_LEVEL


# Libraries


def imported(path: Path) -> set[str]:
    """Return the top names of the third-party packages that a file imports."""
    modules: list[str] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
    tops = {module.partition(".")[0] for module in modules}
    return tops - sys.stdlib_module_names - {"quantpick"}


def test_each_library_enters_by_its_doors_only() -> None:
    found: dict[str, set[str]] = {}
    for path in SOURCE:
        module = path.relative_to(ROOT / "src" / "quantpick").with_suffix("").as_posix()
        for library in imported(path):
            found.setdefault(library, set()).add(module)
    strangers = {library: modules - DOORS.get(library, set()) for library, modules in found.items()}
    assert {library: modules for library, modules in strangers.items() if modules} == {}


@pytest.mark.parametrize(
    ("words", "loaded_at_least"),
    [
        (["--help"], "quantpick.cli.main"),
        (["recommend", "llama-3.1-70b", "--vram", "24GiB", "--json"], "quantpick.domain.recommend"),
    ],
    ids=["help", "recommend"],
)
def test_a_start_loads_nothing_slow(
    words: list[str], loaded_at_least: str, quantpick: Command
) -> None:
    run = quantpick(*words, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert run.status == 0
    assert loaded_at_least in loaded
    assert {name for name in loaded if name.partition(".")[0] in SLOW} == set()


# What is promised in words


def test_the_readme_tells_every_command_and_exit_status() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"quantpick {name}" in readme
    for status, meaning in EXIT_STATUSES.items():
        pattern = rf"(?m)^\W*{status}\b.*{re.escape(meaning)}"
        assert re.search(pattern, readme), f"{status} {meaning}"


def test_the_help_tells_every_command_and_exit_status(quantpick: Command) -> None:
    told = quantpick("--help").stdout
    commands, _, statuses = told.partition("Exit status:")
    assert re.findall(r"(?m)^  (\w+)  +\S", commands.partition("Commands:")[2]) == COMMANDS
    # No command's line is cut, in 80 columns.
    assert "..." not in commands.partition("Commands:")[2]
    pairs = [f"{status} {meaning}" for status, meaning in EXIT_STATUSES.items()]
    assert " ".join(statuses.split()) == ", ".join(pairs)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, quantpick: Command) -> None:
    run = quantpick(command, "--help")
    assert (run.status, run.stderr) == (0, "")
    assert run.stdout.startswith(f"Usage: quantpick {command} ")
    assert "--json" in run.stdout
