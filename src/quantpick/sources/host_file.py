"""A machine described by a file: what `quantpick hardware --json` wrote, here or elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from quantpick.domain.host_record import host_from_record
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.host import Host

#: Characters that a host file has at most; what quantpick writes has some thousands.
_MOST = 1_000_000


def load_host(path: Path) -> Host:
    """Read a host file. Raises UsageError for one that cannot be read or understood."""
    hint = "write one with: quantpick hardware --json > host.json"
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
        if len(text) > _MOST:
            raise UsageError(f"the host file {path} is too long to describe a machine", hint)
        record = json.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the host file {path}: {error.strerror}", hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the host file {path} is not JSON: {error}", hint) from error
    return host_from_record(record, str(path))
