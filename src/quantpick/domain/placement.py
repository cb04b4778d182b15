"""Where a quant would run: all layers on the GPU, some, or none; and what is missing for it."""

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

#: The margin of the rule of thumb on model cards: a file 1 to 2 GB smaller than the memory. The
#: smaller one stays free in RAM as well, where the system and other programs live.
TIGHT_MARGIN = 1 * GB
COMFORTABLE_MARGIN = 2 * GB


class Layout(NamedTuple):
    """One way to run a file; ``short_by`` bytes are missing for it, none when it is not above 0."""

    placement: Placement
    n_gpu_layers: int | None
    memory: Memory
    short_by: int


def lay_out(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Return the fastest layout that the host's memory allows, or a TOO_LARGE one."""
    if not host.devices:
        return _checked(_in_ram(file, shape, host, need))
    full = _full_offload(file, shape, host, need)
    if full.short_by <= 0:
        return full
    partial = _partial_offload(file, shape, host, need)
    # With hardly any VRAM not one layer goes there; then RAM has to do alone.
    return _checked(partial if partial.n_gpu_layers != 0 else _in_ram(file, shape, host, need))


def _checked(layout: Layout) -> Layout:
    return layout if layout.short_by <= 0 else layout._replace(placement=Placement.TOO_LARGE)


def _in_ram(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout:
    memory = estimate_memory(file.file_bytes, shape, need, gpus=0)
    return Layout(Placement.CPU, 0, memory, memory.total + TIGHT_MARGIN - host.ram.total)


def _full_offload(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout:
    memory = estimate_memory(file.file_bytes, shape, need, gpus=len(host.devices))
    layers = shape.block_count + 1 if shape else None
    return Layout(Placement.FULL_OFFLOAD, layers, memory, memory.total - host.vram)


def _partial_offload(file: QuantFile, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Put as many layers on the GPU as leave the tight margin free there, the rest in RAM.

    The output layer counts as one more layer of the same size, which overstates a layer by about
    2 % (70B Q4_K_M: 525 MB for a true 513 MB) and so errs towards fewer layers. Without the shape
    the number of layers is unknown, and they count as if they could be cut anywhere.
    """
    memory = estimate_memory(file.file_bytes, shape, need, gpus=len(host.devices))
    room = max(0, host.vram - TIGHT_MARGIN - (memory.compute or 0))
    spread = memory.weights + (memory.kv_cache or 0)
    layers, on_gpu = None, min(room, spread)
    if shape is not None:
        layer_bytes = spread // (shape.block_count + 1)
        layers = min(shape.block_count, room // max(layer_bytes, 1))
        on_gpu = layers * layer_bytes
    unified = all(device.memory_kind is MemoryKind.UNIFIED for device in host.devices)
    in_ram = spread - (0 if unified else on_gpu) + (memory.compute or 0) * unified
    return Layout(Placement.PARTIAL_OFFLOAD, layers, memory, in_ram + TIGHT_MARGIN - host.ram.total)
