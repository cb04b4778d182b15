"""``quantpick download``: fetch one quant, proven intact."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from quantpick import api
from quantpick.cli.flags import with_flags
from quantpick.cli.options import (
    Connections,
    CtxSize,
    For,
    Json,
    LockFile,
    ProgressOption,
    Quiet,
    Retries,
    WithMmproj,
    read_host,
    read_policy,
)
from quantpick.domain.host import Host
from quantpick.domain.lock import LOCK_NAME
from quantpick.domain.need import DEFAULT_CTX_SIZE, Need, Objective
from quantpick.domain.plan import Download
from quantpick.domain.progress import ProgressKind
from quantpick.errors import UsageError
from quantpick.render.files import print_paths
from quantpick.render.progress import progress_display

Bring = Callable[..., tuple[Download, ...]]

LocalDir = Annotated[Path, typer.Option("--local-dir", metavar="DIR", help="Folder to write to.")]
Cache = Annotated[
    bool, typer.Option("--cache", help="Write to the Hub cache, which llama.cpp reads too.")
]
Revision = Annotated[
    str | None, typer.Option("--revision", metavar="REV", help="Branch, tag or commit.")
]
Locked = Annotated[
    bool, typer.Option("--locked", help="Fetch exactly what the lock says, or fail.")
]
Frozen = Annotated[
    bool, typer.Option("--frozen", help="Like --locked, and never touch the network.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be fetched, and fetch nothing.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that differs from the Hub's.")]
Xet = Annotated[
    bool, typer.Option("--xet", help="Try Xet first, and HTTP where it stalls or fails.")
]


@with_flags(host=read_host)
def download(
    spec: Annotated[str | None, typer.Argument(metavar="[LABEL|SPEC]")] = None,
    *,
    local_dir: LocalDir = Path(),
    cache: Cache = False,
    revision: Revision = None,
    with_mmproj: WithMmproj = None,
    locked: Locked = False,
    frozen: Frozen = False,
    lock_file: LockFile = Path(LOCK_NAME),
    dry_run: DryRun = False,
    force: Force = False,
    xet: Xet = False,
    connections: Connections = 8,
    retries: Retries = 4,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
    host: Callable[[], Host],
    quiet: Quiet = False,
    progress: ProgressOption = ProgressKind.AUTO,
    as_json: Json = False,
) -> None:
    """Fetch a quant, every shard of it, and check its sha256.

    LABEL is a quant of the default repo; a SPEC is OWNER/REPO:LABEL, ALIAS:LABEL, or
    OWNER/REPO:PATH.gguf. The label auto stands for the recommended quant, which the options from
    --for to --host then choose. A run that ended early goes on where it was.
    """
    if cache and local_dir != Path():
        raise UsageError("--cache and --local-dir name two places to write to", "leave one out")
    if locked or frozen:
        _check_locked(given=bool(revision or with_mmproj or dry_run))
        bring: Bring = partial(api.download_locked, lock_file, spec, frozen=frozen)
    else:
        bring = partial(
            _download_one,
            spec,
            revision=revision,
            host=host,
            need=Need(objective, ctx_size),
            with_mmproj=with_mmproj,
            dry_run=dry_run,
        )
    results = bring(
        local_dir=None if cache else local_dir,
        force=force,
        xet=xet,
        policy=read_policy(connections, retries),
        progress=progress_display(progress, quiet=quiet),
    )
    _print(results, lock_file if locked or frozen else None, as_json=as_json, quiet=quiet)


def _download_one(spec: str | None, **about: Any) -> tuple[Download]:  # noqa: ANN401 -- as api has them
    if spec is None:
        raise UsageError("no quant is named", "write OWNER/REPO:LABEL, or use --locked")
    return (api.download(spec, **about),)


def _check_locked(*, given: bool) -> None:
    if given:
        raise UsageError(
            "the lock says what is fetched, so --revision, --with-mmproj and --dry-run do not go "
            "with it",
            "lock another one: quantpick lock SPEC@REVISION --with-mmproj",
        )


def _print(
    results: tuple[Download, ...], lock_file: Path | None, *, as_json: bool, quiet: bool
) -> None:
    if as_json:
        from quantpick.render.document import print_document
        from quantpick.render.file_documents import download_record, locked_record

        record = locked_record(lock_file, results) if lock_file else download_record(results[0])
        print_document("download", record)
    elif quiet:
        print_paths(results)
    else:
        from quantpick.render.text import print_download

        for result in results:
            print_download(result)
