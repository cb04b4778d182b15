"""Options that several commands share; the same flag means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantpick.domain.host import Backend
from quantpick.domain.need import DEFAULT_CTX_SIZE, CacheType, FamilyChoice, Objective

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

For = Annotated[
    Objective,
    typer.Option(
        "--for",
        help="speed: the whole file on the GPU. quality: GPU and RAM together. "
        "auto: speed if a quant fits the GPU, else quality.",
    ),
]
CtxSize = Annotated[
    int,
    typer.Option("--ctx-size", "-c", metavar="TOKENS", min=1, help="Context to plan for."),
]
TypeK = Annotated[
    CacheType, typer.Option("--cache-type-k", "-ctk", help="Type of the K cache.")
]
TypeV = Annotated[
    CacheType, typer.Option("--cache-type-v", "-ctv", help="Type of the V cache.")
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
LlamaCpp = Annotated[
    str | None,
    typer.Option(
        "--llama-cpp", metavar="BUILD", help="Build that will load the file, such as b3472."
    ),
]

DEFAULT_CTX = DEFAULT_CTX_SIZE
