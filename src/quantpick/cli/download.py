"""``quantpick download``: fetch one quant, proven intact."""

from pathlib import Path
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import (
    BackendOption,
    Connections,
    CtxSize,
    For,
    HostFile,
    Json,
    LlamaCpp,
    LockFile,
    ProgressOption,
    Quiet,
    RamOption,
    Retries,
    Vram,
    WithMmproj,
    read_host,
    read_policy,
)
from quantpick.domain.lock import LOCK_NAME
from quantpick.domain.need import DEFAULT_CTX_SIZE, Need, Objective
from quantpick.domain.plan import Download
from quantpick.domain.progress import ProgressKind
from quantpick.errors import UsageError
from quantpick.render.files import print_paths
from quantpick.render.progress import progress_display


def download(
    spec: Annotated[str | None, typer.Argument(metavar="LABEL|SPEC")] = None,
    *,
    local_dir: Annotated[
        Path, typer.Option("--local-dir", metavar="DIR", help="Folder to write to.")
    ] = Path(),
    cache: Annotated[
        bool, typer.Option("--cache", help="Write to the Hub cache, which llama.cpp reads too.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Branch, tag or commit.")
    ] = None,
    with_mmproj: WithMmproj = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Fetch exactly what the lock says, or fail.")
    ] = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Like --locked, and never touch the network.")
    ] = False,
    lock_file: LockFile = Path(LOCK_NAME),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched, and fetch nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that differs from the Hub's.")
    ] = False,
    xet: Annotated[
        bool, typer.Option("--xet", help="Try Xet first, and HTTP where it stalls or fails.")
    ] = False,
    connections: Connections = 8,
    retries: Retries = 4,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    quiet: Quiet = False,
    progress: ProgressOption = ProgressKind.AUTO,
    as_json: Json = False,
) -> None:
    """Fetch a quant, every shard of it, and check its sha256.

    LABEL is a quant of the default repo; a SPEC is OWNER/REPO:LABEL, ALIAS:LABEL, or
    OWNER/REPO:PATH.gguf. The label auto stands for the recommended quant, which the options from
    --for to --llama-cpp then choose. A run that ended early goes on where it was.
    """
    place = None if cache else local_dir
    policy, display = read_policy(connections, retries), progress_display(progress, quiet=quiet)
    if locked or frozen:
        if revision or with_mmproj or dry_run or xet:
            raise UsageError(
                "--locked fetches what the lock says, so --revision, --with-mmproj, --dry-run and "
                "--xet do not go with it",
                "give them to quantpick lock",
            )
        results = api.download_locked(
            lock_file,
            spec,
            local_dir=place,
            force=force,
            frozen=frozen,
            policy=policy,
            progress=display,
        )
        _print_all(lock_file, results, as_json=as_json, quiet=quiet)
        return
    if spec is None:
        raise UsageError("no quant is named", "write OWNER/REPO:LABEL, or use --locked")
    result = api.download(
        spec,
        revision=revision,
        local_dir=place,
        host=lambda: read_host(vram, ram, backend, host_file, llama_cpp),
        need=Need(objective, ctx_size),
        with_mmproj=with_mmproj,
        dry_run=dry_run,
        force=force,
        xet=xet,
        policy=policy,
        progress=display,
    )
    _print(result, as_json=as_json, quiet=quiet)


def _print(result: Download, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        from quantpick.render.document import print_document
        from quantpick.render.file_documents import download_record

        print_document("download", download_record(result))
    elif quiet:
        print_paths([result])
    else:
        from quantpick.render.text import print_download

        print_download(result)


def _print_all(
    lock_file: Path, results: tuple[Download, ...], *, as_json: bool, quiet: bool
) -> None:
    if as_json:
        from quantpick.render.document import print_document
        from quantpick.render.file_documents import locked_record

        print_document("download", locked_record(lock_file, results))
    elif quiet:
        print_paths(results)
    else:
        from quantpick.render.text import print_download

        for result in results:
            print_download(result)
