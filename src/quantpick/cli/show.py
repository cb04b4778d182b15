"""``quantpick list`` and ``quantpick hardware``: what is known, of models and of the machine."""

from collections.abc import Callable
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.flags import with_flags
from quantpick.cli.options import Arch, Json, License, MaxSize, read_host, read_wish
from quantpick.domain.host import Host
from quantpick.domain.model import Model
from quantpick.domain.wish import Wish
from quantpick.errors import UsageError


@with_flags(host=read_host)
def list_quants(
    words: Annotated[list[str] | None, typer.Argument(metavar="[SPEC|WORD]...")] = None,
    *,
    arch: Arch = None,
    license_id: License = None,
    max_size: MaxSize = None,
    fits: Annotated[
        bool, typer.Option("--fits", help="Only models of which a quant fits this machine.")
    ] = False,
    backends: Annotated[
        bool, typer.Option("--backends", help="Which tensor types run where, since which build.")
    ] = False,
    host: Callable[[], Host],
    as_json: Json = False,
) -> None:
    """List the catalog's models, or the quants of one repo.

    SPEC is OWNER/REPO, an alias, or a path. Any other words are looked for in the models' names.
    """
    if backends:
        _list_backends(as_json=as_json)
        return
    words = words or []
    wish = read_wish(max_size=max_size, license_id=license_id, arch=arch)
    if len(words) == 1 and api.is_spec(words[0]):
        if fits or wish != Wish():
            raise UsageError(
                "--fits, --arch, --license and --max-size choose between models, and a SPEC is one",
                f"to see what fits: quantpick recommend {words[0]}",
            )
        _list_quants(words[0], as_json=as_json)
        return
    models = api.list_models(wish._replace(words=tuple(words)), host=host() if fits else None)
    _list_models(models, as_json=as_json)


def _list_backends(*, as_json: bool) -> None:
    reference = api.reference()
    if as_json:
        from quantpick.domain.matrix import matrix_record
        from quantpick.render.document import print_document

        print_document("list", matrix_record(reference))
    else:
        from quantpick.render.text import print_backends

        print_backends(reference)


def _list_quants(spec: str, *, as_json: bool) -> None:
    model, reference = api.load(spec, strict=False), api.reference()
    if as_json:
        from quantpick.render.document import files_record, print_document

        print_document("list", files_record(model, reference, api.qualities(model)))
    else:
        from quantpick.render.text import print_quants

        print_quants(model, reference, api.qualities(model))


def _list_models(models: tuple[Model, ...], *, as_json: bool) -> None:
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
    """Show what memory llama.cpp can use here, and who says so."""
    found = host()
    if as_json:
        from quantpick.domain.host_record import host_record
        from quantpick.render.document import print_document

        print_document("hardware", host_record(found))
    else:
        from quantpick.render.hardware import print_hardware

        print_hardware(found, doctor=doctor)
