"""What a run of the fault matrix finds on the Hub: a repo of a random shape, of valid GGUF files.

All tensor data are random bytes, so that a byte at a wrong place is a wrong byte.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tests.support.gguf_files import split_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

Shape = Literal["single", "shards", "raw parts"]

LABELS = ("Q2_K", "Q4_K_M", "Q5_K_S", "Q6_K", "Q8_0", "IQ4_XS", "F16")
OWNER = "matrix"

_TENSORS = 6
_ALIGNMENT = 32
_SMALLEST, _LARGEST = 30_000, 12_000_000
#: Files above this come in several ranges.
_ONE_RANGE = 4 << 20


@dataclass(frozen=True)
class Shelf:
    """A repo: its files, and the quant of it that a run asks for.

    ``mark`` is part of every name and of no other run's. ``finals`` are the files that the quant
    makes on disk, by path.
    """

    mark: str
    label: str
    shape: Shape
    wanted: Mapping[str, bytes]
    finals: Mapping[str, bytes]
    others: Mapping[str, bytes] = field(default_factory=dict)
    projector: bool = False

    @property
    def repo_id(self) -> str:
        """The repo's name."""
        return f"{OWNER}/{self.mark}-GGUF"

    @property
    def files(self) -> dict[str, bytes]:
        """All files of the repo."""
        return {**self.others, **self.wanted}

    @cached_property
    def listed(self) -> dict[str, str]:
        """The sha256 of each file that the quant makes on disk."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.finals.items()}

    @property
    def lfs(self) -> bool:
        """Whether the Hub on loopback sends the files from its CDN, and lists their sha256."""
        return self.shape != "raw parts"


def make_shelf(rng: Random, mark: str) -> Shelf:
    """Return a repo of a random shape."""
    label = rng.choice(LABELS)
    shape: Shape = rng.choice(("single", "single", "single", "shards", "shards", "raw parts"))
    whole = make_gguf(rng, _size(rng))
    folder = rng.choice(("", "", f"{label}/", "deep/er/"))
    stem = f"{mark}-{_padding(rng)}{label}"
    wanted, finals = _cut(rng, whole, shape, folder, stem)
    others = _others(rng, mark, label)
    projector = rng.random() < 0.2
    if projector:
        name = f"mmproj-{mark}-F16.gguf"
        wanted[name] = finals[name] = make_gguf(rng, 20_000)
    return Shelf(mark, label, shape, wanted, finals, others, projector)


def make_gguf(rng: Random, size: int) -> bytes:
    """Return a valid GGUF of about so many bytes, with six tensors of one dimension."""
    count = max(1, size // _TENSORS // _ALIGNMENT) * _ALIGNMENT // 4
    text = struct.pack("<I", 8) + _text("llama")
    head = b"GGUF" + struct.pack("<IQQ", 3, _TENSORS, 1) + _text("general.architecture") + text
    for number in range(_TENSORS):
        place = struct.pack("<IQIQ", 1, count, 0, number * count * 4)
        head += _text(f"blk.{number}.weight") + place
    head += bytes(-len(head) % _ALIGNMENT)
    return head + rng.randbytes(_TENSORS * count * 4)


def _cut(
    rng: Random, whole: bytes, shape: Shape, folder: str, stem: str
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of a quant in the repo, and on disk."""
    path = f"{folder}{stem}.gguf"
    if shape == "shards":
        shards = _shards(whole, stem, rng.randint(2, 5))
        made = {f"{folder}{name}": data for name, data in shards.items()}
        return made, dict(made)
    if shape == "raw parts":
        count = rng.randint(2, 4)
        cuts = [0, *sorted(rng.sample(range(1, len(whole)), count - 1)), len(whole)]
        names = _raw_names(rng, path, count)
        return {n: whole[cuts[i] : cuts[i + 1]] for i, n in enumerate(names)}, {path: whole}
    return {path: whole}, {path: whole}


def _shards(whole: bytes, stem: str, count: int) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        source = Path(folder, f"{stem}.gguf")
        source.write_bytes(whole)
        made = split_gguf(source, Path(folder, "cut"), count)
        return {path.name: path.read_bytes() for path in made}


def _raw_names(rng: Random, path: str, count: int) -> list[str]:
    if rng.random() < 0.5:
        return [f"{path}.part{number}of{count}" for number in range(1, count + 1)]
    return [f"{path}-split-{'abcd'[number]}" for number in range(count)]


def _others(rng: Random, mark: str, label: str) -> dict[str, bytes]:
    """Return files beside the quant: other quants, a card, and now and then thousands of notes."""
    labels = rng.sample([name for name in LABELS if name != label], rng.randint(0, 3))
    others = {f"{mark}-{name}.gguf": make_gguf(rng, 2000) for name in labels}
    others["README.md"] = b"# card"
    if rng.random() < 0.04:
        others |= {f"notes/{n:04d}.txt": b"" for n in range(rng.randint(1500, 4000))}
    return others


def _size(rng: Random) -> int:
    if rng.random() < 0.3:
        return rng.randint(_ONE_RANGE, _LARGEST)
    return int(_SMALLEST * (_ONE_RANGE / _SMALLEST) ** rng.random())


def _padding(rng: Random) -> str:
    """Return a part of a name that is nothing as a rule, and now and then long or not ASCII."""
    return rng.choice((*[""] * 12, "x" * 200 + "-", "ü" * 90 + "-", "Ж 漢 -"))


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
