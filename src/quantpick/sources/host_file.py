"""A machine described by a file: what `quantpick hardware --json` wrote, here or elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from quantpick.domain.host_record import host_from_record
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.host import Host


def load_host(path: Path) -> Host:
    """Read a host file. Raises UsageError for one that cannot be read or understood."""
    hint = "write one with: quantpick hardware --json > host.json"
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the host file {path}: {error.strerror}", hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the host file {path} is not JSON: {error}", hint) from error
    return host_from_record(record, str(path))
