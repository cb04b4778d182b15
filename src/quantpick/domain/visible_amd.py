"""Which of AMD's GPUs a ROCm program gets, by the environment variables that choose them.

ROCR_VISIBLE_DEVICES comes first and may change the order; HIP_VISIBLE_DEVICES, or
CUDA_VISIBLE_DEVICES in its place, counts what that left. Both are lists that end at their first
bad entry (ROCR-Runtime's amd_filter_device.cpp; ROCclr's rocdevice.cpp). HIP does not read
GPU_DEVICE_ORDINAL.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INDEX = re.compile(r"0|[1-9]\d{0,5}", re.ASCII)

#: Length of ``GPU-`` and one digit of the sixteen that follow.
_SHORTEST_UUID = 5


def hidden_by(environ: Mapping[str, str], uuids: Sequence[str | None]) -> tuple[str | None, ...]:
    """Return for each GPU what hides it, such as ``HIP_VISIBLE_DEVICES=1``; None where nothing.

    ``uuids`` are those of all GPUs, in the order of KFD's nodes.
    """
    everything = list(range(len(uuids)))
    first, after = everything, everything
    value = environ.get("ROCR_VISIBLE_DEVICES")
    if value is not None:
        first = after = parse_visible(value, uuids)
    name = "HIP_VISIBLE_DEVICES" if environ.get("HIP_VISIBLE_DEVICES") else "CUDA_VISIBLE_DEVICES"
    if chosen := environ.get(name):
        after = [first[index] for index in parse_visible(chosen, [uuids[gpu] for gpu in first])]
    reasons: list[str | None] = [f"{name}={chosen}"] * len(uuids)
    for gpu in everything:
        if gpu not in first:
            reasons[gpu] = f"ROCR_VISIBLE_DEVICES={value}"
        elif gpu in after:
            reasons[gpu] = None
    return tuple(reasons)


def parse_visible(value: str, uuids: Sequence[str | None]) -> list[int]:
    """Return the indexes that a list of indexes and UUIDs names, up to its first bad entry.

    An entry that comes twice is a bad one.
    """
    indexes: list[int] = []
    for entry in value.split(","):
        index = _parse_entry(entry.strip(), uuids)
        if index is None or index in indexes:
            break
        indexes.append(index)
    return indexes


def _parse_entry(entry: str, uuids: Sequence[str | None]) -> int | None:
    if _INDEX.fullmatch(entry):
        return int(entry) if int(entry) < len(uuids) else None
    beginning = entry.lower()
    if not beginning.startswith("gpu-") or len(beginning) < _SHORTEST_UUID:
        return None
    matching = [i for i, uuid in enumerate(uuids) if uuid and uuid.lower().startswith(beginning)]
    return matching[0] if len(matching) == 1 else None
