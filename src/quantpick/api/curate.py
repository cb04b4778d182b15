"""The use cases that make entries of the catalog: from the Hub, or from a published card.

Each says what would change; writing is a step of its own. A SPEC is OWNER/REPO, ``@REVISION`` after
it, or an alias.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quantpick.domain.card import MOST_CHARS, parse_card
from quantpick.domain.catalog_diff import entry_files, merge_listing
from quantpick.domain.first_facts import (
    blank_facts,
    merge_card,
    with_card,
    with_header,
    with_listing,
    with_shape_of,
)
from quantpick.domain.listing import no_quants
from quantpick.domain.policy import Policy
from quantpick.domain.proposal import Draft, Known, Proposal, propose
from quantpick.domain.spec import is_repo_id, parse_spec
from quantpick.errors import (
    NotFoundError,
    UsageError,
)
from quantpick.sources import catalog
from quantpick.sources.catalog_edit import (
    entry_facts,
    index_is_stale,
    is_alias,
    read_entry,
    write_aliases,
    write_entry,
    write_index,
)
from quantpick.sources.header import read_remote
from quantpick.sources.listing_cache import load_listing
from quantpick.sources.repo import readable_quant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quantpick.domain.entry import EntryFacts
    from quantpick.domain.listing import Listing


def propose_repo(spec: str, *, policy: Policy | None = None) -> Proposal:
    """Return the entry of a repo as the Hub lists it, its shape from a header. Writes nothing."""
    parsed = parse_spec(spec)
    if parsed.label is not None or parsed.path is not None or parsed.file is not None:
        raise UsageError(f"{spec} names more than a repo", "write OWNER/REPO or OWNER/REPO@REV")
    name = parsed.repo or ""
    repo_id = name if "/" in name else catalog.resolve_alias(name)
    listing = load_listing(repo_id, parsed.revision, policy or Policy())
    quant = readable_quant(listing)
    if quant is None:
        raise no_quants(repo_id)
    known = known_entry(repo_id)
    facts, why = with_header(_facts(repo_id, known), listing, quant, read_remote(listing, quant))
    notes = () if why is None else (f"the shape is not known: {why}",)
    draft, further = listed_draft(known, with_listing(facts, listing), listing)
    return propose(repo_id, known, draft, catalog.load_reference(), (*notes, *further))


def propose_card(card: Path, repo_id: str) -> Proposal:
    """Return the entry of a repo with what its published card says. Writes nothing.

    Sizes that are known better stay. A shape is taken from an entry with the same base model.
    """
    if not is_repo_id(repo_id):
        raise UsageError(f"{repo_id!r} is not the name of a repo", "write --repo OWNER/REPO")
    found = parse_card(_card_text(card), repo_id)
    if not found.rows and not found.left_out:
        raise NotFoundError(
            f"{card} has no table of quants", "give the README.md of the repo as it is published"
        )
    known = known_entry(repo_id)
    facts = with_card(_facts(repo_id, known), found)
    if facts.shape is None and facts.base_model is not None:
        facts = _with_kin(facts, facts.base_model, repo_id)
    files, notes = merge_card(known.draft.files if known else (), found.rows, _today())
    left_out = (f"{row.words}: left out, {row.why}" for row in found.left_out)
    draft = Draft(facts, files)
    return propose(repo_id, known, draft, catalog.load_reference(), (*notes, *left_out))


def accept(proposal: Proposal, aliases: Sequence[str] = ()) -> Path | None:
    """Write what was proposed, and the index with it; return the file. Raises DiskError."""
    _check_aliases(proposal, aliases)
    path = None
    if proposal.document is not None:
        path = write_entry(proposal.repo_id, proposal.document)
    if aliases:
        write_aliases(proposal.repo_id, list(aliases))
    # An index is stale too where a run ended between the entry and it.
    if path is not None or aliases or index_is_stale():
        write_index()
    return path


def known_entry(repo_id: str) -> Known | None:
    """Return the entry of a repo as it is, None without one. Raises IntegrityError."""
    document = read_entry(repo_id)
    if document is None:
        return None
    facts = entry_facts(repo_id, document)
    return Known(document, Draft(facts, entry_files(document)))


def listed_draft(
    known: Known | None, facts: EntryFacts, listing: Listing
) -> tuple[Draft, tuple[str, ...]]:
    """Return the draft of an entry with a listing's files, and what could not be settled."""
    merged = merge_listing(known.draft.files if known else (), listing, _today())
    return Draft(facts, merged.files), merged.notes


def _facts(repo_id: str, known: Known | None) -> EntryFacts:
    return known.draft.facts if known else blank_facts(repo_id)


def _card_text(card: Path) -> str:
    try:
        with card.open("rb") as stream:
            # A character takes four bytes at most; what is longer is refused as too long.
            raw = stream.read(4 * MOST_CHARS + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {card}: {error.strerror or error}", "give the README.md of the repo"
        ) from error
    return raw.decode("utf-8", "replace")


def _with_kin(facts: EntryFacts, base_model: str, repo_id: str) -> EntryFacts:
    """Return facts with the shape of another entry that was made from the same base model."""
    for other in catalog.repo_ids():
        if other != repo_id:
            model = catalog.load_model(other)
            if model.base_model == base_model and model.shape is not None:
                kin = facts._replace(shape=model.shape)
                return with_shape_of(facts, kin, other)
    return facts


def _check_aliases(proposal: Proposal, aliases: Sequence[str]) -> None:
    repo_id, taken = proposal.repo_id, catalog.load_aliases().repo_ids
    if aliases and proposal.document is None and catalog.find_repo_id(repo_id) is None:
        raise NotFoundError(
            f"there is nothing of {repo_id} to catalogue, so nothing to give a short name",
            "leave --alias out to see what was left out, and why",
        )
    for alias in aliases:
        if not is_alias(alias):
            raise UsageError(f"{alias!r} cannot be an alias", "write it as in llama-3.1-8b")
        if taken.get(alias, repo_id) != repo_id:
            raise UsageError(f"{alias} is an alias of {taken[alias]}", "choose another")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
