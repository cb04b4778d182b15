"""The Xet storage of the Hub on loopback: a folder that hf_xet itself fills and reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEED = """
import hf_xet, json, sys
with hf_xet.XetSession().new_upload_commit(endpoint=sys.argv[1]) as commit:
    uploads = [commit.start_upload_file(path) for path in sys.argv[2:]]
print(json.dumps([upload.result().xet_info.hash for upload in uploads]))
"""


def seed(folder: Path, files: Mapping[str, bytes | Path]) -> dict[str, str]:
    """Put files into the storage in this folder, and return the Xet hash of each.

    It runs in a process of its own: hf_xet starts threads, and writes logs to the user's home.
    """
    if not files:
        return {}
    with TemporaryDirectory() as scratch:
        paths = [_on_disk(source, Path(scratch, str(n))) for n, source in enumerate(files.values())]
        command = [sys.executable, "-c", _SEED, cas_url(folder), *paths]
        env = {**os.environ, "HF_HOME": scratch}
        done = subprocess.run(command, env=env, capture_output=True, check=True)
    return dict(zip(files, json.loads(done.stdout), strict=True))


def cas_url(folder: Path) -> str:
    """Return the address by which Xet clients on this machine reach the storage."""
    return f"local://{folder}"


def _on_disk(source: bytes | Path, place: Path) -> str:
    if not isinstance(source, bytes):
        return str(source)
    place.write_bytes(source)
    return str(place)
