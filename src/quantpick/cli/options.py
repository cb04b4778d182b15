"""Options and arguments that commands share; the same flag means the same everywhere.

The modules of this room do without deferred annotations: typer reads them at start-up, and real
objects are faster to read than text.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from quantpick import api
from quantpick.domain.host import Backend, Host
from quantpick.domain.need import (
    DEFAULT_CTX_SIZE,
    DEFAULT_PARALLEL,
    DEFAULT_UBATCH_SIZE,
    CacheType,
    FamilyChoice,
    FlashAttention,
    Need,
    Objective,
)
from quantpick.domain.policy import Policy, waits_of
from quantpick.domain.progress import ProgressKind
from quantpick.domain.units import parse_build, parse_seconds, parse_size
from quantpick.domain.wish import DEFAULT_TOP, Wish
from quantpick.errors import UsageError

_TIMEOUT = "HF_HUB_DOWNLOAD_TIMEOUT"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

For = Annotated[
    Objective,
    typer.Option(
        "--for",
        help="speed: the whole file on the GPU. quality: GPU and RAM together. balanced: on the "
        "GPU, giving up little of either. auto: speed if a quant fits the GPU, else quality.",
    ),
]
CtxSize = Annotated[
    int,
    typer.Option(
        "--ctx-size", "-c", metavar="TOKENS", min=1, max=2**30, help="Context to plan for."
    ),
]
TypeK = Annotated[CacheType, typer.Option("--cache-type-k", "-ctk", help="Type of the K cache.")]
TypeV = Annotated[CacheType, typer.Option("--cache-type-v", "-ctv", help="Type of the V cache.")]
Parallel = Annotated[
    int,
    typer.Option(
        "--parallel", "-np", metavar="SLOTS", min=1, max=256, help="Slots that share the context."
    ),
]
UbatchSize = Annotated[
    int,
    typer.Option(
        "--ubatch-size", "-ub", metavar="TOKENS", min=1, max=2**16, help="Tokens computed at once."
    ),
]
FlashAttn = Annotated[
    FlashAttention, typer.Option("--flash-attn", "-fa", help="Fused attention; auto means on.")
]
Mmproj = Annotated[
    str | None,
    typer.Option(
        "--mmproj", metavar="FILE|SIZE", help="Count a vision projector too: its file or its size."
    ),
]
MaxCtx = Annotated[
    bool, typer.Option("--max-ctx", help="Also say the largest context that fits whole.")
]
FamilyOption = Annotated[
    FamilyChoice,
    typer.Option(
        "--family", help="Pick only K-quants, only I-quants, or any; auto follows the backend."
    ),
]
Vram = Annotated[
    list[str] | None,
    typer.Option(
        "--vram",
        metavar="SIZE",
        help="Memory of a GPU in place of the probed ones, such as 24GiB or 24GB (a bare number "
        "is GiB); repeat for several GPUs.",
    ),
]
RamOption = Annotated[
    str | None, typer.Option("--ram", metavar="SIZE", help="RAM in place of the probed one.")
]
BackendOption = Annotated[
    Backend | None, typer.Option("--backend", help="Backend that llama.cpp will use.")
]
HostFile = Annotated[
    Path | None,
    typer.Option(
        "--host", metavar="FILE", help="Plan for the machine that `hardware --json` wrote to FILE."
    ),
]
GpuOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help='Plan for a GPU or machine by name: "RTX 4090", 2x3090, m4-max-64, strix-halo-128; '
        "several with commas.",
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Use only this device of those here: CUDA0, a PCI address, part of a name, or none.",
    ),
]
FreeVram = Annotated[
    list[str] | None,
    typer.Option(
        "--free-vram",
        metavar="SIZE",
        help="Plan for so much free memory of a GPU; repeat for several.",
    ),
]
EngineOption = Annotated[
    Path | None,
    typer.Option(
        "--engine", metavar="PATH", help="The llama.cpp program to ask, or the folder it is in."
    ),
]
LlamaCpp = Annotated[
    str | None,
    typer.Option(
        "--llama-cpp", metavar="BUILD", help="Build that will load the file, such as b3472."
    ),
]
Top = Annotated[
    int, typer.Option("--top", metavar="N", min=1, help="Models to show, without a SPEC.")
]
MaxSize = Annotated[
    str | None, typer.Option("--max-size", metavar="SIZE", help="Only quants of at most this size.")
]
License = Annotated[
    str | None, typer.Option("--license", metavar="ID", help="Only models of a licence.")
]
Arch = Annotated[
    str | None, typer.Option("--arch", metavar="NAME", help="Only models of an architecture.")
]
WithMmproj = Annotated[
    str | None,
    typer.Option(
        "--with-mmproj",
        metavar="[TYPE]",
        help="Bring the model's vision projector too: of the usual type, or f16, bf16, q8_0.",
    ),
]
LockFile = Annotated[
    Path, typer.Option("--lock-file", metavar="FILE", help="The lock to read or write.")
]
Connections = Annotated[
    int,
    typer.Option("--connections", metavar="N", min=1, max=64, help="Connections at once, in all."),
]
Retries = Annotated[
    int,
    typer.Option("--retries", metavar="N", min=0, max=20, help="Tries after one without progress."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the path to run, and no talk.")]
ProgressOption = Annotated[
    ProgressKind,
    typer.Option("--progress", help="How stderr shows progress: json is one object a line."),
]


def read_host(
    *,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    gpu: GpuOption = None,
    device: DeviceOption = None,
    free_vram: FreeVram = None,
    engine: EngineOption = None,
    llama_cpp: LlamaCpp = None,
    host_file: HostFile = None,
) -> Host:
    """Return the machine that the hardware flags describe, probed where they say nothing."""
    if host_file is not None and (vram or gpu or engine or ram is not None):
        raise UsageError(
            "--host describes the whole machine, so --vram, --gpu, --ram and --engine do not go "
            "with it",
            "leave out --host, or the others",
        )
    if vram and gpu:
        raise UsageError("--vram and --gpu describe the same thing", "leave one out")
    return api.probe(
        vram=[parse_size(size) for size in vram or ()],
        ram=None if ram is None else parse_size(ram),
        backend=backend,
        build=None if llama_cpp is None else parse_build(llama_cpp),
        host_file=host_file,
        engine=engine,
        gpus=[name for names in gpu or () for name in names.split(",")],
        devices=[word for words in device or () for word in words.split(",") if word],
        free_vram=[parse_size(size) for size in free_vram or ()],
    )


def read_wish(
    *,
    top: Top = DEFAULT_TOP,
    max_size: MaxSize = None,
    license_id: License = None,
    arch: Arch = None,
) -> Wish:
    """Return which models of the catalog the flags are about."""
    size = None if max_size is None else parse_size(max_size)
    return Wish(top, size, license_id, arch)


def read_policy(connections: int, retries: int) -> Policy:
    """Return how hard to try: HF_HUB_DOWNLOAD_TIMEOUT has the seconds without a byte."""
    text = os.environ.get(_TIMEOUT)
    timeout = parse_seconds(text, _TIMEOUT) if text else Policy().timeout
    return Policy(connections, timeout, waits_of(retries))


def read_need(
    *,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
    type_k: TypeK = CacheType.F16,
    type_v: TypeV = CacheType.F16,
    parallel: Parallel = DEFAULT_PARALLEL,
    ubatch_size: UbatchSize = DEFAULT_UBATCH_SIZE,
    flash_attn: FlashAttn = FlashAttention.AUTO,
    mmproj: Mmproj = None,
    max_ctx: MaxCtx = False,
    family: FamilyOption = FamilyChoice.AUTO,
) -> Need:
    """Return the request that the flags describe. Raises UsageError for one that cannot be run."""
    projector, projector_path = _read_projector(mmproj)
    return Need(
        objective=objective,
        ctx_size=ctx_size,
        type_k=type_k,
        type_v=type_v,
        family=family,
        parallel=parallel,
        ubatch_size=ubatch_size,
        flash_attn=flash_attn,
        projector=projector,
        projector_path=projector_path,
        max_ctx=max_ctx,
    )


def _read_projector(mmproj: str | None) -> tuple[int, str | None]:
    """Return the bytes of the projector that ``--mmproj`` names, and its file if it names one."""
    if mmproj is None:
        return 0, None
    path = Path(mmproj).expanduser()
    if path.is_file():
        return path.stat().st_size, mmproj
    if mmproj.lower().endswith(".gguf") or len(path.parts) > 1:
        raise UsageError(f"there is no file {mmproj}", "name the projector's file, or its size")
    return parse_size(mmproj), None
