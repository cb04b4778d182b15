"""Whether the types inside a quant run on a backend, at the llama.cpp build that will load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.quant import Family
from quantpick.domain.verdict import Reason, ReasonCode

if TYPE_CHECKING:
    from quantpick.domain.host import Backend
    from quantpick.domain.model import QuantFile, QuantInfo, Reference


def blocking_reason(
    file: QuantFile,
    info: QuantInfo | None,
    backend: Backend | None,
    build: int | None,
    reference: Reference,
) -> Reason | None:
    """Return why this quant cannot be loaded or does not run here, None if nothing is known.

    An unknown build counts as a current one, except that ``doubtful_since`` then says so.
    """
    if file.family is Family.FORK:
        return Reason(ReasonCode.FORK_ONLY, {"label": file.label})
    if info is None:
        return Reason(ReasonCode.UNKNOWN_LABEL, {"label": file.label})
    if info.removed_in is not None and (build is None or build >= info.removed_in):
        return Reason(ReasonCode.TYPE_REMOVED, {"removed_in": info.removed_in})
    since = _runs_since(info, backend, reference)
    if build is not None and backend is not None and since > build:
        return Reason(
            ReasonCode.BACKEND_TOO_OLD, {"backend": backend, "since": since, "build": build}
        )
    return None


def doubtful_since(
    info: QuantInfo, backend: Backend | None, build: int | None, reference: Reference
) -> int | None:
    """Return the build this quant needs on this backend when the user's build is not known."""
    since = _runs_since(info, backend, reference)
    return since if build is None and since > 0 else None


def _runs_since(info: QuantInfo, backend: Backend | None, reference: Reference) -> int:
    return max(
        (
            row.since
            for row in reference.support
            if row.backend == backend and row.tensor_type in info.tensor_types
        ),
        default=0,
    )
