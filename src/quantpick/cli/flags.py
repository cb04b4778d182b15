"""Groups of flags that several commands take, written once: as the function that reads them."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

Command = Callable[..., None]


def with_flags(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """Give a command the flags of a function in place of its parameter of that name.

    What the command gets is a function that reads those flags when it is called.
    """

    def decorate(command: Command) -> Command:
        def run(**values: Any) -> None:  # noqa: ANN401 -- as typer parsed them
            for name, function in groups.items():
                flags = {flag: values.pop(flag) for flag in inspect.signature(function).parameters}
                values[name] = partial(function, **flags)
            command(**values)

        update_wrapper(run, command)
        # What typer reads in place of the command's own.
        run.__dict__["__signature__"] = _expanded(inspect.signature(command), groups)
        run.__annotations__ = {}
        return run

    return decorate


def _expanded(
    signature: inspect.Signature, groups: dict[str, Callable[..., Any]]
) -> inspect.Signature:
    """Return a signature with each group's parameter replaced by its function's parameters."""
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        group = groups.get(parameter.name)
        parameters += inspect.signature(group).parameters.values() if group else [parameter]
    return inspect.Signature(parameters)
