"""Where a quant would run: all layers on the GPU, some, or none; and what is missing for it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.cache import layer_caches
from quantpick.domain.memory import (
    Memory,
    Split,
    backend_overhead,
    estimate_memory,
    estimate_scratch,
    projector_scratch,
)
from quantpick.domain.units import GB, GIB
from quantpick.domain.verdict import Placement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    ``flags`` are what llama-server has to be told beside the split. ``whole`` is the layout with
    all layers on the devices where that does not fit.
    """

    placement: Placement
    split: Split
    memory: Memory
    short_by: int
    flags: tuple[str, ...] = ()
    whole: Layout | None = None


def lay_out(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Return the fastest layout that the host's memory allows, or a TOO_LARGE one."""
    if not host.devices:
        return _checked(_in_ram(weights, shape, host, need))
    full = _full_offload(weights, shape, host, need)
    if full.short_by <= 0:
        return full
    partial = _partial_offload(weights, shape, host, need)
    if partial is not None and partial.short_by <= 0:
        return partial._replace(whole=full)
    # With hardly any VRAM not one layer goes there; then RAM has to do alone.
    alone = _in_ram(weights, shape, host, need)
    nearest = min((layout for layout in (alone, partial) if layout), key=lambda it: it.short_by)
    return _checked(nearest._replace(whole=full))


def _checked(layout: Layout) -> Layout:
    return layout if layout.short_by <= 0 else layout._replace(placement=Placement.TOO_LARGE)


def _in_ram(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Lay out on the CPU, with the repacked copy of the weights if there is room for it.

    Where there are devices they are switched off: llama.cpp would compute batches on them.
    """
    off = ("--device", "none") if host.devices else ()
    repack = _repacked(weights, host)
    choices = [(Split(repack=repack), off)]
    if repack:
        choices.append((Split(), (*off, "--no-repack")))
    for split, flags in choices:
        memory = estimate_memory(weights, shape, need, (), split)
        short_by = memory.total + TIGHT_MARGIN - host.ram.total
        layout = Layout(Placement.CPU, split, memory, short_by, flags)
        if short_by <= 0:
            break
    return layout


def _repacked(weights: Weights, host: Host) -> int:
    """Bytes of the matrices that this CPU's kernels want in another order."""
    types = host.cpu.repacked_types
    return sum(size for name, size in weights.matrices if name in types)


def _full_offload(weights: Weights, shape: Shape | None, host: Host, need: Need) -> Layout:
    """Put all layers on the devices: on all of them, or on the largest ones where that fits.

    In proportion to their memory if that fits, else half-way between filling the first and the last
    ones, else filling the first ones. The layout on all devices in proportion is the answer where
    none fits.
    """
    tried = []
    by_size = sorted(range(len(host.devices)), key=lambda index: -host.devices[index].usable)
    for count in range(len(by_size), 0, -1):
        chosen = set(by_size[:count])
        for shares in _whole_shares(weights, shape, host, need, chosen):
            layout = _whole(weights, shape, host, need, shares)
            if layout.short_by <= 0:
                return layout
            tried.append(layout)
    return tried[0]


def _whole_shares(
    weights: Weights, shape: Shape | None, host: Host, need: Need, chosen: set[int]
) -> Iterator[tuple[int, ...]]:
    """Yield the ways to share all layers out over the chosen devices."""
    usable = [device.usable if index in chosen else 0 for index, device in enumerate(host.devices)]
    shares = proportional(len(weights.layers) + 1, usable)
    yield shares
    if len(chosen) > 1:
        scratch = estimate_scratch(weights, shape, need, Split(shares))
        budgets = [
            size - backend_overhead(device) - (scratch[index] if scratch else 0) if size else 0
            for index, (size, device) in enumerate(zip(usable, host.devices, strict=True))
        ]
        budgets[0] -= need.projector + projector_scratch(need.projector)
        costs = _Costs(weights, shape, need)
        filled = _fill(costs, 0, budgets)
        if filled is not None:
            yield _between(filled, _fill_back(costs, budgets))
            yield filled


def _whole(
    weights: Weights, shape: Shape | None, host: Host, need: Need, shares: tuple[int, ...]
) -> Layout:
    split = Split(shares)
    memory = estimate_memory(weights, shape, need, host.devices, split)
    short_by = max(_vram_short(memory, host), _ram_short(memory, host, spare=0))
    return Layout(Placement.FULL_OFFLOAD, split, memory, short_by)


def _partial_offload(
    weights: Weights, shape: Shape | None, host: Host, need: Need
) -> Layout | None:
    """Put as much on the devices as leaves the margin free there, the rest in RAM.

    Routed experts go to RAM first, layer by layer: they are most of a file and the least used.
    Only when the devices cannot hold the rest whole are layers moved as well. Where the first
    device has no room for what llama.cpp would copy to it, that is switched off, and where it has
    none for a projector, that stays in RAM. Without the shape the file counts as if it could be
    cut anywhere. None where no layer fits a device.
    """
    if shape is None:
        return _cut_anywhere(weights, host, need)
    large = need.projector + projector_scratch(need.projector)
    in_ram = bool(need.projector) and large + FIT_MARGIN > host.devices[0].usable
    flags = ("--no-mmproj-offload",) if in_ram else ()
    for op_offload, more in ((True, ()), (False, ("--no-op-offload",))):
        kept = Split(op_offload=op_offload, projector_in_ram=in_ram)
        budgets = _budgets(weights, shape, host, need, kept)
        split = _with_experts_in_ram(weights, shape, need, budgets)
        split = split or _with_layers_in_ram(weights, shape, need, budgets)
        split = kept._replace(shares=split.shares, n_cpu_moe=split.n_cpu_moe)
        memory = estimate_memory(weights, shape, need, host.devices, split)
        if split.n_gpu_layers and _leaves_margin(memory, host):
            short_by = _ram_short(memory, host, spare=TIGHT_MARGIN)
            return Layout(Placement.PARTIAL_OFFLOAD, split, memory, short_by, (*flags, *more))
    return None


def _leaves_margin(memory: Memory, host: Host) -> bool:
    """Whether what llama.cpp puts on each device leaves the margin, if it puts anything there."""
    pairs = zip(memory.devices, host.devices, strict=True)
    return all(not use.engine or use.engine + FIT_MARGIN <= d.usable for use, d in pairs)


class _Costs:
    """Bytes on a device of the layers from any one on, as sums from the first layer."""

    def __init__(
        self, weights: Weights, shape: Shape | None, need: Need, n_cpu_moe: int = 0
    ) -> None:
        caches = layer_caches(shape, need) if shape else (0,) * len(weights.layers)
        # By index, because this runs for every layer of every quant.
        sizes = [layer[0] for layer in weights.layers[:n_cpu_moe]]
        sizes += [layer[0] + layer[1] for layer in weights.layers[n_cpu_moe:]]
        costs = list(map(add, sizes, caches))
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


def _fill_back(costs: _Costs, budgets: Sequence[int]) -> tuple[int, ...]:
    """Give all layers to the devices in turn from the last one, as many as each takes."""
    shares, end = [], costs.count
    for budget in reversed(budgets):
        start = min(end, bisect_left(costs.sums, costs.sums[end] - budget))
        shares.append(end - start)
        end = start
    return tuple(reversed(shares))


def _between(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Share the layers out half-way between two ways that use the same devices."""
    pairs = zip(accumulate(one), accumulate(other), strict=True)
    edges = [0, *((mine + theirs) // 2 for mine, theirs in pairs)]
    return tuple(end - start for start, end in pairwise(edges))


def _with_experts_in_ram(
    weights: Weights, shape: Shape, need: Need, budgets: Sequence[int]
) -> Split | None:
    """Keep the experts of the fewest first layers in RAM and all else on the devices."""
    if not weights.routed:
        return None

    def shares_with(n_cpu_moe: int) -> tuple[int, ...] | None:
        return _fill(_Costs(weights, shape, need, n_cpu_moe), 0, budgets)

    counts = range(1, len(weights.layers))
    n_cpu_moe = 1 + bisect_left(counts, x=True, key=lambda n: shares_with(n) is not None)
    shares = shares_with(n_cpu_moe)
    return None if shares is None else Split(shares, n_cpu_moe)


def _with_layers_in_ram(
    weights: Weights, shape: Shape, need: Need, budgets: Sequence[int]
) -> Split:
    """Keep the fewest first layers in RAM, and the experts of all layers too."""
    n_cpu_moe = len(weights.layers) if weights.routed else 0
    costs = _Costs(weights, shape, need, n_cpu_moe)
    counts = range(1, costs.count)
    first = 1 + bisect_left(counts, x=True, key=lambda n: _fill(costs, n, budgets) is not None)
    # With all of them in RAM there is nothing to share out.
    return Split(_fill(costs, first, budgets) or (0,) * len(budgets), n_cpu_moe)


def _budgets(weights: Weights, shape: Shape, host: Host, need: Need, split: Split) -> list[int]:
    """Bytes on each device for layers, with the margin and the scratch memory set aside.

    The scratch memory is that with the first layer and all experts in RAM, the most of all splits.
    """
    count = len(weights.layers)
    shares = (1,) * len(host.devices)
    most = split._replace(shares=shares, n_cpu_moe=count)
    scratch = estimate_scratch(weights, shape, need, most) or (0,) * len(shares)
    budgets = [
        max(0, device.usable - FIT_MARGIN - size)
        for device, size in zip(host.devices, scratch, strict=False)
    ]
    if need.projector and not split.projector_in_ram:
        budgets[0] -= need.projector
    return budgets


def _cut_anywhere(weights: Weights, host: Host, need: Need) -> Layout:
    memory = estimate_memory(weights, None, need, (), Split())
    budget = sum(max(0, device.usable - FIT_MARGIN) for device in host.devices)
    on_gpu = min(budget, memory.weights)
    in_ram = memory.weights - min(on_gpu, host.own_vram)
    short_by = in_ram + TIGHT_MARGIN - host.ram.total
    return Layout(Placement.PARTIAL_OFFLOAD, Split((1,)), memory, short_by)


def proportional(count: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Share ``count`` layers out in proportion to the sizes, all of them and none twice."""
    edges = [count * done // max(sum(sizes), 1) for done in accumulate(sizes, initial=0)]
    return tuple(end - start for start, end in pairwise(edges))


def _vram_short(memory: Memory, host: Host) -> int:
    """Bytes missing on the devices, on the one that misses most."""
    pairs = zip(memory.devices, host.devices, strict=True)
    return max(use.total - device.usable for use, device in pairs if use.engine)


def _ram_short(memory: Memory, host: Host, *, spare: int) -> int:
    """Bytes missing in RAM, which unified devices share; ``spare`` bytes stay free.

    Beside unified devices a margin stays free in any case: the system lives there too.
    """
    shared = sum(
        max(0, use.total - device.own)
        for use, device in zip(memory.devices, host.devices, strict=False)
    )
    margin = TIGHT_MARGIN if shared else spare
    return memory.host.total + shared + margin - host.ram.total
