"""What one source tells of one device, before the sources are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quantpick.domain.host import Backend, Caveat, Cut, MemoryKind, SourceState


class Sighting(NamedTuple):
    """One device as one source sees it; None where that does not tell. Sizes are bytes.

    The fields are those of ``domain.host.Device``. ``free_source`` and ``usable_source`` are named
    where they differ from ``source``. ``hidden`` says in words why programs do not get the device,
    such as ``CUDA_VISIBLE_DEVICES=1``; ``software`` marks a processor that poses as a GPU.
    """

    source: str
    name: str
    memory_kind: MemoryKind | None = None
    total: int | None = None
    usable: int | None = None
    free: int | None = None
    usable_source: str | None = None
    free_source: str | None = None
    cuts: tuple[Cut, ...] = ()
    gtt: int = 0
    backends: tuple[Backend, ...] = ()
    arch: str | None = None
    fp16: bool | None = None
    bf16: bool | None = None
    bandwidth: int | None = None
    integrated: bool | None = None
    pci: str | None = None
    uuid: str | None = None
    engine_id: str | None = None
    hidden: str | None = None
    software: bool = False


class Answer(NamedTuple):
    """What a source saw, how it went (one state or more), and what the user should know."""

    sightings: tuple[Sighting, ...] = ()
    states: tuple[SourceState, ...] = ()
    caveats: tuple[Caveat, ...] = ()
