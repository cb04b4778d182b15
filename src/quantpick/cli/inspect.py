"""``quantpick inspect``: what the header of a GGUF file says."""

from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import Json


def inspect(
    spec: Annotated[str, typer.Argument(metavar="FILE|SPEC")],
    *,
    as_json: Json = False,
) -> None:
    """Show a GGUF file's header: its types, its model, its tokenizer.

    FILE is a path to a file or to any shard of a split set. A SPEC is OWNER/REPO:LABEL,
    ALIAS:LABEL or LABEL; of a file on the Hub only the header is fetched.
    """
    found = api.inspect(spec)
    if as_json:
        from quantpick.render.document import print_document
        from quantpick.render.header import header_document

        print_document("inspect", header_document(found))
    else:
        from quantpick.render.header import print_header

        print_header(found)
