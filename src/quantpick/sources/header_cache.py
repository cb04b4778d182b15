"""Headers of files on the Hub, kept on disk: what a commit holds never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.header_record import header_from_record, header_record
from quantpick.kept import load_record, store_record

if TYPE_CHECKING:
    from quantpick.domain.header import Header
    from quantpick.domain.listing import Listing, QuantSet

#: Raised when what is kept, or how it is read from a file, changes.
_FORMAT = 2


def load(listing: Listing, quant: QuantSet) -> Header | None:
    """Return the kept header of a quant at the listing's commit, None if there is none."""
    try:
        return header_from_record(load_record("headers", _identity(listing, quant)))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def store(listing: Listing, quant: QuantSet, header: Header) -> None:
    """Keep a header: the whole of it, or nothing."""
    store_record("headers", _identity(listing, quant), header_record(header))


def _identity(listing: Listing, quant: QuantSet) -> list[Any]:
    files = [[file.path, file.size] for file in quant.files]
    return [_FORMAT, listing.repo_id, listing.revision, files]
