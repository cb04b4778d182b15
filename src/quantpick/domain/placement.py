"""Where a quant would run: all layers on the GPU, some, or none; and what lands in which memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import MemoryKind
from quantpick.domain.memory import Memory, estimate_memory
from quantpick.domain.units import GB
from quantpick.domain.verdict import Placement

if TYPE_CHECKING:
    from quantpick.domain.host import Host
    from quantpick.domain.model import QuantFile, Shape
    from quantpick.domain.need import Need

#: The margin of the rule of thumb on model cards: a file 1 to 2 GB smaller than the memory.
TIGHT_MARGIN = 1 * GB
COMFORTABLE_MARGIN = 2 * GB


class Layout(NamedTuple):
    """One way to run a file. ``ram_bytes`` is the part outside the GPU's own memory."""

    placement: Placement
    n_gpu_layers: int | None
    memory: Memory
    ram_bytes: int


def lay_out(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Return the fastest layout that the host's memory allows, or a TOO_LARGE one."""
    full = _full_offload(file, shape, host, need)
    if full is not None:
        return full
    partial = _partial_offload(file, shape, host, need)
    if partial is not None:
        return partial
    memory = estimate_memory(file.file_bytes, shape, need, gpus=0)
    # The system and other programs live in RAM as well: the tight margin stays free there.
    fits = memory.total <= host.ram.total - TIGHT_MARGIN
    placement = Placement.CPU if fits else Placement.TOO_LARGE
    return Layout(placement, 0, memory, memory.total)


def _full_offload(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout | None:
    memory = estimate_memory(file.file_bytes, shape, need, gpus=len(host.devices))
    if not host.devices or memory.total > host.vram:
        return None
    layers = shape.block_count + 1 if shape else None
    return Layout(Placement.FULL_OFFLOAD, layers, memory, 0)


def _partial_offload(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout | None:
    """Put as many layers on the GPU as leave the tight margin free there and in RAM.

    The output layer counts as one more layer of the same size, which overstates a layer by about
    2 % (70B Q4_K_M: 525 MB for a true 513 MB) and so errs towards fewer layers. Without the shape
    the number of layers is unknown, not that some of them fit.
    """
    memory = estimate_memory(file.file_bytes, shape, need, gpus=len(host.devices))
    room = host.vram - TIGHT_MARGIN - (memory.compute or 0)
    if not host.devices or room <= 0 or memory.total > host.pool - TIGHT_MARGIN:
        return None
    if shape is None:
        return Layout(Placement.PARTIAL_OFFLOAD, None, memory, max(0, memory.total - room))
    layer_bytes = (memory.weights + (memory.kv_cache or 0)) // (shape.block_count + 1)
    layers = min(shape.block_count, room // max(layer_bytes, 1))
    on_gpu = layers * layer_bytes + (memory.compute or 0)
    ram_bytes = memory.total - on_gpu
    unified = all(d.memory_kind is MemoryKind.UNIFIED for d in host.devices)
    if layers < 1 or (ram_bytes > host.ram.total - TIGHT_MARGIN and not unified):
        return None
    return Layout(Placement.PARTIAL_OFFLOAD, layers, memory, ram_bytes)
