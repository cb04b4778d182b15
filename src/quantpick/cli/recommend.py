"""``quantpick recommend`` and ``quantpick explain``: which quant, and why."""

from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import (
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
    read_host,
)
from quantpick.domain.need import DEFAULT_CTX_SIZE, CacheType, FamilyChoice, Need, Objective


def recommend(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]")] = None,
    *,
    objective: For = Objective.AUTO,
    ctx_size: CtxSize = DEFAULT_CTX_SIZE,
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
    """Rank the quants of a repo for this machine.

    SPEC is OWNER/REPO or an alias such as llama-3.1-70b. Without it the best quant of every
    catalogued model is shown and the largest model that fits is picked.
    """
    host = read_host(vram, ram, backend, host_file, llama_cpp)
    answer = api.recommend(spec, host=host, need=Need(objective, ctx_size, type_k, type_v, family))
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
    family: FamilyOption = FamilyChoice.AUTO,
    vram: Vram = None,
    ram: RamOption = None,
    backend: BackendOption = None,
    host_file: HostFile = None,
    llama_cpp: LlamaCpp = None,
    as_json: Json = False,
) -> None:
    """Say term by term why one quant does or does not fit.

    LABEL is a quant of the default repo, such as Q4_K_M, or SPEC:LABEL.
    """
    host = read_host(vram, ram, backend, host_file, llama_cpp)
    explained = api.explain(spec, host=host, need=Need(objective, ctx_size, type_k, type_v, family))
    if as_json:
        from quantpick.render.document import explanation_record, print_document

        print_document("explain", explanation_record(explained.verdict, explained.recommendation))
    else:
        from quantpick.render.text import print_explanation

        print_explanation(explained.verdict, explained.recommendation)
