"""What the tests of downloads share: one repo of one small quant, and how a refusal reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command import Command

REPO = "someone/gemma-3-270m-GGUF"
SPEC = f"{REPO}:Q4_K_M"
NAME = "g-Q4_K_M.gguf"
NOTICE = "NOTICE-someone--gemma-3-270m-GGUF.txt"
RECEIPT = "someone--gemma-3-270m-GGUF.quantpick.json"
GOOD = tiny_gguf(4096)
_CODES = {
    2: "usage",
    3: "not_found",
    4: "nothing_fits",
    5: "hub_unavailable",
    6: "access_denied",
    7: "integrity",
    8: "disk",
    9: "lock",
}


def refused(online: Command, *words: str, status: int, said: str, hint: str) -> None:
    """Run a download in text and as JSON; both have to refuse with the same words."""
    refused_in_text(online, *words, status=status, said=said, hint=hint)
    refused_in_json(online, *words, status=status, said=said, hint=hint)


def refused_in_text(online: Command, *words: str, status: int, said: str, hint: str) -> None:
    result = online("download", *words)
    lines = result.stderr.splitlines()
    assert result.status == status, result.stderr
    assert result.stdout == ""
    assert [line for line in lines if line.startswith("error: ") and said in line], lines
    assert [line for line in lines if line.startswith("hint: ") and hint in line], lines
    assert "Traceback" not in result.stderr


def refused_in_json(online: Command, *words: str, status: int, said: str, hint: str) -> None:
    result = online("download", *words, "--json")
    assert result.status == status, result.stderr
    error = result.json["error"]
    assert (error["code"], error["exit_status"]) == (_CODES[status], status)
    assert said in error["message"]
    assert hint in "\n".join(error["hints"])


def succeeds(online: Command, *words: str) -> None:
    result = online("download", SPEC, *words)
    assert result.status == 0, result.stderr
    if "--cache" not in words:
        assert (online.cwd / NAME).read_bytes() == GOOD
        assert tree(online.cwd) == {NAME, NOTICE, RECEIPT}


def tree(folder: Path) -> set[str]:
    """Name everything below a folder, folders too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
