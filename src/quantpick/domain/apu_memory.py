"""What a GPU inside an AMD processor can have: its carve-out, and RAM through the GTT.

The firmware takes the carve-out (VRAM) away from RAM, so it is not part of it; the GTT is a window
on RAM, so it is. Where the GTT is the larger of the two the driver serves from it, else from the
carve-out alone (Linux commit 759e764f7d58). MI300A has no carve-out: all its memory is the host's
(ollama pull request 13463).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Cut, MemoryKind

if TYPE_CHECKING:
    from quantpick.domain.host import Ram


class Pool(NamedTuple):
    """A pool's size and what is used of it, in bytes; None where unknown."""

    total: int | None
    used: int | None

    def free(self, most: int) -> int | None:
        """Return what is free, ``most`` at most; None where unknown."""
        if self.total is None or self.used is None:
            return None
        return min(max(0, self.total - self.used), most)


class Memory(NamedTuple):
    """A device's memory in bytes; the fields are those of ``domain.host.Device``."""

    kind: MemoryKind | None = None
    total: int | None = None
    usable: int | None = None
    free: int | None = None
    cuts: tuple[Cut, ...] = ()
    gtt: int = 0


def card_memory(vram: Pool) -> Memory:
    """Return the memory of a card that has its own."""
    if vram.total is None:
        return Memory(MemoryKind.DEDICATED)
    return Memory(MemoryKind.DEDICATED, vram.total, vram.total, vram.free(vram.total))


def apu_memory(vram: Pool, gtt: Pool, ram: Ram, rocm: int | None) -> Memory:
    """Return the memory of a GPU inside a processor.

    ``rocm`` is what ROCm programs get, None where they do not count or it is unknown.
    """
    if gtt.total is None:
        return Memory()
    if vram.total is None:
        return _host_memory(gtt, min(gtt.total, ram.total), ram)
    if gtt.total <= vram.total:
        return card_memory(vram)._replace(kind=MemoryKind.CARVE_OUT_GTT)
    room = min(gtt.total, ram.total)
    both = vram.total + room
    usable = both if rocm is None else min(both, rocm)
    # ROCm leaves the carve-out alone as long as it serves from the GTT.
    borrowed = min(room, usable)
    own_free, gtt_free = vram.free(usable - borrowed), _free_gtt(gtt, borrowed, ram)
    return Memory(
        MemoryKind.CARVE_OUT_GTT,
        vram.total + gtt.total,
        usable,
        None if own_free is None or gtt_free is None else own_free + gtt_free,
        (
            *_cut("gtt_beyond_ram", gtt.total - room, "GTT beyond the RAM there is"),
            *_cut("rocm_limit", both - usable, "not given to ROCm programs (KFD)"),
        ),
        borrowed,
    )


def _host_memory(gtt: Pool, usable: int, ram: Ram) -> Memory:
    cuts = _cut("gtt_limit", ram.total - usable, "RAM beyond the driver's limit (GTT)")
    free = _free_gtt(gtt, usable, ram)
    return Memory(MemoryKind.UNIFIED, ram.total, usable, free, cuts)


def _free_gtt(gtt: Pool, most: int, ram: Ram) -> int | None:
    return None if ram.available is None else gtt.free(min(most, ram.available))


def _cut(code: str, size: int, message: str) -> tuple[Cut, ...]:
    return (Cut(code, size, message),) if size > 0 else ()
