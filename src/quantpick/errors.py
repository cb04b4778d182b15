"""The one error family: what happened, a stable code, what to do next, and the exit status.

Every error a user can cause or meet is one of these; anything else that reaches the command line
is a bug (exit status 1).
"""

from __future__ import annotations

from typing import ClassVar


class QuantpickError(Exception):
    """Base of all expected errors.

    ``message`` says what happened, ``hints`` what to do next; ``code`` is the stable word that
    scripts key on and ``exit_status`` the process's exit status.
    """

    code: ClassVar[str] = "bug"
    exit_status: ClassVar[int] = 1

    #: Set once the error is part of a document that was printed.
    reported: bool = False

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints


class UsageError(QuantpickError):
    """The words on the command line, or a file the user named, cannot be understood."""

    code = "usage"
    exit_status = 2


class NotFoundError(QuantpickError):
    """No such repo, revision, quant or catalog entry."""

    code = "not_found"
    exit_status = 3


class NothingFitsError(QuantpickError):
    """The machine is too small for every quant asked about."""

    code = "nothing_fits"
    exit_status = 4


class HubError(QuantpickError):
    """The Hub cannot be reached, or still refuses after retries."""

    code = "hub_unavailable"
    exit_status = 5


class AccessError(QuantpickError):
    """The repo wants a token, or its licence accepted."""

    code = "access_denied"
    exit_status = 6


class IntegrityError(QuantpickError):
    """Bytes, names or data files are not what they should be."""

    code = "integrity"
    exit_status = 7


class DiskError(QuantpickError):
    """The disk is too small, or refuses to be written."""

    code = "disk"
    exit_status = 8


class LockError(QuantpickError):
    """A lock and what it locks do not agree, or the lock cannot be read."""

    code = "lock"
    exit_status = 9


class StoppedError(QuantpickError):
    """The user stopped the run."""

    code = "interrupted"
    exit_status = 130  # as shells report SIGINT


#: Every exit status with its meaning, for `--help` and the README.
EXIT_STATUSES: dict[int, str] = {
    0: "ok",
    1: "bug in quantpick",
    2: "usage",
    3: "not found (repo, quant, catalog)",
    4: "nothing fits",
    5: "Hub unreachable or refused after retries",
    6: "needs a token or a licence acceptance",
    7: "integrity",
    8: "disk",
    9: "not as locked",
    130: "interrupted",
}
