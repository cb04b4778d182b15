"""What quantpick keeps between runs: small JSON records in a cache folder, each whole or absent.

A record that cannot be read counts as none, and a disk that cannot be written is no error: what it
held is then found out again.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

#: Environment variable that names another folder for what quantpick keeps.
CACHE_VARIABLE = "QUANTPICK_CACHE"


def load_record(kind: str, identity: list[Any]) -> Any:  # noqa: ANN401 -- JSON, for its reader to check
    """Return the record of a thing, None where there is none."""
    try:
        kept: Any = json.loads(_entry(kind, identity).read_text("utf-8"))
        return kept["record"] if kept["of"] == identity else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def store_record(kind: str, identity: list[Any], record: Any) -> None:  # noqa: ANN401 -- any JSON
    """Keep the record of a thing: the whole of it under its name, or nothing."""
    entry = _entry(kind, identity)
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=entry.parent, encoding="utf-8", delete=False) as stream:
            written = Path(stream.name)
            try:
                json.dump({"of": identity, "record": record}, stream, separators=(",", ":"))
                stream.close()
                written.replace(entry)
            except BaseException:
                stream.close()
                written.unlink(missing_ok=True)
                raise


def _entry(kind: str, identity: list[Any]) -> Path:
    # Names from outside are no names for the disk.
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return _folder() / kind / f"{digest[:40]}.json"


def _folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("quantpick", appauthor=False)
