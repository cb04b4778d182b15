"""The runs of the fault matrix: each is made from the seed and its number alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from tests.hub.matrix_shelf import Shelf, make_gguf, make_shelf
from tests.hub.matrix_troubles import leads_elsewhere, make_faults, told
from tests.hub.protocol import make_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.hub.faults import Fault

Way = Literal["inside", "process", "killed", "stopped", "pair", "small disk", "read-only"]
Before = Literal["nothing", "right", "foreign", "half", "lying half", "wrong blob", "wrong link"]
Repo = Literal["plain", "false claim", "replaced", "hostile", "gated", "no revision"]

#: How many runs there are of each way. Those inside share a process, the others have their own.
WAYS: Mapping[Way, int] = {
    "killed": 36,
    "process": 12,
    "stopped": 10,
    "pair": 8,
    "small disk": 8,
    "read-only": 4,
    "inside": 262,
}

SIZE = sum(WAYS.values())

#: The commit that all repos are at.
COMMIT = "5eed" * 10

_HOSTILE = (
    "../../{name}",
    "a/../../../{name}",
    "/{name}",
    "a\\..\\{name}",
    "C:/{name}",
    "\x1b[31m{name}",
    "\r\n{name}",
    "\u202e{name}",
    "./{name}",
    "a//{name}",
)


@dataclass(frozen=True)
class Run:
    """One run: what is on the Hub and on the disk, what is asked for, and what goes wrong."""

    seed: str
    number: int
    way: Way
    shelf: Shelf
    before: Before
    repo: Repo
    faults: tuple[Fault, ...]
    cache: bool
    token: bool
    force: bool
    revision: str | None
    connections: int
    timeout: float
    no_blobs: bool
    page_size: int
    link_lifetime: float | None  # seconds
    api_limit: int | None
    pace: float  # seconds that the bytes take to come, 0 for as fast as it goes
    moment: float  # what happens in the midst of a run happens after this part of it, 0 to 1
    pick: int  # chooses among what there is: a file, a byte

    @property
    def name(self) -> str:
        """One of the files of the repo that are asked for."""
        names = sorted(self.shelf.wanted)
        return names[self.pick % len(names)]

    @property
    def final(self) -> str:
        """One of the files that the run makes on disk."""
        names = sorted(self.shelf.finals)
        return names[self.pick % len(names)]

    @property
    def curable(self) -> bool:
        """Whether the same words have to end well once nothing goes wrong any more."""
        lost = self.repo in {"false claim", "hostile", "no revision"}
        locked_out = self.repo == "gated" and not self.token
        return not (lost or locked_out or (self.cache and not self.shelf.lfs))

    @property
    def size(self) -> int:
        """Bytes of all files that the run asks for."""
        return sum(map(len, self.shelf.wanted.values()))

    @property
    def listed(self) -> dict[str, str]:
        """The sha256 that files on disk have to have, by path; none where the Hub tells a lie."""
        if self.repo in {"hostile", "no revision"}:
            return {}
        false = self.name if self.repo == "false claim" else None
        return {path: sha for path, sha in self.shelf.listed.items() if path != false}

    @property
    def goes_elsewhere(self) -> bool:
        """Whether another host is part of it."""
        return any(leads_elsewhere(fault) for fault in self.faults)

    @property
    def digests(self) -> frozenset[str]:
        """What the Hub lists to prove the files with."""
        files = [make_file(path, data) for path, data in self.shelf.wanted.items()]
        return frozenset(file.sha256 if file.is_lfs else file.git_oid for file in files)

    @property
    def other_bytes(self) -> bytes:
        """What is found, or served, in place of the right bytes: as long as they are."""
        data = bytearray(self.shelf.wanted[self.name])
        data[self.pick % len(data)] ^= 0xFF
        return bytes(data)

    @property
    def published(self) -> dict[str, bytes]:
        """The files as the repo lists them."""
        if self.repo != "hostile":
            return self.shelf.files
        form = _HOSTILE[self.pick % len(_HOSTILE)]
        return {form.format(name=name): data for name, data in self.shelf.files.items()}

    @property
    def claims(self) -> dict[str, str]:
        """The false sha256 that listings tell."""
        if self.repo != "false claim":
            return {}
        return {self.name: hashlib.sha256(self.other_bytes).hexdigest()}

    def words(self) -> str:
        """Return the run in words, for a report."""
        shelf = self.shelf
        told_apart = ("seed", "number", "way", "shelf", "faults")
        known = {name: value for name, value in vars(self).items() if name not in told_apart}
        files = f"{shelf.shape}, {len(shelf.wanted)} files, {self.size} bytes"
        settings = ", ".join(f"{name} {value!r}" for name, value in known.items())
        first = f"run {self.number}, {self.way}: {shelf.repo_id}:{shelf.label}, {files}"
        lines = [f"in the repo {self.name}", f"on disk {self.final}", settings]
        return "\n  ".join([first, *lines, *(told(fault) for fault in self.faults)])


def way_of(number: int) -> Way:
    """Return how the run of a number is done."""
    return [way for way, count in WAYS.items() for _ in range(count)][number]


def has_token(number: int) -> bool:
    """Tell whether the run of a number has a token."""
    return bool(number % 2)


def make_run(seed: str, number: int) -> Run:
    """Return a run of a seed by its number, from 0 on."""
    rng, way = Random(f"{seed}-{number}"), way_of(number)
    shelf = make_shelf(rng, f"r{number:04d}x{rng.randrange(1000):03d}")
    cache = rng.random() < (0.3 if shelf.lfs else 0.05) and way not in {"small disk", "read-only"}
    before = _before(rng, way, cache=cache)
    repo = _repo(rng, shelf, before, way)
    return Run(
        seed=seed,
        number=number,
        way=way,
        shelf=shelf,
        before=before,
        repo=repo,
        faults=_faults(rng, shelf, way),
        cache=cache,
        token=has_token(number),
        force=before == "foreign" and rng.random() < 0.3,
        revision="v1" if repo == "no revision" else rng.choice((None, None, None, "main", COMMIT)),
        connections=rng.choice((1, 2, 3, 8)),
        timeout=rng.choice((0.4, 0.6, 0.8)),
        no_blobs=rng.random() < 0.1,
        page_size=rng.choice((3, 20, 100, 1000)) if len(shelf.files) < 100 else 400,
        link_lifetime=rng.choice((None, None, 0.05, 0.4)) if way != "inside" else None,
        api_limit=rng.choice((None, None, None, 0, 1)) if way != "inside" else None,
        pace=rng.choice((0.0, 0.5, 1.2, 2.4)) if way in {"killed", "stopped", "pair"} else 0.0,
        moment=rng.random(),
        pick=rng.randrange(1 << 30),
    )


def foreign_bytes(run: Run) -> bytes:
    """Return a user's own file that bears the name of one that the run wants."""
    rng = Random(run.pick)
    right = run.shelf.finals[run.final]
    choices = (b"mine", b"", make_gguf(rng, 5000), right[:-1], right[:-1] + bytes([right[-1] ^ 1]))
    return rng.choice(choices)


def _faults(rng: Random, shelf: Shelf, way: Way) -> tuple[Fault, ...]:
    calm = {"small disk": 1.0, "read-only": 1.0, "killed": 0.5, "stopped": 0.6, "pair": 0.3}
    return () if rng.random() < calm.get(way, 0.03) else make_faults(rng, shelf)


def _before(rng: Random, way: Way, *, cache: bool) -> Before:
    choices: list[Before] = ["nothing", "nothing", "nothing", "nothing", "right"]
    choices += ["wrong blob", "wrong link"] if cache else ["foreign"]
    if way == "inside":
        choices += ["half", "half", "lying half"]
    return "nothing" if way in {"small disk", "read-only"} else rng.choice(choices)


def _repo(rng: Random, shelf: Shelf, before: Before, way: Way) -> Repo:
    if before not in {"nothing", "right"} or way in {"small disk", "read-only"}:
        return "plain"
    odd: list[Repo] = ["replaced", "hostile", "gated", "gated", "no revision"]
    odd += ["false claim"] if shelf.lfs else []
    return rng.choice(odd) if rng.random() < 0.3 else "plain"
