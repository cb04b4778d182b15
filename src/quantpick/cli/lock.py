"""``quantpick lock``: write down what is fetched, and see whether the Hub has moved since."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.flags import with_flags
from quantpick.cli.options import (
    CtxSize,
    For,
    Json,
    Retries,
    WithMmproj,
    read_host,
    read_policy,
)
from quantpick.domain.host import Host
from quantpick.domain.lock import LOCK_NAME, Drift, Lock
from quantpick.domain.need import DEFAULT_CTX_SIZE, Need, Objective
from quantpick.errors import LockError, UsageError
from quantpick.render.progress import progress_display


@with_flags(host=read_host)
def lock(
    specs: Annotated[list[str] | None, typer.Argument(metavar="[SPEC]...")] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The lock to write or read.")
    ] = Path(LOCK_NAME),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the Hub has moved on.")
    ] = False,
    key: Annotated[
        bool, typer.Option("--key", help="Write nothing; print a key for a cache of the files.")
    ] = False,
    with_mmproj: WithMmproj = None,
    retries: Retries = 4,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
    host: Callable[[], Host],
    as_json: Json = False,
) -> None:
    """Write commit, files and sha256 of quants to a lock file.

    SPEC is OWNER/REPO:LABEL, ALIAS:LABEL or OWNER/REPO:PATH.gguf, with @REVISION behind the repo
    for another branch. Without one the quants of the lock are locked anew. The label auto stands
    for the recommended quant, which the options from --for to --host then choose. What is locked
    is fetched by download --locked.
    """
    if (check or key) and (specs or with_mmproj):
        raise UsageError("--check and --key look at the lock alone", "leave out the SPEC")
    policy = read_policy(1, retries)
    if key:
        _print_key(output, as_json=as_json)
    elif check:
        drifts = api.check_lock(output, policy=policy, progress=progress_display())
        _print_drifts(output, drifts, as_json=as_json)
    else:
        written = api.lock(
            specs or [],
            output,
            with_mmproj=with_mmproj,
            host=host,
            need=Need(objective, ctx_size),
            policy=policy,
            progress=progress_display(),
        )
        _print_lock(output, written, as_json=as_json)


def _print_key(path: Path, *, as_json: bool) -> None:
    key = api.lock_key(path)
    if as_json:
        from quantpick.render.document import print_document

        print_document("lock", {"lock": str(path), "key": key})
    else:
        print(key)


def _print_lock(path: Path, written: Lock, *, as_json: bool) -> None:
    if as_json:
        from quantpick.render.document import print_document
        from quantpick.render.file_documents import lock_document

        print_document("lock", lock_document(path, written))
    else:
        from quantpick.render.files import print_lock

        print_lock(path, written)


def _print_drifts(path: Path, drifts: tuple[Drift, ...], *, as_json: bool) -> None:
    moved = sum(drift.moved for drift in drifts)
    error = LockError(
        f"{moved} of {len(drifts)} locked quants have moved on the Hub",
        f"to take what is there now: quantpick lock -o {path}",
    )
    if as_json:
        from quantpick.render.document import error_record, print_document
        from quantpick.render.file_documents import drift_document

        document = drift_document(path, drifts)
        if moved:
            document["error"] = error_record(error)
        print_document("lock", document)
    else:
        from quantpick.render.files import print_drifts

        print_drifts(drifts)
    if moved:
        raise error
