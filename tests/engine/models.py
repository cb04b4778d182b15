"""All blueprints by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engine import dense, experts, recurrent, windowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.hollow import Blueprint

#: Every model that can be written hollow, by its name.
MODELS: dict[str, Callable[[], Blueprint]] = {
    **dense.MODELS,
    **windowed.MODELS,
    **experts.MODELS,
    **recurrent.MODELS,
}
