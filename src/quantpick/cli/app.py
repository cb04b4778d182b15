"""The commands. Each parses its words, calls api once and hands the answer to render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantpick import __version__, api
from quantpick.cli.options import (
    DEFAULT_CTX,
    BackendOption,
    CtxSize,
    FamilyOption,
    For,
    HostFile,
    Json,
    LlamaCpp,
    RamOption,
    TypeK,
    TypeV,
    Vram,
)
from quantpick.domain.need import CacheType, FamilyChoice, Need, Objective
from quantpick.domain.units import parse_build, parse_size
from quantpick.errors import EXIT_STATUSES, UsageError
from quantpick.render import document
from quantpick.render.talk import print_warnings

if TYPE_CHECKING:
    from quantpick.domain.host import Backend, Host

_EPILOG = "Exit status: " + ", ".join(f"{status} {text}" for status, text in EXIT_STATUSES.items())

app = typer.Typer(
    help="Pick the GGUF quant that fits your machine, and fetch it, proven intact.",
    epilog=_EPILOG,
    add_completion=False,
    # Plain help: the rich one takes longer to load than to read.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(value: bool) -> None:  # noqa: FBT001 -- typer's callback
    if value:
        print(f"quantpick {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hold the options of the program itself."""


@app.command()
def recommend(  # noqa: PLR0913 -- one parameter an option
    spec: Annotated[
        str | None,
        typer.Argument(metavar="[SPEC]", help="OWNER/REPO or an alias; all models without it."),
    ] = None,
    *,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX,
    type_k: TypeK = CacheType.F16,
    type_v: TypeV = CacheType.F16,
    family: FamilyOption = FamilyChoice.AUTO,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Rank the quants of SPEC for this machine, or the best quant of every catalogued model."""
    need = Need(objective, ctx_size, type_k, type_v, family)
    host = _host(vram, ram, backend, host_file, llama_cpp)
    answer = api.recommend(spec, host=host, need=need)
    problem = None if answer.pick else api.nothing_fits(answer)
    if as_json:
        record = document.recommendation_record(answer)
        if problem is not None:
            record["error"] = document.error_record(problem)
        print(document.document("recommend", record))
    else:
        from quantpick.render import text

        text.print_recommendation(answer, models=spec is None)
        print_warnings(answer.warnings)
    if problem is not None:
        raise problem


@app.command()
def explain(  # noqa: PLR0913 -- one parameter an option
    spec: Annotated[str, typer.Argument(metavar="LABEL", help="LABEL, or SPEC:LABEL.")],
    *,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX,
    type_k: TypeK = CacheType.F16,
    type_v: TypeV = CacheType.F16,
    family: FamilyOption = FamilyChoice.AUTO,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Say term by term why one quant does or does not fit."""
    need = Need(objective, ctx_size, type_k, type_v, family)
    host = _host(vram, ram, backend, host_file, llama_cpp)
    explained = api.explain(spec, host=host, need=need)
    verdict, answer = explained.verdict, explained.recommendation
    if as_json:
        print(document.document("explain", document.explanation_record(verdict, answer)))
    else:
        from quantpick.render import text

        text.print_explanation(verdict, answer)
        print_warnings(answer.warnings)


@app.command("list")
def list_(
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="OWNER/REPO or an alias.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the catalog's models, or the quants of SPEC."""
    if spec is None:
        models = api.list_models()
        record = document.models_record(models) if as_json else None
    else:
        model, reference = api.load(spec), api.reference()
        record = document.files_record(model, reference) if as_json else None
    if record is not None:
        print(document.document("list", record))
        return
    from quantpick.render import text

    if spec is None:
        text.print_models(models)
    else:
        text.print_quants(model, reference)


@app.command()
def hardware(
    *,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Show what the probe found, each figure with its source."""
    host = _host(vram, ram, backend, host_file, llama_cpp)
    if as_json:
        print(document.document("hardware", document.hardware_record(host)))
        return
    from quantpick.render import text

    text.print_hardware(host)
    print_warnings(host.warnings)


@app.command()
def download(  # noqa: PLR0913 -- one parameter an option
    spec: Annotated[
        str,
        typer.Argument(
            metavar="LABEL|SPEC",
            help="LABEL of the default repo, OWNER/REPO:LABEL, ALIAS:LABEL, or SPEC:auto.",
        ),
    ],
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
    ctx_size: CtxSize = DEFAULT_CTX,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Fetch a quant, every shard of it, and check its sha256."""
    from quantpick.render.progress import progress_display

    need = Need(objective, ctx_size)
    asked = spec.lower().endswith(":auto") or spec.lower() == "auto"
    result = api.download(
        spec,
        revision=revision,
        local_dir=None if cache else local_dir,
        host=_host(vram, ram, backend, host_file, llama_cpp) if asked else None,
        need=need,
        dry_run=dry_run,
        force=force,
        progress=progress_display(),
    )
    if as_json:
        print(document.document("download", document.download_record(result)))
        return
    from quantpick.render import text

    text.print_download(result)


def _host(
    vram: list[str] | None,
    ram: str | None,
    backend: Backend | None,
    host_file: Path | None,
    llama_cpp: str | None,
) -> Host:
    if host_file is not None and (vram or ram):
        raise UsageError(
            "--host describes the whole machine, so --vram and --ram do not go with it",
            "leave out --host, or --vram and --ram",
        )
    return api.probe(
        vram=[parse_size(size) for size in vram or ()],
        ram=parse_size(ram) if ram else None,
        backend=backend,
        build=parse_build(llama_cpp) if llama_cpp else None,
        host_file=host_file,
    )

