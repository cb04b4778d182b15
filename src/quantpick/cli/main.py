"""The program: its commands, loaded when named, and the one boundary where errors become words."""

import errno
import os
import re
import signal
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import click
import typer

from quantpick.errors import EXIT_STATUSES, DiskError, QuantpickError, StoppedError, UsageError
from quantpick.render.talk import print_error

#: Each command and where its function is, in the order of `--help`.
COMMANDS = {
    "recommend": ("quantpick.cli.recommend", "recommend"),
    "explain": ("quantpick.cli.recommend", "explain"),
    "download": ("quantpick.cli.download", "download"),
    "verify": ("quantpick.cli.verify", "verify"),
    "lock": ("quantpick.cli.lock", "lock"),
    "inspect": ("quantpick.cli.inspect", "inspect"),
    "list": ("quantpick.cli.show", "list_quants"),
    "hardware": ("quantpick.cli.show", "hardware"),
    "catalog": ("quantpick.cli.catalog", "app"),
}

_MMPROJ = "--with-mmproj"

#: What a write to stdout says that finds no room.
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}

_EPILOG = "Exit status: " + ", ".join(f"{status} {text}" for status, text in EXIT_STATUSES.items())


def run(words: list[str]) -> int:
    """Run a command line and return its exit status."""
    # huggingface_hub would ask the Hub for a list of coding agents on the side.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # As Ctrl-C does: what has come is kept, and a child process ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, TextIOWrapper):
        # A name that the terminal's character set lacks is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # The reader has what it wanted; typer and rich make an exit of it. The interpreter would
        # complain of the same pipe as it ends.
        _let_go_of_stdout()
        return 0
    except OSError as error:
        _let_go_of_stdout()
        full = DiskError(f"cannot write the output: {error.strerror}", "write it to another place")
        print_error(full)
        return full.exit_status
    return status


def _let_go_of_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    problem = _problem(words, name)
    # All that is left is to say how it ended and to go: a Ctrl-C now would only garble that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return _fail(problem, name or "quantpick", as_json="--json" in words) if problem else 0


def _problem(words: list[str], name: str | None) -> QuantpickError | None:
    """Run a command and return what it ended with, None where all went well."""
    try:
        command = typer.main.get_command(program(name))
        result = command.main(_with_value(words), prog_name="quantpick", standalone_mode=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        return _expected(error)
    except (Exception, KeyboardInterrupt) as error:
        return _expected(error)
    # typer turns an interrupt into a status before it gets here.
    return StoppedError("interrupted") if result == StoppedError.exit_status else None


def _with_value(words: list[str]) -> list[str]:
    """Return the words with ``auto`` behind a ``--with-mmproj`` that has no type behind it.

    An option whose value may be left out is none that typer has.
    """
    if _MMPROJ not in words:
        return words
    after = words.index(_MMPROJ) + 1
    given = words[after : after + 1]
    if given and not given[0].startswith("-") and not set(given[0]) & {"/", ":"}:
        return words
    return [*words[:after], "auto", *words[after:]]


def program(name: str | None) -> typer.Typer:
    """Return the typer program with the named command, or with all of them for any other name.

    Building the commands takes longer than most of them run, so only the one in use is built.
    """
    app = typer.Typer(
        help="Pick the GGUF quant that fits your machine, and fetch it, proven intact.",
        epilog=_EPILOG,
        add_completion=False,
        # Plain help: the rich one takes longer to load than to read.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_root)
    for command in [name] if name in COMMANDS else COMMANDS:
        module, function = COMMANDS[command]
        found = getattr(import_module(module), function)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=command)
        else:
            app.command(command)(found)
    return app


def _version(value: bool) -> None:
    if value:
        from quantpick import __version__

        print(f"quantpick {__version__}")
        raise typer.Exit


def _root(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hold the options of the program itself."""


def _fail(error: QuantpickError, name: str, *, as_json: bool) -> int:
    if not as_json:
        sys.stdout.flush()
        print_error(error)
    elif not error.reported:
        from quantpick.render.document import error_record, print_document

        print_document(name, {"error": error_record(error)})
    return error.exit_status


def _expected(error: BaseException) -> QuantpickError:
    """Return an error of our family for any error; what is none of ours is a bug."""
    if isinstance(error, QuantpickError):
        return error
    # What breaks while an interrupt is on its way breaks of it: a lock that was lost, for example.
    if any(isinstance(one, (KeyboardInterrupt, click.Abort)) for one in (error, error.__context__)):
        return StoppedError("interrupted")
    if isinstance(error, click.ClickException):
        return _usage_error(error)
    import traceback

    traceback.print_exception(error)
    return QuantpickError(
        f"bug in quantpick: {type(error).__name__}: {error}",
        "please report it with the command line and the lines above",
    )


def _usage_error(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "quantpick"
    message = error.format_message().rstrip(".")
    # For a command click and typer both guess, and say it one after the other.
    message = re.sub(r"( Did you mean [^?]*\?)\1", r"\1", message)
    return UsageError(message, f"run: {path} --help")
