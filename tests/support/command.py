"""Runs quantpick as a user does: a process of its own, in a folder and a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: Variables of the surrounding machine that would change an answer.
_OUTSIDE = (
    "HF_",
    "HUGGING",
    "QUANTPICK_",
    "XDG_",
    "CUDA_",
    "NVIDIA_",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


@dataclass(frozen=True)
class Result:
    """What a run printed, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        document = json.loads(self.stdout)
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class Command:
    """Quantpick with its working folder ``cwd`` and extra environment variables."""

    cwd: Path
    env: dict[str, str]

    def __call__(self, *words: str, timeout: float = 120, **env: str) -> Result:
        """Run one command line and return what came of it."""
        done = subprocess.run(
            [sys.executable, "-m", "quantpick", *words],
            cwd=self.cwd,
            env=self.environment(**env),
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def environment(self, **env: str) -> dict[str, str]:
        """Return the whole environment of a run."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith(_OUTSIDE)}
        # A closed port: a test that forgets its hub fails at once and never leaves the machine.
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_XET": "1"}
        return {**outside, **nowhere, **self.env, **env}
