"""``quantpick recommend`` and ``quantpick explain``: which quant, and why."""

from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import (
    BackendOption,
    CtxSize,
    FamilyOption,
    FlashAttn,
    For,
    HostFile,
    Json,
    LlamaCpp,
    MaxCtx,
    Mmproj,
    Parallel,
    RamOption,
    TypeK,
    TypeV,
    UbatchSize,
    Vram,
    read_host,
    read_need,
)
from quantpick.domain.need import (
    DEFAULT_CTX_SIZE,
    DEFAULT_PARALLEL,
    DEFAULT_UBATCH_SIZE,
    CacheType,
    FamilyChoice,
    FlashAttention,
    Objective,
)


def recommend(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]")] = None,
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
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Rank the quants of a repo for this machine.

    SPEC is OWNER/REPO, an alias such as llama-3.1-70b, or a path such as ./models. Without it the
    best quant of every catalogued model is shown and the largest model that fits is picked.
    """
    host = read_host(vram, ram, backend, host_file, llama_cpp)
    need = read_need(
        objective=objective,
        ctx_size=ctx_size,
        type_k=type_k,
        type_v=type_v,
        family=family,
        parallel=parallel,
        ubatch_size=ubatch_size,
        flash_attn=flash_attn,
        mmproj=mmproj,
        max_ctx=max_ctx,
    )
    answer = api.recommend(spec, host=host, need=need)
    problem = None if answer.pick else api.nothing_fits(answer)
    if as_json:
        from quantpick.render.document import print_document, recommendation_record

        print_document("recommend", recommendation_record(answer, problem))
    else:
        from quantpick.render.text import print_recommendation

        print_recommendation(answer, models=spec is None)
    if problem is not None:
        raise problem


def explain(
    spec: Annotated[str, typer.Argument(metavar="LABEL")],
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
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Say term by term why one quant does or does not fit.

    LABEL is a quant of the default repo, such as Q4_K_M, or SPEC:LABEL, or a GGUF file.
    """
    host = read_host(vram, ram, backend, host_file, llama_cpp)
    need = read_need(
        objective=objective,
        ctx_size=ctx_size,
        type_k=type_k,
        type_v=type_v,
        family=family,
        parallel=parallel,
        ubatch_size=ubatch_size,
        flash_attn=flash_attn,
        mmproj=mmproj,
        max_ctx=max_ctx,
    )
    explained = api.explain(spec, host=host, need=need)
    if as_json:
        from quantpick.render.document import explanation_record, print_document

        print_document("explain", explanation_record(*explained))
    else:
        from quantpick.render.text import print_explanation

        print_explanation(*explained)
