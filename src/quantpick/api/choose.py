"""The use cases, one short function each: what the command line does, and Python code can.

A SPEC names a repo (``OWNER/REPO`` or a catalog alias, ``@REVISION`` after it) and a quant
(``:LABEL``); a label alone means the default repo. Errors are QuantpickError and its kinds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantpick.api.machine import probe
from quantpick.domain import recommend as deciding
from quantpick.domain.names import near_hint
from quantpick.domain.need import Need, check_need
from quantpick.domain.policy import Policy
from quantpick.domain.quant import matching_labels
from quantpick.domain.spec import AUTO, parse_spec
from quantpick.domain.units import format_gb
from quantpick.domain.wish import Wish
from quantpick.errors import NotFoundError, NothingFitsError, QuantpickError, UsageError
from quantpick.sources import catalog
from quantpick.sources.index import load_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from quantpick.domain.host import Host
    from quantpick.domain.inspection import Inspection
    from quantpick.domain.listing import Listing
    from quantpick.domain.model import Model, Reference
    from quantpick.domain.quality import Measurement, Quality
    from quantpick.domain.spec import Spec
    from quantpick.domain.verdict import Reason, Recommendation, Verdict

#: Environment variable that names the repo meant when a label stands alone.
REPO_VARIABLE = "QUANTPICK_REPO"


class Explanation(NamedTuple):
    """One quant's verdict, the recommendation it was judged in, and what would make it fit.

    ``change`` is the cheapest change for a quant whose context does not fit, else None.
    ``quality`` is what the quant loses, None where nobody can tell; ``published`` is all that was
    measured of its label, on whatever model.
    """

    verdict: Verdict
    recommendation: Recommendation
    change: Reason | None = None
    quality: Quality | None = None
    published: tuple[Measurement, ...] = ()


def recommend(
    spec: str | None = None,
    *,
    host: Host | None = None,
    need: Need | None = None,
    wish: Wish | None = None,
) -> Recommendation:
    """Weigh every quant of a repo, or without a SPEC the best quant of each catalogued model.

    ``wish`` says which models, and how many to show. Raises UsageError for a need that llama.cpp
    refuses for any model, NotFoundError for a wish that no model is like.
    """
    need = check_need(need or Need())
    host = host or probe()
    if spec is None:
        from quantpick.domain.shortlist import Shelf, shortlist

        shelf = Shelf(load_index(), catalog.load_model)
        answer = shortlist(shelf, host, need, reference(), wish or Wish())
        return answer._replace(model=_with_aliases(answer.model) if answer.model else None)
    return deciding.recommend(load(spec), host, need, reference())


def explain(spec: str, *, host: Host | None = None, need: Need | None = None) -> Explanation:
    """Return why one quant does or does not fit. Raises NotFoundError with near labels.

    A path needs no label where it is of one quant.
    """
    need = check_need(need or Need())
    parsed = parse_spec(spec)
    if parsed.label is None and parsed.path is None:
        raise UsageError(f"{spec} names no quant", f"write {spec}:LABEL, for example {spec}:Q4_K_M")
    model = _load(parsed)
    if parsed.label is None and len(model.files) > 1:
        raise UsageError(f"{spec} holds {len(model.files)} quants", f"write {spec}:LABEL")
    wanted = parsed.label or model.files[0].label
    answer = deciding.recommend(model, host or probe(), need, reference())
    if wanted.lower() == AUTO:
        return _explained(_picked(answer), answer)
    label = wanted if parsed.label is None else _one_label(wanted, model)
    verdict = next(verdict for verdict in answer.verdicts if verdict.file.label == label)
    return _explained(verdict, answer, deciding.change_for(verdict, answer, reference()))


def _explained(
    verdict: Verdict, answer: Recommendation, change: Reason | None = None
) -> Explanation:
    from quantpick.domain.quality import measurements_of, quality_of
    from quantpick.sources.quality import load_quality

    table = load_quality()
    label = _told_by(verdict.file.label, answer.model)
    published = measurements_of(label, table)
    return Explanation(verdict, answer, change, quality_of(label, table), published)


def qualities(model: Model) -> Callable[[str], Quality | None]:
    """Return a function that tells what a quant of a model loses, by what was measured."""
    from quantpick.domain.quality import quality_of
    from quantpick.sources.quality import load_quality

    table = load_quality()
    return lambda label: quality_of(_told_by(label, model), table)


def _told_by(label: str, model: Model | None) -> str:
    """Return the label that tells what a quant loses."""
    from quantpick.domain.compatibility import main_label

    return main_label(label, model.shape if model else None)


def load(spec: str, *, strict: bool = True) -> Model:
    """Return the model of a SPEC: from disk, the catalog, or live from the Hub.

    The shape of a live repo that the catalog does not have is read from a header. Where that cannot
    be read it is an error, or without ``strict`` the shape is unknown. Raises UsageError for a SPEC
    that names a quant as well.
    """
    parsed = parse_spec(spec)
    if parsed.label is not None:
        raise UsageError(
            f"{spec} names one quant of a repo, where the repo is asked for",
            f"leave out the label, or run: quantpick explain {spec}",
        )
    return _load(parsed, strict=strict)


def reference() -> Reference:
    """Return the reference tables on quants and backends."""
    return catalog.load_reference()


def list_models(wish: Wish | None = None, *, host: Host | None = None) -> tuple[Model, ...]:
    """Return the catalogued models that a wish is about, the largest first.

    With a ``host`` those of which a quant fits it. Paths and digests are not among what is told.
    Raises NotFoundError for words, a licence or an architecture that no model has.
    """
    from quantpick.domain.shortlist import Shelf, shortlist, wanted

    wish = wish or Wish()
    models = wanted(load_index(), wish)
    if wish.words and not models:
        raise catalog.no_such_model(" ".join(wish.words))
    if host is None or not models:
        return models
    every = wish._replace(top=len(models), every_repo=True)
    answer = shortlist(Shelf(models, catalog.load_model), host, Need(), reference(), every)
    fitting = {verdict.repo_id for verdict in answer.verdicts if verdict.fits}
    return tuple(model for model in models if model.repo_id in fitting)


def is_spec(word: str) -> bool:
    """Whether a word names a repo, a catalogued model or a path, and is not only part of a name."""
    parsed = parse_spec(word)
    if parsed.path is not None or parsed.label is not None or "/" in word:
        return True
    return catalog.find_repo_id(word) is not None


def inspect(spec: str) -> Inspection:
    """Return the header of a file, of the split set it is of, or of a quant on the Hub.

    ``spec`` is a path to a file, or a SPEC with a label. Of a file on the Hub only the header is
    read, and kept for the next time.
    """
    from quantpick.domain.inspection import Inspection, inspect_listed

    parsed = parse_spec(spec)
    if parsed.path is not None:
        from quantpick.gguf_header import read_file

        return Inspection(spec, read_file(Path(parsed.path).expanduser()))
    from quantpick.domain.listing import find_quant
    from quantpick.sources.header import read_remote
    from quantpick.sources.listing_cache import load_listing

    if parsed.label is None:
        raise UsageError(f"{spec} names no quant", f"write {spec}:LABEL, or a file: ./NAME.gguf")
    listing = load_listing(repo_id_of(parsed), parsed.revision, Policy())
    quant = find_quant(listing, parsed.label)
    return inspect_listed(listing, quant, read_remote(listing, quant))


def _load(spec: Spec, *, strict: bool = True) -> Model:
    if spec.path is not None:
        from quantpick.sources.local import load_path

        return load_path(spec.path)
    repo_id = repo_id_of(spec)
    if spec.revision is None and catalog.find_repo_id(repo_id):
        return _with_aliases(catalog.load_model(repo_id))
    from quantpick.sources.listing_cache import load_listing

    return _live_model(load_listing(repo_id, spec.revision, Policy()), strict=strict)


def _with_aliases(model: Model) -> Model:
    return model._replace(aliases=catalog.load_aliases().of(model.repo_id))


def _live_model(listing: Listing, *, strict: bool = True) -> Model:
    from quantpick.domain.listing import no_quants
    from quantpick.sources.repo import model_of, readable_quant

    known = catalog.find_repo_id(listing.repo_id)
    quant = readable_quant(listing)
    if quant is None:
        raise no_quants(listing.repo_id)
    if known:
        return model_of(listing, catalog.load_model(known))
    from quantpick.sources.header import read_remote

    try:
        return model_of(listing, None, (quant, read_remote(listing, quant)))
    except QuantpickError:
        if strict:
            raise
        return model_of(listing, None)


def pick_listed(listing: Listing, host: Host, need: Need) -> Recommendation:
    """Return the recommendation among a repo's listed quants. Raises NothingFitsError."""
    answer = deciding.recommend(_live_model(listing), host, need, reference())
    if answer.pick is None:
        raise nothing_fits(answer)
    return answer


def _one_label(wanted: str, model: Model) -> str:
    """Return the model's label that a user's word stands for. Raises NotFoundError."""
    found = matching_labels(wanted, model.labels())
    if not found:
        near = near_hint(wanted, model.labels())
        raise NotFoundError(f"{model.repo_id} has no quant {wanted}", near)
    if len(found) > 1:
        hint = f"ask for one of {', '.join(found)}"
        raise NotFoundError(f"{wanted} matches {len(found)} quants of {model.repo_id}", hint)
    return found[0]


def _picked(answer: Recommendation) -> Verdict:
    if answer.pick is not None:
        return answer.pick
    raise nothing_fits(answer)


def nothing_fits(answer: Recommendation) -> NothingFitsError:
    """Return the error for a recommendation without a pick; names the nearest choice."""
    where = answer.model.repo_id if answer.model else "the catalog"
    if answer.nearest is None:
        return NothingFitsError(
            f"no quant of {where} can run here", "see the reasons: quantpick recommend REPO"
        )
    from quantpick.domain.advice import advice, kept_free

    needs, capacity = answer.nearest.memory.total, answer.rule.capacity
    nearest = f"{answer.nearest.file.label} of {answer.nearest.repo_id}"
    there_are = f"there are {format_gb(capacity)}{kept_free(answer.rule)}"
    hints = [f"nearest: {nearest} needs {format_gb(needs)}, {there_are}"]
    change = deciding.change_for(answer.nearest, answer, reference())
    if change is not None:
        hints.append(advice(change))
    if answer.model is None:
        hints.append("ask for less context with --ctx-size")
    else:
        hints.append("run quantpick recommend without a repo for a model that fits")
    return NothingFitsError(f"no quant of {where} fits this machine", *hints)


def repo_id_of(spec: Spec) -> str:
    """Return the repo_id of a SPEC: its own, its alias's, or the default."""
    repo = spec.repo or _default_repo()
    return repo if "/" in repo else catalog.resolve_alias(repo)


def _default_repo() -> str:
    return os.environ.get(REPO_VARIABLE) or catalog.load_aliases().default
