"""``quantpick recommend`` and ``quantpick explain``: which quant, and why."""

from collections.abc import Callable
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.flags import with_flags
from quantpick.cli.options import Json, read_host, read_need, read_wish
from quantpick.domain.host import Host
from quantpick.domain.need import Need
from quantpick.domain.wish import Wish
from quantpick.errors import UsageError


@with_flags(need=read_need, host=read_host, wish=read_wish)
def recommend(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]")] = None,
    *,
    need: Callable[[], Need],
    host: Callable[[], Host],
    wish: Callable[[], Wish],
    as_json: Json = False,
) -> None:
    """Rank the quants of a repo for this machine.

    SPEC is OWNER/REPO, an alias such as llama-3.1-70b, or a path such as ./models. Without it the
    best quant of each catalogued model that fits is shown: those of four bits or more first, and
    the larger models first.
    """
    about = wish()
    if spec is not None and about != Wish():
        raise UsageError(
            "--top, --max-size, --license and --arch choose between models, and a SPEC is one",
            "leave out the SPEC, or the others",
        )
    answer = api.recommend(spec, host=host(), need=need(), wish=about)
    problem = None if answer.pick else api.nothing_fits(answer)
    if as_json:
        from quantpick.render.document import print_document, recommendation_record

        print_document("recommend", recommendation_record(answer, problem))
    else:
        from quantpick.render.text import print_recommendation

        print_recommendation(answer, models=spec is None)
    if problem is not None:
        raise problem


@with_flags(need=read_need, host=read_host)
def explain(
    spec: Annotated[str, typer.Argument(metavar="LABEL")],
    *,
    need: Callable[[], Need],
    host: Callable[[], Host],
    as_json: Json = False,
) -> None:
    """Say term by term why one quant does or does not fit.

    LABEL is a quant of the default repo, such as Q4_K_M, or SPEC:LABEL, or a GGUF file.
    """
    explained = api.explain(spec, host=host(), need=need())
    if as_json:
        from quantpick.render.document import explanation_record, print_document

        print_document("explain", explanation_record(*explained))
    else:
        from quantpick.render.text import print_explanation

        print_explanation(*explained)
