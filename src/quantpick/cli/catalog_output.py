"""What the commands of ``quantpick catalog`` print; loaded by the one that runs."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from quantpick.api.curate import accept
from quantpick.domain.catalog_check import Fault
from quantpick.domain.catalog_stats import Tally
from quantpick.domain.names import printable
from quantpick.domain.proposal import Outcome, Proposal, RepoState
from quantpick.errors import HubError, IntegrityError, QuantpickError, StoppedError
from quantpick.render.catalog import (
    Summary,
    fault_line,
    outcome_lines,
    outcome_record,
    proposal_document,
    proposal_lines,
    stats_lines,
    stats_record,
)
from quantpick.render.document import SCHEMA_VERSION, error_record, print_document
from quantpick.render.talk import say

#: Seconds between two lines on stderr about how far a refresh is.
_LINE_EVERY = 10.0


def finish(proposal: Proposal, aliases: list[str], *, write: bool, as_json: bool) -> None:
    """Print a proposal, after writing it if that was asked for."""
    path = accept(proposal, aliases) if write else None
    written = str(path) if path else None
    if as_json:
        print_document("catalog", proposal_document(proposal, written))
        return
    _print_lines(proposal_lines(proposal))
    if written:
        print(f"written: {written}")
    elif proposal.document is not None:
        print("nothing written; to write it: --write")
    if write and aliases:
        print(f"short for it: {', '.join(aliases)}")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))


# Refresh


def print_refresh(found: Iterable[Outcome], total: int, *, write: bool, as_json: bool) -> None:
    """Print repos as they are compared, and the counts; raise the error where some were not."""
    summary = Summary()
    outcomes = _counted(found, summary, total)
    if as_json:
        _print_document(outcomes, summary)
        return
    try:
        for outcome in outcomes:
            _print_lines(outcome_lines(outcome))
            sys.stdout.flush()
    finally:
        # However it ends, what was found and written is told.
        print(summary.line(write=write))
    problem = _problem(summary)
    if problem is not None:
        raise problem


def _counted(found: Iterable[Outcome], summary: Summary, total: int) -> Iterator[Outcome]:
    """Yield what is found, counted, and say on stderr every ten seconds how far it is."""
    said = time.monotonic()
    for outcome in found:
        summary.count(outcome)
        yield outcome
        if time.monotonic() - said >= _LINE_EVERY:
            said = time.monotonic()
            say(f"{summary.asked} of {total} repos")


def _print_document(outcomes: Iterator[Outcome], summary: Summary) -> None:
    """Print the document piece by piece, so that a long one is never in memory as a whole."""
    start = {"schema_version": SCHEMA_VERSION, "command": "catalog"}
    print(f'{json.dumps(start)[:-1]}, "repos": [', end="")
    error = _print_records(outcomes) or _problem(summary)
    end: dict[str, Any] = {"counts": summary.record()}
    if error is not None:
        end["error"] = error_record(error)
    print(f"], {json.dumps(end)[1:]}")
    if error is not None:
        raise error


def _print_records(outcomes: Iterator[Outcome]) -> QuantpickError | None:
    """Print repos that there is something to say about; return the error that it ended with."""
    comma = ""
    try:
        for outcome in outcomes:
            if outcome.changes or outcome.notes:
                print(f"{comma}{json.dumps(outcome_record(outcome))}", end="")
                comma = ", "
    except KeyboardInterrupt:
        return StoppedError("interrupted")
    except QuantpickError as error:
        return error
    return None


def _problem(summary: Summary) -> QuantpickError | None:
    failed = summary.repos[RepoState.FAILED]
    if not failed:
        return None
    return HubError(
        f"{failed} of {summary.asked} repos could not be compared",
        "run the same command again: it asks for these alone",
    )


# Check


def _faults_error(count: int) -> QuantpickError:
    return IntegrityError(
        f"the catalog has {count} fault{'s' if count > 1 else ''}",
        "correct the rows; of a stale index: quantpick catalog check --write-index",
    )


def print_check(faults: list[Fault], tally: Tally, *, stats: bool, as_json: bool) -> None:
    """Print faults and counts; raise IntegrityError where there is a fault."""
    problem = _faults_error(len(faults)) if faults else None
    if as_json:
        document: dict[str, Any] = {"faults": [fault._asdict() for fault in faults]}
        if stats:
            document["stats"] = stats_record(tally)
        if problem is not None:
            document["error"] = error_record(problem)
        print_document("catalog", document)
    else:
        _print_lines(map(fault_line, faults))
        _print_lines(stats_lines(tally) if stats else ())
        if problem is None:
            print(f"{tally.repos} repos with {tally.rows} quants: no fault")
    if problem is not None:
        raise problem
