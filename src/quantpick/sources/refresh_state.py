"""What an unfinished refresh has found, kept on disk so that the next one goes on from there.

It is kept in blocks of repos, so that neither a run nor a save gets slower as the catalog grows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from quantpick.kept import load_record, store_record

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Raised when what is kept changes.
_FORMAT = 1
_KIND = "refresh"
_BLOCK = 64

#: Seconds for which a finding holds: repos change, so a run is picked up within a day or anew.
_HOLDS = 86_400.0


class RefreshState:
    """The findings of one run over a list of repos; ``run`` is what tells it from others."""

    def __init__(self, run: list[Any], repo_ids: Sequence[str]) -> None:
        self._run, self._repo_ids = [_FORMAT, *run], repo_ids
        self._number = -1
        self._block: dict[str, Any] = {}
        self._read: tuple[int, dict[str, Any]] = (-1, {})

    def kept(self, at: int, entry_digest: str) -> Any:  # noqa: ANN401 -- JSON, for its reader to check
        """Return the finding about the repo at a place, None without one that still holds.

        ``entry_digest`` is that of the repo's entry: a finding about another text is none.
        """
        if at // _BLOCK != self._read[0]:
            self._read = (at // _BLOCK, self._load(at // _BLOCK))
        try:
            since, digest, finding = self._read[1][self._repo_ids[at]]
            holds = digest == entry_digest and 0 <= time.time() - since < _HOLDS
        except (LookupError, TypeError, ValueError):
            return None
        return finding if holds else None

    def keep(self, at: int, entry_digest: str, finding: Any) -> None:  # noqa: ANN401 -- any JSON
        """Note a finding; repos come in their order."""
        if at // _BLOCK != self._number:
            self.save()
            self._number = at // _BLOCK
            self._block = self._load(self._number)
        self._block[self._repo_ids[at]] = [time.time(), entry_digest, finding]

    def save(self) -> None:
        """Put what was noted on disk."""
        if self._number >= 0:
            store_record(_KIND, [*self._run, self._number], self._block)

    def forget(self) -> None:
        """Drop all findings: the run is over."""
        self._number, self._block, self._read = -1, {}, (-1, {})
        for number in range(-(-len(self._repo_ids) // _BLOCK)):
            if load_record(_KIND, [*self._run, number]):
                store_record(_KIND, [*self._run, number], {})

    def _load(self, number: int) -> dict[str, Any]:
        found = load_record(_KIND, [*self._run, number])
        return found if isinstance(found, dict) else {}
