"""The one boundary where errors become words and an exit status."""

from __future__ import annotations

import os
import sys

import click
import typer

from quantpick.cli.app import app
from quantpick.errors import INTERRUPTED, QuantpickError, UsageError
from quantpick.render import document
from quantpick.render.talk import print_error, say


def run(words: list[str]) -> int:
    """Run a command line and return its exit status."""
    command = typer.main.get_command(app)
    try:
        result = command.main(words, prog_name="quantpick", standalone_mode=False)
        sys.stdout.flush()
    except QuantpickError as error:
        return _fail(error, words, command)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return UsageError.exit_status
    except click.ClickException as error:
        return _fail(_usage_error(error), words, command)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wanted; keep the interpreter from complaining as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 -- the command line is the last to see a bug
        return _report_bug(error, words, command)
    return result if isinstance(result, int) else 0


def _fail(error: QuantpickError, words: list[str], command: click.Command) -> int:
    name = _command_name(words, command)
    if "--json" in words:
        # A recommendation that finds nothing has printed its document, with the error in it.
        if not (error.code == "nothing_fits" and name == "recommend"):
            print(document.document(name, {"error": document.error_record(error)}))
    else:
        sys.stdout.flush()
        print_error(error.message, error.hints)
    return error.exit_status


def _usage_error(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "quantpick"
    return UsageError(error.format_message().rstrip("."), f"run: {path} --help")


def _report_bug(error: Exception, words: list[str], command: click.Command) -> int:
    import traceback

    bug = QuantpickError(
        f"bug in quantpick: {type(error).__name__}: {error}",
        "please report it with the command line and the lines above",
    )
    traceback.print_exception(error)
    return _fail(bug, words, command)


def _command_name(words: list[str], command: click.Command) -> str:
    names = command.commands if isinstance(command, click.Group) else {}
    return next((word for word in words if word in names), "quantpick")
