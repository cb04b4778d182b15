"""Which model at all: of many models the best quant of each that fits, in one stated order.

Models with a quant of four bits or more come first, then those of three, then the rest; among
them the larger ones. Of several repos of one model the first to fit stands for all.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.cache import estimate_kv_cache
from quantpick.domain.judge import FOUR_BITS
from quantpick.domain.names import near_hint
from quantpick.domain.recommend import FAIR_BITS, first_fit, recommend, rules
from quantpick.domain.verdict import Pool, Reason, ReasonCode, Recommendation
from quantpick.domain.weights import MOST_HEADER
from quantpick.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from quantpick.domain.host import Host
    from quantpick.domain.model import Model, QuantFile, Reference
    from quantpick.domain.need import Need
    from quantpick.domain.verdict import Rule, Verdict
    from quantpick.domain.wish import Wish

#: What the Hub renamed, and its name since: cards name the base of Llama 3.1 both ways.
_RENAMED = ("meta-llama/meta-llama-3.1-", "meta-llama/llama-3.1-")


class Shelf(NamedTuple):
    """Models by their sizes and shapes alone, and how to get all that is known of one."""

    models: tuple[Model, ...]
    load: Callable[[str], Model]


def wanted(models: Sequence[Model], wish: Wish) -> tuple[Model, ...]:
    """Return the models that a wish is about, each with the quants that are small enough.

    Raises NotFoundError for a licence or an architecture that none of them has.
    """
    licences = (model.license for model in models)
    _check_known("licence", wish.license, licences)
    architectures = (model.shape.architecture for model in models if model.shape)
    _check_known("architecture", wish.architecture, architectures)
    kept = (_small_enough(model, wish.max_size) for model in models if _is_meant(model, wish))
    return tuple(model for model in kept if model.files)


def _check_known(kind: str, name: str | None, names: Iterable[str | None]) -> None:
    if name is None:
        return
    known = sorted({known for known in names if known})
    if name.lower() not in map(str.lower, known):
        raise NotFoundError(f"no catalogued model has the {kind} {name!r}", near_hint(name, known))


def shortlist(
    shelf: Shelf, host: Host, need: Need, reference: Reference, wish: Wish
) -> Recommendation:
    """Return the best quant of each of the first models that fit, and the first as the pick.

    What may fit by its size is loaded whole and judged. One rule holds for all: with AUTO, a model
    that fits the GPU whole beats a larger one that would run partly in RAM. Raises NotFoundError
    where the wish is about no model.
    """
    candidates = wanted(shelf.models, wish)
    if not candidates:
        raise NotFoundError(
            "no catalogued model has this licence, architecture and size together",
            "leave out one of --license, --arch and --max-size",
        )
    search = _Search(shelf.load, host, need, reference, wish)
    for rule in rules(need.objective, host):
        picks = search.first(candidates, rule)
        if picks:
            break
    if not picks:
        nearest = search.nearest(candidates)
        shown = (nearest,) if nearest else ()
        return Recommendation(None, host, need, rule, shown, None, nearest, host.warnings)
    # What is picked is judged beside its like.
    whole = _small_enough(shelf.load(picks[0].repo_id), wish.max_size)
    answer = recommend(whole, host, need, reference, (rule,))
    if answer.pick is None:
        raise AssertionError(f"{picks[0].repo_id} fits alone and not beside its like")
    pick = _with_training(answer.pick, whole, need)
    return answer._replace(pick=pick, verdicts=(pick, *picks[1:]))


class _Search(NamedTuple):
    load: Callable[[str], Model]
    host: Host
    need: Need
    reference: Reference
    wish: Wish

    def first(self, models: Sequence[Model], rule: Rule) -> list[Verdict]:
        """Return the picks of the first models with a quant that fits, best first.

        What the sizes promise is only a bound, so a model that was judged takes its true place.
        """
        queue: list[tuple[tuple[int, int, int, str], int, Verdict | None]] = []
        for index, model in enumerate(models):
            bits = [self._bits(file) for file in model.files if self._may_fit(file, model, rule)]
            if bits:
                queue.append((_order(model, max(bits)), index, None))
        heapify(queue)
        found: list[Verdict] = []
        seen: set[str] = set()
        while queue and len(found) < self.wish.top:
            _, index, verdict = heappop(queue)
            name = models[index].repo_id if self.wish.every_repo else _identity(models[index])
            if name in seen:
                continue
            if verdict is not None:
                found.append(verdict)
                seen.add(name)
                continue
            verdict = self._judged(models[index], rule)
            if verdict is not None:
                order = _order(models[index], self._bits(verdict.file))
                heappush(queue, (order, index, verdict))
        return found

    def nearest(self, models: Sequence[Model]) -> Verdict | None:
        """Return the verdict that would need the least, of the model with the smallest quant."""
        if not models:
            return None
        smallest = min(models, key=lambda m: (min(f.file_bytes for f in m.files), m.repo_id))
        whole = _small_enough(self.load(smallest.repo_id), self.wish.max_size)
        return recommend(whole, self.host, self.need, self.reference).nearest

    def _judged(self, model: Model, rule: Rule) -> Verdict | None:
        whole = _small_enough(self.load(model.repo_id), self.wish.max_size)
        files = tuple(file for file in whole.files if self._may_fit(file, whole, rule))
        few = whole._replace(files=files)
        verdict = first_fit(few, self.host, self.need, self.reference, rule)
        return None if verdict is None else _with_training(verdict, whole, self.need)

    def _bits(self, file: QuantFile) -> int:
        info = self.reference.info(file.label)
        return info.bits if info else 0

    def _may_fit(self, file: QuantFile, model: Model, rule: Rule) -> bool:
        """Whether a lower bound of what a quant needs is within the rule's memory."""
        least = file.file_bytes - file.rounded_to - MOST_HEADER
        if model.shape is not None:
            least += estimate_kv_cache(model.shape, self.need)
            if rule.pool is Pool.VRAM:
                # The token embedding stays in RAM, in four bytes a number at most.
                least -= 4 * model.shape.vocab_size * model.shape.embedding_length
        return least <= rule.capacity


def _with_training(verdict: Verdict, model: Model, need: Need) -> Verdict:
    """Return the verdict, marked where its model was trained for less than the context wanted."""
    trained = model.shape.context_length if model.shape else 0
    if not 0 < trained < need.ctx_size:
        return verdict
    reason = Reason(ReasonCode.BEYOND_TRAINING, {"context_length": trained})
    return verdict._replace(reasons=(*verdict.reasons, reason))


def _order(model: Model, bits: int) -> tuple[int, int, int, str]:
    """Return the place in the list: by class, size, number of quants, and name."""
    level = 0 if bits >= FOUR_BITS else 1 if bits >= FAIR_BITS else 2
    return level, -model.parameters, -len(model.files), model.repo_id


def _identity(model: Model) -> str:
    """Return what repos of one model have in common."""
    name = (model.base_model or model.title or model.repo_id).lower()
    return name.replace(*_RENAMED)


def _small_enough(model: Model, max_size: int | None) -> Model:
    if max_size is None:
        return model
    return model._replace(files=tuple(f for f in model.files if f.file_bytes <= max_size))


def _is_meant(model: Model, wish: Wish) -> bool:
    architecture = model.shape.architecture if model.shape else None
    names = " ".join((model.repo_id, model.title or "", *model.aliases)).lower()
    return (
        _is(wish.license, model.license)
        and _is(wish.architecture, architecture)
        and all(word.lower() in names for word in wish.words)
    )


def _is(wanted: str | None, name: str | None) -> bool:
    return wanted is None or (name is not None and name.lower() == wanted.lower())
