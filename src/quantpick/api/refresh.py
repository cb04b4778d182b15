"""The use case that keeps the catalog true: its repos compared with the Hub, one by one."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick import hub
from quantpick.api.curate import known_entry, listed_draft
from quantpick.domain.catalog_diff import Change, ChangeKind
from quantpick.domain.first_facts import with_listing
from quantpick.domain.names import near_hint
from quantpick.domain.policy import Policy
from quantpick.domain.proposal import Outcome, RepoState, propose
from quantpick.errors import (
    AccessError,
    HubError,
    IntegrityError,
    NotFoundError,
    QuantpickError,
)
from quantpick.sources import catalog
from quantpick.sources.catalog_edit import entry_digest, index_is_stale, write_entry, write_index
from quantpick.sources.refresh_state import RefreshState
from quantpick.sources.rows import catalog_dir
from quantpick.sources.sweep import sweep
from quantpick.web import WebError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from quantpick.domain.listing import Listing
    from quantpick.domain.model import Reference
    from quantpick.web import Web

#: The answer of a server that limits requests.
_LIMITED = 429

#: Repos in a row that the Hub gives no answer for, after which it is not asked on.
_TIRED = 8


class _Task(NamedTuple):
    """A repo to compare, at its place in the list; ``kept`` is what an earlier run found."""

    at: int
    repo_id: str
    kept: Outcome | None


def catalogued(repos: Sequence[str]) -> tuple[str, ...]:
    """Return the catalogued repos that are meant, all without a name. Raises NotFoundError."""
    if not repos:
        return catalog.repo_ids()
    found = {repo: catalog.find_repo_id(repo) for repo in repos}
    for repo, repo_id in found.items():
        if repo_id is None:
            raise NotFoundError(
                f"the catalog has no {repo}",
                near_hint(repo, catalog.repo_ids(), "to see its models: quantpick list"),
                "to add a repo: quantpick catalog add OWNER/REPO --write",
            )
    return tuple(dict.fromkeys(repo_id for repo_id in found.values() if repo_id))


def refresh(
    repo_ids: Sequence[str], *, write: bool = False, policy: Policy | None = None
) -> Generator[Outcome, None, None]:
    """Compare catalogued repos with the Hub, and with ``write`` put what is new into the catalog.

    Yields each in its order as soon as it is known. What a run found before it was stopped is
    kept, and told by the next one without asking again. Raises HubError where the Hub gives no
    answer any more, AccessError where it refuses all.
    """
    policy = policy or Policy()
    # Fails at once where the Hub must not be asked, or the token cannot be sent.
    web = hub.connect(policy)
    run = [hub.endpoint(), str(catalog_dir().absolute()), write, _name_of(repo_ids)]
    state = RefreshState(run, repo_ids)
    reference, written, failed, silent = catalog.load_reference(), False, False, 0
    ask = partial(_asked, policy=policy, web=web)
    answers = sweep(_tasks(repo_ids, state), ask, policy.connections)
    try:
        for task, answer in answers:
            found = task.kept or _compared(task, answer, reference, write=write)
            written = written or (write and found.state is RepoState.CHANGED)
            if found.state is RepoState.FAILED:
                failed = True
            elif task.kept is None:
                # What is kept already keeps its age.
                state.keep(task.at, entry_digest(task.repo_id), _record(found))
            yield found
            silent = silent + 1 if _says_nothing(answer) else 0
            if isinstance(answer, QuantpickError) and (silent >= _TIRED or _limits(answer)):
                raise answer
        if not failed:
            state.forget()
            # A run that was killed may have left an index of before.
            written = written or (write and index_is_stale())
    finally:
        answers.close()
        web.close()
        state.save()
        if written:
            write_index()


def _name_of(repo_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(repo_ids).encode()).hexdigest()


def _tasks(repo_ids: Sequence[str], state: RefreshState) -> Iterator[_Task]:
    for at, repo_id in enumerate(repo_ids):
        kept = state.kept(at, entry_digest(repo_id))
        yield _Task(at, repo_id, _from_record(repo_id, kept))


def _asked(task: _Task, policy: Policy, web: Web) -> Listing | None:
    return None if task.kept else hub.list_repo(task.repo_id, None, policy, web)


def _compared(
    task: _Task, answer: Listing | QuantpickError | None, reference: Reference, *, write: bool
) -> Outcome:
    if isinstance(answer, (NotFoundError, AccessError)) and not _says_nothing(answer):
        return Outcome(task.repo_id, RepoState.GONE, (), (answer.message,))
    if answer is None or isinstance(answer, QuantpickError):
        return Outcome(task.repo_id, RepoState.FAILED, (), (answer.message if answer else "",))
    try:
        known = known_entry(task.repo_id)
        if known is None:
            return Outcome(task.repo_id, RepoState.FAILED, (), ("its entry is gone",))
        draft, notes = listed_draft(known, with_listing(known.draft.facts, answer), answer)
        proposal = propose(task.repo_id, known, draft, reference, notes)
    except IntegrityError as error:
        return Outcome(task.repo_id, RepoState.FAILED, (), (error.message,))
    if proposal.document is None:
        return Outcome(task.repo_id, RepoState.SAME, (), proposal.notes)
    if write:
        write_entry(task.repo_id, proposal.document)
    return Outcome(task.repo_id, RepoState.CHANGED, proposal.changes, proposal.notes)


def _says_nothing(answer: object) -> bool:
    """Whether an answer tells nothing of its repo: none came, or one that a wrong token gets."""
    if isinstance(answer, AccessError):
        return isinstance(answer.__cause__, WebError) and not answer.__cause__.code
    return isinstance(answer, HubError)


def _limits(error: QuantpickError) -> bool:
    """Whether the Hub wants to be asked less, by an error that retries did not better."""
    cause = error.__cause__
    return isinstance(cause, WebError) and cause.status == _LIMITED


def _record(found: Outcome) -> list[Any]:
    return [found.state, [list(change) for change in found.changes], list(found.notes)]


def _from_record(repo_id: str, record: Any) -> Outcome | None:  # noqa: ANN401 -- JSON from the cache
    try:
        state, rows, notes = record
        found = tuple(
            Change(ChangeKind(kind), str(what), was, now) for kind, what, was, now in rows
        )
        return Outcome(repo_id, RepoState(state), found, tuple(map(str, notes)))
    except (TypeError, ValueError):
        return None
