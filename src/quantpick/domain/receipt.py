"""What was fetched into a folder: where it came from, and the digest of every file.

A receipt lies beside the files, so that they can be proven again without the Hub.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.file_record import file_of, file_record, safe_path, text
from quantpick.domain.names import printable
from quantpick.domain.plan import Target
from quantpick.errors import IntegrityError

if TYPE_CHECKING:
    from quantpick.domain.plan import Plan

#: How the names of receipts end.
SUFFIX = ".quantpick.json"

_FORMAT = 1


class Receipt(NamedTuple):
    """What a receipt says. ``fetched`` is the day and time (UTC), ``by`` the version."""

    repo_id: str
    revision: str
    label: str
    targets: tuple[Target, ...]
    license: str | None = None
    fetched: str = ""
    by: str = ""


def receipt_name(plan: Plan) -> str:
    """Return the name of a quant's receipt, unique to repo and label."""
    label = re.sub(r"[^A-Za-z0-9._-]", "_", plan.label)
    return f"{plan.repo_id.replace('/', '--')}--{label}{SUFFIX}"


def receipt_record(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as the fields of its JSON file."""
    return {
        "format": _FORMAT,
        "repo_id": receipt.repo_id,
        "revision": receipt.revision,
        "label": receipt.label,
        "license": receipt.license,
        "fetched": receipt.fetched,
        "quantpick": receipt.by,
        "files": [
            {"path": target.path, "parts": [file_record(part) for part in target.parts]}
            for target in receipt.targets
        ],
    }


def receipt_of(record: Any, name: str) -> Receipt:  # noqa: ANN401 -- JSON, checked here
    """Return the receipt of a JSON file; ``name`` is for messages. Raises IntegrityError."""
    try:
        known = {_FORMAT: record["files"]}
        targets = tuple(
            Target(safe_path(row["path"]), tuple(file_of(part) for part in row["parts"]))
            for row in known[record["format"]]
        )
        repo_id, revision, label = (text(record[key]) for key in ("repo_id", "revision", "label"))
    except (TypeError, LookupError, ValueError) as error:
        raise IntegrityError(
            f"{name} is no receipt that can be read: {printable(str(error))}",
            "remove it and download the quant again",
        ) from error
    return Receipt(repo_id, revision, label, targets)
