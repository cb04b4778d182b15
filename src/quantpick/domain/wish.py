"""Which models a question about the whole catalog is about."""

from typing import NamedTuple

#: Models shown unless the user says otherwise.
DEFAULT_TOP = 10


class Wish(NamedTuple):
    """Which models to consider, and how many to show.

    ``max_size`` is in bytes of a quant's files; ``words`` stand in the model's names. With
    ``every_repo`` the repos of one model are shown each.
    """

    top: int = DEFAULT_TOP
    max_size: int | None = None
    license: str | None = None
    architecture: str | None = None
    words: tuple[str, ...] = ()
    every_repo: bool = False
