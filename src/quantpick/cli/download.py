"""``quantpick download``: fetch one quant, proven intact."""

from pathlib import Path
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import (
    BackendOption,
    CtxSize,
    For,
    HostFile,
    Json,
    LlamaCpp,
    RamOption,
    Vram,
    read_host,
)
from quantpick.domain.need import DEFAULT_CTX_SIZE, Need, Objective
from quantpick.render.progress import progress_display


def download(
    spec: Annotated[str, typer.Argument(metavar="LABEL|SPEC")],
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched, and fetch nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that differs from the Hub's.")
    ] = False,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Fetch a quant, every shard of it, and check its sha256.

    LABEL is a quant of the default repo; a SPEC is OWNER/REPO:LABEL or ALIAS:LABEL. The label
    auto stands for the recommended quant, which the options after --force then choose.
    """
    result = api.download(
        spec,
        revision=revision,
        local_dir=None if cache else local_dir,
        host=lambda: read_host(vram, ram, backend, host_file, llama_cpp),
        need=Need(objective, ctx_size),
        dry_run=dry_run,
        force=force,
        progress=progress_display(),
    )
    if as_json:
        from quantpick.render.document import download_record, print_document

        print_document("download", download_record(result))
    else:
        from quantpick.render.text import print_download

        print_download(result)
