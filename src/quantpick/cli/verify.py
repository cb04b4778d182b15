"""``quantpick verify``: check files on disk again."""

from pathlib import Path
from typing import Annotated

import typer

from quantpick import api
from quantpick.cli.options import Json, ProgressOption, read_policy
from quantpick.domain.progress import ProgressKind
from quantpick.domain.verification import State, Verification
from quantpick.errors import IntegrityError, NotFoundError, QuantpickError
from quantpick.render.progress import progress_display


def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...")],
    *,
    lock_file: Annotated[
        Path | None,
        typer.Option("--lock-file", metavar="FILE", help="Hold them against this lock."),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="OWNER/REPO[@REV]", help="Hold them against the Hub."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing: the exit status tells.")
    ] = False,
    progress: ProgressOption = ProgressKind.AUTO,
    as_json: Json = False,
) -> None:
    """Check files, or all models in folders, byte for byte.

    They are held against the lock or the repo if one is named, else against the receipt that
    download wrote beside them, else against their name in the Hub cache.
    """
    found = api.verify(
        paths,
        lock_file=lock_file,
        repo=repo,
        policy=read_policy(1, 4),
        progress=progress_display(progress, quiet=quiet),
    )
    error = _problem(found)
    if as_json:
        from quantpick.render.document import error_record, print_document
        from quantpick.render.file_documents import verify_document

        document = verify_document(found)
        if error is not None:
            document["error"] = error_record(error)
        print_document("verify", document)
    elif not quiet:
        from quantpick.render.files import print_verification

        print_verification(found)
    if error is not None:
        raise error


def _problem(found: Verification) -> QuantpickError | None:
    wrong = found.count(State.WRONG) + found.count(State.MISSING)
    if wrong:
        return IntegrityError(
            f"{wrong} of {len(found.files)} files are not what they should be",
            "fetch them again: quantpick download SPEC --force",
        )
    unproven = found.count(State.UNPROVEN)
    if unproven:
        return NotFoundError(
            f"nothing says what {unproven} of {len(found.files)} files should be",
            "name the repo they are from: --repo OWNER/REPO",
        )
    return None
