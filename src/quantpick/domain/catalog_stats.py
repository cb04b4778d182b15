"""What the catalog holds, counted: by who made the quants, by architecture, by what is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

from quantpick.domain.quant import family_of

#: What a model without a known shape counts as.
UNKNOWN = "unknown"


class Tally:
    """Counts of one catalog, entry by entry."""

    def __init__(self) -> None:
        self.repos = self.rows = self.shapes = 0
        self.exact = self.sha256 = self.weights = 0
        self.quantizers: Counter[str] = Counter()
        self.architectures: Counter[str] = Counter()
        self.families: Counter[str] = Counter()

    def count(self, entry: dict[str, Any]) -> None:
        """Count an entry that keeps the rules."""
        rows = entry["files"]
        architecture = entry.get("shape", {}).get("architecture")
        self.repos += 1
        self.rows += len(rows)
        self.shapes += architecture is not None
        self.exact += sum("rounded_to" not in row for row in rows)
        self.sha256 += sum("sha256" in row for row in rows)
        self.weights += sum("weights" in row for row in rows)
        self.quantizers[entry["quantizer"]] += 1
        self.architectures[architecture or UNKNOWN] += 1
        self.families.update(str(family_of(row["label"])) for row in rows)

    def shares(self) -> dict[str, tuple[int, int]]:
        """Return what is known, of how many."""
        return {
            "exact sizes": (self.exact, self.rows),
            "known sha256": (self.sha256, self.rows),
            "known weights": (self.weights, self.rows),
            "known shapes": (self.shapes, self.repos),
        }
