"""Headers of files on the Hub, kept on disk: what a commit holds never changes.

An entry that cannot be read counts as none, and a disk that cannot be written is no error: the
header is then read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from quantpick.domain.header_record import header_from_record, header_record

if TYPE_CHECKING:
    from quantpick.domain.header import Header
    from quantpick.domain.listing import Listing, QuantSet

#: Environment variable that names another folder for what quantpick keeps.
CACHE_VARIABLE = "QUANTPICK_CACHE"

#: Raised when what is kept, or how it is read from a file, changes.
_FORMAT = 1


def load(listing: Listing, quant: QuantSet) -> Header | None:
    """Return the kept header of a quant at the listing's commit, None if there is none."""
    try:
        record: Any = json.loads(_entry(listing, quant).read_text("utf-8"))
        if record["of"] != _identity(listing, quant):
            return None
        return header_from_record(record["header"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def store(listing: Listing, quant: QuantSet, header: Header) -> None:
    """Keep a header: the whole entry under its name, or nothing."""
    entry = _entry(listing, quant)
    record = {"of": _identity(listing, quant), "header": header_record(header)}
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=entry.parent, encoding="utf-8", delete=False) as stream:
            written = Path(stream.name)
            try:
                json.dump(record, stream, separators=(",", ":"))
                stream.close()
                written.replace(entry)
            except BaseException:
                stream.close()
                written.unlink(missing_ok=True)
                raise


def _entry(listing: Listing, quant: QuantSet) -> Path:
    # Names from the Hub are no names for the disk.
    digest = hashlib.sha256(json.dumps(_identity(listing, quant)).encode()).hexdigest()
    return _folder() / "headers" / f"{digest[:40]}.json"


def _identity(listing: Listing, quant: QuantSet) -> list[Any]:
    files = [[file.path, file.size] for file in quant.files]
    return [_FORMAT, listing.repo_id, listing.revision, files]


def _folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("quantpick", appauthor=False)
