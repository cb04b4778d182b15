"""``quantpick list`` and ``quantpick hardware``: what is known, of models and of the machine."""

from collections.abc import Callable
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.flags import with_flags
from quantpick.cli.options import Json, read_host
from quantpick.domain.host import Host


def list_quants(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the catalog's models, or the quants of one repo.

    SPEC is OWNER/REPO, an alias, or a path.
    """
    if spec is None:
        _list_models(as_json=as_json)
        return
    model, reference = api.load(spec, strict=False), api.reference()
    if as_json:
        from quantpick.render.document import files_record, print_document

        print_document("list", files_record(model, reference))
    else:
        from quantpick.render.text import print_quants

        print_quants(model, reference)


def _list_models(*, as_json: bool) -> None:
    models = api.list_models()
    if as_json:
        from quantpick.render.document import models_record, print_document

        print_document("list", models_record(models))
    else:
        from quantpick.render.text import print_models

        print_models(models)


@with_flags(host=read_host)
def hardware(
    *,
    host: Callable[[], Host],
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Show each source that was asked, and what to do.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what memory llama.cpp can use here, each figure with its source."""
    found = host()
    if as_json:
        from quantpick.domain.host_record import host_record
        from quantpick.render.document import print_document

        print_document("hardware", host_record(found))
    else:
        from quantpick.render.hardware import print_hardware

        print_hardware(found, doctor=doctor)
