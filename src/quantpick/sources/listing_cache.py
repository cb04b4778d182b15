"""Listings by commit, kept on disk: a commit's files never change, so the Hub is asked once.

The endpoint is part of what a listing is known by: another server may hold other files under the
same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.listing import Listing, RemoteFile
from quantpick.domain.names import is_sha1, near_names
from quantpick.errors import NotFoundError
from quantpick.kept import load_record, store_record
from quantpick.sources import catalog

if TYPE_CHECKING:
    from quantpick.domain.policy import Policy

_FORMAT = 1

#: From how like a name is, out of 1, it may be misspelled.
_MISSPELLED = 0.85


def load_listing(repo_id: str, revision: str | None, policy: Policy) -> Listing:
    """Return a repo's files at a revision: kept ones for a whole commit hash, else from the Hub.

    Raises the errors of hub.list_repo; of a repo that is not there with the catalogued ones that
    are spelled like it.
    """
    from quantpick import hub

    if revision is not None and is_sha1(revision):
        kept = _load(hub.endpoint(), repo_id, revision)
        if kept is not None:
            return kept
    try:
        listing = hub.list_repo(repo_id, revision, policy)
    except NotFoundError as error:
        near = [] if revision else near_names(repo_id, catalog.repo_ids(), _MISSPELLED)
        if near:
            error.hints = (f"did you mean {', '.join(near)}?", *error.hints)
        raise
    identity = [_FORMAT, hub.endpoint(), repo_id, listing.revision]
    store_record("listings", identity, [listing.files, listing.license, listing.base_model])
    return listing


def _load(endpoint: str, repo_id: str, commit: str) -> Listing | None:
    record: Any = load_record("listings", [_FORMAT, endpoint, repo_id, commit])
    try:
        rows, licence, base_model = record
        files = tuple(RemoteFile(*row) for row in rows)
    except (TypeError, ValueError):
        return None
    return Listing(repo_id, commit, files, licence, base_model)
