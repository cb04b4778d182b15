"""How a Plan is fetched: where to, how hard to try, and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.policy import Policy
from quantpick.domain.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.progress import Progress


class Way(NamedTuple):
    """``local_dir`` is the folder to write to, None for the Hub cache.

    ``force`` replaces a file that differs, ``frozen`` forbids the network and ``xet`` has Xet tried
    first.
    """

    local_dir: Path | None
    policy: Policy = Policy()
    progress: Progress = Silent()
    force: bool = False
    frozen: bool = False
    xet: bool = False
