"""Where a quant would run: all layers on the GPU, some, or none; and what is missing for it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.cache import layer_caches
from quantpick.domain.host import MemoryKind
from quantpick.domain.memory import Memory, Split, estimate_memory, estimate_scratch
from quantpick.domain.units import GB, GIB
from quantpick.domain.verdict import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Host
    from quantpick.domain.need import Need
    from quantpick.domain.shape import Shape
    from quantpick.domain.weights import Weights

#: The margin of the rule of thumb on model cards: a file 1 to 2 GB smaller than the memory. The
#: smaller one stays free in RAM as well, where the system and other programs live.
TIGHT_MARGIN = 1 * GB
COMFORTABLE_MARGIN = 2 * GB

#: What stays free on each device when layers are chosen to fill it, as with llama.cpp's own
#: ``--fit-target``; the backend's overhead is part of it.
FIT_MARGIN = 1 * GIB


class Layout(NamedTuple):
    """One way to run a file; ``short_by`` bytes are missing for it, none when it is not above 0.

    ``no_repack`` marks a layout that fits only without the CPU's second copy of the weights.
    ``whole`` is the layout with all layers on the devices where that does not fit.
    """

    placement: Placement
    split: Split
    memory: Memory
    short_by: int
    no_repack: bool = False
    whole: Layout | None = None


def lay_out(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Return the fastest layout that the host's memory allows, or a TOO_LARGE one."""
    if not host.devices:
        return _checked(_in_ram(weights, shape, host, need))
    full = _full_offload(weights, shape, host, need)
    if full.short_by <= 0:
        return full
    partial = _partial_offload(weights, shape, host, need)
    # With hardly any VRAM not one layer goes there; then RAM has to do alone.
    best = partial if partial.split.n_gpu_layers else _in_ram(weights, shape, host, need)
    return _checked(best._replace(whole=full))


def _checked(layout: Layout) -> Layout:
    return layout if layout.short_by <= 0 else layout._replace(placement=Placement.TOO_LARGE)


def _in_ram(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Lay out on the CPU, with the repacked copy of the weights if there is room for it."""
    repack = 0 if host.devices else _repacked(weights, host)
    memory = estimate_memory(weights, shape, need, (), Split(repack=repack))
    no_repack = repack > 0 and memory.total + TIGHT_MARGIN > host.ram.total
    split = Split(repack=0 if no_repack else repack)
    if no_repack:
        memory = estimate_memory(weights, shape, need, (), split)
    short_by = memory.total + TIGHT_MARGIN - host.ram.total
    return Layout(Placement.CPU, split, memory, short_by, no_repack=no_repack)


def _repacked(weights: Weights, host: Host) -> int:
    """Bytes of the matrices that this CPU's kernels want in another order."""
    types = host.cpu.repacked_types
    return sum(size for name, size in weights.matrices if name in types)


def _full_offload(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Put all layers on the devices, in proportion to their memory unless that does not fit."""
    count = len(weights.layers) + 1
    usable = [device.usable for device in host.devices]
    layout = _whole(weights, shape, host, need, proportional(count, usable))
    if layout.short_by <= 0 or len(usable) == 1:
        return layout
    filled = _fill(_Costs(weights, shape, need), 0, _budgets(weights, shape, host, need))
    return layout if filled is None else _whole(weights, shape, host, need, filled)


def _whole(
    weights: Weights, shape: Shape | None, host: Host, need: Need, shares: tuple[int, ...]
) -> Layout:
    split = Split(shares)
    memory = estimate_memory(weights, shape, need, host.devices, split)
    short_by = max(_vram_short(memory, host), _ram_short(memory, host))
    return Layout(Placement.FULL_OFFLOAD, split, memory, short_by)


def _partial_offload(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Put as much on the devices as leaves the margin free there, the rest in RAM.

    Routed experts go to RAM first, layer by layer: they are most of a file and the least used.
    Only when the devices cannot hold the rest whole are layers moved as well. Without the shape
    the file counts as if it could be cut anywhere.
    """
    if shape is None:
        return _cut_anywhere(weights, host, need)
    budgets = _budgets(weights, shape, host, need)
    split = _with_experts_in_ram(weights, shape, need, budgets)
    split = split or _with_layers_in_ram(weights, shape, need, budgets)
    memory = estimate_memory(weights, shape, need, host.devices, split)
    return Layout(Placement.PARTIAL_OFFLOAD, split, memory, _ram_short(memory, host))


class _Costs:
    """Bytes on a device of the layers from any one on, as sums from the first layer."""

    def __init__(
        self, weights: Weights, shape: Shape | None, need: Need, n_cpu_moe: int = 0
    ) -> None:
        caches = layer_caches(shape, need) if shape else (0,) * len(weights.layers)
        costs = [
            (layer.dense if index < n_cpu_moe else layer.total) + cache
            for index, (layer, cache) in enumerate(zip(weights.layers, caches, strict=True))
        ]
        self.sums = list(accumulate((*costs, weights.output), initial=0))
        self.count = len(costs) + 1


def _fill(costs: _Costs, first: int, budgets: Sequence[int]) -> tuple[int, ...] | None:
    """Give the layers from ``first`` on to the devices in turn, None where they do not fit."""
    shares, start = [], first
    for budget in budgets:
        end = bisect_right(costs.sums, costs.sums[start] + budget) - 1
        end = max(start, min(end, costs.count))
        shares.append(end - start)
        start = end
    return tuple(shares) if start == costs.count else None


def _with_experts_in_ram(
    weights: Weights, shape: Shape, need: Need, budgets: Sequence[int]
) -> Split | None:
    """Keep the experts of the fewest first layers in RAM and all else on the devices."""
    if not weights.has_experts:
        return None
    low, high = 1, len(weights.layers)
    best = None
    while low <= high:
        middle = (low + high) // 2
        shares = _fill(_Costs(weights, shape, need, middle), 0, budgets)
        if shares is None:
            low = middle + 1
        else:
            best, high = Split(shares, middle), middle - 1
    return best


def _with_layers_in_ram(
    weights: Weights, shape: Shape, need: Need, budgets: Sequence[int]
) -> Split:
    """Keep the fewest first layers in RAM, and the experts of all layers too."""
    n_cpu_moe = len(weights.layers) if weights.has_experts else 0
    costs = _Costs(weights, shape, need, n_cpu_moe)
    low, high = 1, costs.count
    best = Split((0,) * len(budgets), n_cpu_moe)
    while low <= high:
        middle = (low + high) // 2
        shares = _fill(costs, middle, budgets)
        if shares is None:
            low = middle + 1
        else:
            best, high = Split(shares, n_cpu_moe), middle - 1
    return best


def _budgets(weights: Weights, shape: Shape | None, host: Host, need: Need) -> list[int]:
    """Bytes on each device for layers, with the margin and the scratch memory set aside."""
    shares = (1,) * len(host.devices)
    scratch = estimate_scratch(weights, shape, need, Split(shares, len(weights.layers)))
    budgets = [
        device.usable - FIT_MARGIN - size
        for device, size in zip(host.devices, scratch or (0,) * len(shares), strict=False)
    ]
    budgets[0] -= need.projector
    return budgets


def _cut_anywhere(weights: Weights, host: Host, need: Need) -> Layout:
    memory = estimate_memory(weights, None, need, (), Split())
    budget = sum(max(0, device.usable - FIT_MARGIN) for device in host.devices)
    on_gpu = min(budget, memory.weights)
    shared = sum(_is_unified(host)) * on_gpu
    short_by = memory.weights - on_gpu + shared + TIGHT_MARGIN - host.ram.total
    return Layout(Placement.PARTIAL_OFFLOAD, Split((1,)), memory, short_by)


def proportional(count: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Share ``count`` layers out in proportion to the sizes, all of them and none twice."""
    edges = [count * done // max(sum(sizes), 1) for done in accumulate(sizes, initial=0)]
    return tuple(end - start for start, end in pairwise(edges))


def _vram_short(memory: Memory, host: Host) -> int:
    """Bytes missing on the devices, on the one that misses most."""
    return max(
        use.total - device.usable for use, device in zip(memory.devices, host.devices, strict=True)
    )


def _ram_short(memory: Memory, host: Host) -> int:
    """Bytes missing in RAM, of which unified devices are a part."""
    shared = sum(
        use.total
        for use, device in zip(memory.devices, host.devices, strict=False)
        if device.memory_kind is MemoryKind.UNIFIED
    )
    return memory.host.total + shared + TIGHT_MARGIN - host.ram.total


def _is_unified(host: Host) -> list[bool]:
    return [device.memory_kind is MemoryKind.UNIFIED for device in host.devices[:1]]
