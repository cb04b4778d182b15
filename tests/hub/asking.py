"""What the tests of the way to the Hub share: a repo, downloads from it, and who asked for what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

REPO, NAME = "someone/gemma-3-270m-GGUF", "g-Q4_K_M.gguf"
SPEC, GOOD = f"{REPO}:Q4_K_M", tiny_gguf(4096)
SHARDS = [f"s/g-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
COMMIT = "c0ffee" * 6 + "abcd"
API, RESOLVE = f"/api/models/{REPO}", f"/{REPO}/resolve/{COMMIT}/{NAME}"
TOKEN = "hf_accepted"


def fill(hub: LoopbackHub) -> None:
    """Put a repo of one single and one split quant on a hub."""
    shards = {path: tiny_gguf(seed=number) for number, path in enumerate(SHARDS)}
    hub.add_repo(REPO, {NAME: GOOD, **shards}, sha=COMMIT)


def at(command: Command, endpoint: str, **env: str) -> Command:
    """Return the command with a Hub of its own, and more variables."""
    return replace(command, env={**command.env, "HF_ENDPOINT": endpoint, **env})


def succeeds(command: Command, *words: str, **env: str) -> None:
    """Download the single quant, or what the words say."""
    command = replace(command, env={**command.env, **env})
    result = command("download", *(words or [SPEC]))
    assert result.status == 0, result.stderr
    assert not words or words[0] != SPEC or (command.cwd / NAME).read_bytes() == GOOD


def fails(command: Command, *words: str, status: int = 5, **env: str) -> str:
    """Download in vain; return the line of the error, and check what is true of them all."""
    command = replace(command, env={**command.env, **env})
    result = command("download", *(words or [SPEC]))
    assert result.status == status, result.stderr
    assert not (command.cwd / NAME).exists()
    assert "Traceback" not in result.stderr
    assert "hint: " in result.stderr
    return next(line for line in result.stderr.splitlines() if line.startswith("error: "))


def asked(hub: LoopbackHub) -> list[str]:
    """Name the kinds of all requests: api, resolve or cdn."""
    kinds = {"api": "api", REPO.partition("/")[0]: "resolve", "lfs": "cdn"}
    return [kinds.get(entry.path.split("/")[1], entry.path) for entry in hub.log]


def tokens(hub: LoopbackHub) -> list[tuple[str, bool]]:
    """Tell of each request whether the token came with it."""
    sent = [entry.authorization == f"Bearer {TOKEN}" for entry in hub.log]
    return list(zip(asked(hub), sent, strict=True))
