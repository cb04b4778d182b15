"""What goes wrong in a run of the fault matrix: faults of all kinds at random places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.hub import faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.hub.faults import Fault, Where
    from tests.hub.matrix_shelf import Shelf

#: Stands in a redirect for the address of another host, which is known once it runs.
ELSEWHERE = "http://elsewhere.invalid"

#: Seconds of silence: longer than any time limit of the matrix, and soon over.
_SILENCE = 2.5

#: A try that brings as much counts as progress, and is followed by another without end.
_PROGRESS = 64 << 10


@dataclass(frozen=True)
class Spot:
    """Where on the way to a repo a fault can be put: a random one of its files is at hand."""

    rng: Random
    shelf: Shelf
    name: str

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.shelf.wanted[self.name])

    @property
    def api(self) -> str:
        """What the addresses of listings hold."""
        return f"/api/models/{self.shelf.repo_id}"

    @property
    def links(self) -> str:
        """What the addresses hold that redirect to the CDN."""
        return f"/{self.shelf.repo_id}/resolve/"

    def bytes(self, times: int | None = None) -> Where:
        """Say where the bytes come from: of one file, or of all of the repo."""
        if not self.shelf.lfs:
            path = f"resolve-cache/models/{self.shelf.repo_id}"
            return {"server": "hub", "path": path, "times": times}
        path = self.rng.choice((self.name, self.shelf.mark))
        return {"server": "cdn", "path": path, "times": times}

    def place(self) -> int:
        """Return how far into the file, mostly where ranges and blocks neither begin nor end."""
        return self.rng.choice(
            (self.rng.randrange(self.size), self.rng.randrange(min(self.size, 5000)), 0)
        )

    def times(self) -> int | None:
        """Return how often: once, a few times or always."""
        return self.rng.choice((1, 1, 1, 2, 3, 6, None))


def make_faults(rng: Random, shelf: Shelf) -> tuple[Fault, ...]:
    """Return one to four faults."""
    names = [rng.choice(sorted(shelf.wanted)) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    return tuple(rng.choice(_KINDS)(Spot(rng, shelf, name)) for name in names)


def addressed(fault: Fault, elsewhere: str) -> Fault:
    """Return a fault with the address of the other host in place of what stands for it."""
    if not leads_elsewhere(fault):
        return fault
    place = fault.headers["Location"].removeprefix(ELSEWHERE)
    return replace(fault, headers={"Location": elsewhere + place})


def leads_elsewhere(fault: Fault) -> bool:
    """Tell whether a fault leads to the other host."""
    return fault.headers.get("Location", "").startswith(ELSEWHERE)


def told(fault: Fault) -> str:
    """Return a fault in words for a report."""
    plain = faults.Fault(fault.kind)
    said = {
        name: value for name, value in vars(fault).items() if value != getattr(plain, name, None)
    }
    said.pop("kind", None)
    return f"{fault.kind}({', '.join(f'{key}={value!r}' for key, value in said.items())})"


def _cut(spot: Spot) -> Fault:
    cut = spot.rng.choice((faults.drop, faults.reset))
    return cut(spot.place(), **spot.bytes(spot.times()))


def _cut_listing(spot: Spot) -> Fault:
    where: Where = {"server": "hub", "path": spot.api, "times": spot.times()}
    return faults.drop(spot.rng.randrange(40), **where)


def _stall(spot: Spot) -> Fault:
    times, place = spot.times(), spot.place()
    if times is None and place >= _PROGRESS:
        place = max(place, spot.size // 6)
    return faults.stall(place, _SILENCE, **spot.bytes(times))


def _hang(spot: Spot) -> Fault:
    times = spot.rng.choice((1, 2, None))
    path = spot.rng.choice((spot.api, spot.links, spot.name))
    return faults.hang(_SILENCE, path=path, times=times)


def _slow(spot: Spot) -> Fault:
    # It may hit any file of the repo, and a slow one is to arrive before patience ends.
    largest = max(map(len, spot.shelf.wanted.values()))
    rate = max(20_000, largest // spot.rng.choice((1, 2)))
    return faults.slow(rate, **spot.bytes(spot.times()))


def _corrupt(spot: Spot) -> Fault:
    length = spot.rng.choice((1, 16, 4096))
    at = spot.rng.choice((spot.place(), spot.size - 1, spot.size // 2))
    return faults.corrupt(at, length, **spot.bytes(spot.times()))


def _length(spot: Spot) -> Fault:
    by = spot.rng.choice((1, 100, spot.rng.randint(1, spot.size)))
    return spot.rng.choice((faults.short, faults.extra))(by, **spot.bytes(spot.times()))


def _no_range(spot: Spot) -> Fault:
    return faults.no_range(**spot.bytes(spot.times()))


def _wrong_range(spot: Spot) -> Fault:
    shift, total = spot.rng.choice(((1, 0), (-1, 0), (4096, 0), (0, 1), (0, 10**12), (7, 99)))
    return faults.wrong_range(shift, total, **spot.bytes(spot.times()))


def _portal(spot: Spot) -> Fault:
    everywhere: Where = {"server": None, "path": spot.shelf.mark, "times": spot.times()}
    return faults.html(**spot.rng.choice((everywhere, spot.bytes(spot.times()))))


def _limit(spot: Spot) -> Fault:
    return faults.limit_connections(spot.rng.randint(1, 3), **spot.bytes())


def _status(spot: Spot) -> Fault:
    code = spot.rng.choice((408, 429, 429, 500, 502, 503, 504))
    path = spot.rng.choice((spot.api, spot.links, spot.name))
    times = spot.rng.choice((1, 1, 2, 3, 4, 5, 6, None))
    headers = _waits(spot.rng) if code in {429, 503} else {}
    return faults.status(code, headers=headers, path=path, times=times)


def _waits(rng: Random) -> dict[str, str]:
    return rng.choice(
        (
            {},
            {"Retry-After": "0"},
            {"Retry-After": "1"},
            {"Retry-After": "999"},
            {"Retry-After": "soon"},
            {"Retry-After": formatdate(0, usegmt=True)},
            {"RateLimit": '"api";r=0;t=1'},
            {"RateLimit": '"api";r=3;t=200'},
        )
    )


def _gone(spot: Spot) -> Fault:
    return faults.status(spot.rng.choice((403, 404, 410)), **spot.bytes(spot.times()))


def _vanished(spot: Spot) -> Fault:
    code, word = spot.rng.choice(
        ((404, "RevisionNotFound"), (404, "EntryNotFound"), (401, "RepoNotFound"), (451, ""))
    )
    path = spot.rng.choice((spot.api, spot.links))
    return faults.status(code, x_error_code=word, path=path, times=spot.times())


def _elsewhere(spot: Spot) -> Fault:
    """Redirect a file to another host that has it, has another one in its place, or has none."""
    name = spot.rng.choice((spot.name, spot.name, *list(spot.shelf.files)[:2], "nothing"))
    place = f"{ELSEWHERE}{spot.links}main/{quote(name)}"
    return faults.redirect_to(place, path=spot.links, times=spot.times())


def _astray(spot: Spot) -> Fault:
    if spot.rng.random() < 0.3:
        return faults.redirect_loop(path=spot.links, times=spot.times())
    places = ("file:///etc/hostname", "ftp://127.0.0.1/x", "http://[", "//", "http://127.0.0.1:1/x")
    return faults.redirect_to(spot.rng.choice(places), path=spot.links, times=spot.times())


_KINDS: tuple[Callable[[Spot], Fault], ...] = (
    *(_cut, _cut, _cut, _stall, _hang, _slow, _cut_listing),
    *(_corrupt, _corrupt, _length, _no_range, _wrong_range, _portal, _limit),
    *(_status, _status, _status, _gone, _vanished, _elsewhere, _astray),
)
