"""What llama-server needs for a model, place by place: weights, cache, scratch and overhead.

Every term but ``overhead`` is one that llama.cpp prints. The estimate is of the command line that
``launch`` writes: one cache that all slots share, flash attention unless it is turned off, and
the layers where the split puts them.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.cache import layer_caches
from quantpick.domain.compute import (
    estimate_compute,
    estimate_offloaded,
    estimate_staged_cache,
)
from quantpick.domain.host import Backend, MemoryKind
from quantpick.domain.units import MB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.host import Device
    from quantpick.domain.need import Need
    from quantpick.domain.shape import Shape
    from quantpick.domain.weights import Weights

#: What a backend takes on each device for itself. CUDA: the upper end of "120-550 MB depending on
#: GPU" for its context (llama.cpp pull request 20595, 2026-03-15; 330 MiB measured on a 24 GB card
#: in unsloth pull request 6718, 2026-06-27). ROCm and Metal: what Ollama keeps free for them
#: (discover/gpu.go and gpu_darwin.go). Nothing is published for Vulkan and SYCL: not counted.
BACKEND_OVERHEAD = {Backend.CUDA: 550 * MB, Backend.ROCM: 457 * MIB, Backend.METAL: 512 * MIB}

#: A vision projector's scratch memory as a share of its file: 1158 MiB in all were measured for a
#: file of 884 MiB (unsloth pull request 6718).
_PROJECTOR_SCRATCH = 0.31

#: Architectures whose graphs hold two stacks of experts at once when they are copied from RAM
#: (measured at b11540 with the experts of all layers there).
_TWO_STACKS = frozenset({"gemma4", "jamba", "llama4", "qwen35moe", "qwen3next"})


class Use(NamedTuple):
    """Bytes used in one place; None marks a term that cannot be known.

    ``total`` is the sum of the known terms. ``overhead`` is the only one that llama.cpp does not
    print.
    """

    name: str
    weights: int = 0
    kv_cache: int | None = 0
    compute: int | None = 0
    overhead: int = 0

    @property
    def total(self) -> int:
        """Sum of the known terms."""
        return self.weights + (self.kv_cache or 0) + (self.compute or 0) + self.overhead

    @property
    def engine(self) -> int:
        """Sum of the terms that llama.cpp prints."""
        return self.total - self.overhead


class Memory(NamedTuple):
    """What a model needs: on each device and in the host's RAM, in bytes.

    ``exact`` is False where the estimate is a bound: the architecture is not known, or the types
    inside the file are not.
    """

    devices: tuple[Use, ...]
    host: Use
    exact: bool = True

    @property
    def uses(self) -> tuple[Use, ...]:
        """All places, the host last."""
        return (*self.devices, self.host)

    @property
    def weights(self) -> int:
        """Bytes of weights in all places."""
        return sum(use.weights for use in self.uses)

    @property
    def kv_cache(self) -> int | None:
        """Bytes of the KV cache in all places, None where unknown."""
        return _sum(use.kv_cache for use in self.uses)

    @property
    def compute(self) -> int | None:
        """Bytes of scratch memory in all places, None where unknown."""
        return _sum(use.compute for use in self.uses)

    @property
    def overhead(self) -> int:
        """Bytes that backends take for themselves."""
        return sum(use.overhead for use in self.uses)

    @property
    def total(self) -> int:
        """Sum of the known terms in all places."""
        return sum(use.total for use in self.uses)

    @property
    def complete(self) -> bool:
        """Whether every term is known."""
        return self.kv_cache is not None and self.compute is not None


class Split(NamedTuple):
    """Which layers go where: ``shares[i]`` layers on device i, the last layers on the last device.

    The output layer counts as one more after the repeating ones, as llama.cpp counts it. The
    routed experts of the first ``n_cpu_moe`` layers stay in RAM. ``repack`` are bytes that the CPU
    keeps a second time, in an order that suits it. ``op_offload`` says whether weights in RAM are
    copied to the first device for a batch, ``projector_in_ram`` where a vision projector goes.
    """

    shares: tuple[int, ...] = ()
    n_cpu_moe: int = 0
    repack: int = 0
    op_offload: bool = True
    projector_in_ram: bool = False

    @property
    def n_gpu_layers(self) -> int:
        """Layers on all devices, the output layer among them."""
        return sum(self.shares)


def estimate_memory(
    weights: Weights, shape: Shape | None, need: Need, devices: Sequence[Device], split: Split
) -> Memory:
    """Return what a model needs with its layers split over devices and the host.

    Without a shape the cache and the scratch memory are unknown and only weights are placed.
    """
    on_host = len(weights.layers) + 1 - split.n_gpu_layers
    edges = list(accumulate(split.shares, initial=on_host))
    caches = layer_caches(shape, need) if shape else None
    scratch = estimate_scratch(weights, shape, need, split)
    in_ram = need.projector if split.projector_in_ram or not split.shares else 0
    on_gpu = need.projector - in_ram
    used = tuple(
        Use(
            device.name,
            weights=_weights_between(weights, first, end)
            - _experts_between(weights, first, min(end, split.n_cpu_moe))
            + (on_gpu if index == 0 else 0),
            kv_cache=None if caches is None else sum(caches[first:end]),
            compute=scratch[index] if scratch else None,
            overhead=backend_overhead(device, used=end > first or bool(scratch and scratch[index]))
            + (projector_scratch(on_gpu) if index == 0 else 0),
        )
        for index, (device, (first, end)) in enumerate(zip(devices, pairwise(edges), strict=False))
    )
    host = Use(
        "RAM",
        weights=_host_weights(weights, split, on_host, shared=_unified(devices)) + in_ram,
        kv_cache=None if caches is None else sum(caches[:on_host]),
        compute=scratch[-1] if scratch else None,
        overhead=projector_scratch(in_ram),
    )
    return Memory(used, host, weights.exact and (shape is None or shape.known))


def _host_weights(weights: Weights, split: Split, on_host: int, *, shared: bool) -> int:
    """Bytes of weights in RAM: the embedding, layers and experts left there, a repacked copy.

    A tied output layer is the embedding itself where both are in the same memory.
    """
    layers = _weights_between(weights, 0, on_host)
    experts = _experts_between(weights, on_host, split.n_cpu_moe)
    twice = weights.tied if shared or split.n_gpu_layers == 0 else 0
    return weights.embedding + layers + experts + split.repack - twice


def _weights_between(weights: Weights, first: int, end: int) -> int:
    """Bytes of the layers from ``first`` to before ``end``; the output layer is one more."""
    count = len(weights.layers)
    output = weights.output if first <= count < end else 0
    # By index, because this runs for every layer of every quant.
    return sum([layer[0] + layer[1] for layer in weights.layers[first:end]]) + output


def _experts_between(weights: Weights, first: int, end: int) -> int:
    if not weights.routed:
        return 0
    return sum([layer.experts for layer in weights.layers[first:end]])


def estimate_scratch(
    weights: Weights, shape: Shape | None, need: Need, split: Split
) -> tuple[int, ...] | None:
    """Bytes of the compute buffers, one a device and the host's last; None without a shape.

    The host's has the output buffer too: a row of logits a slot.
    """
    if shape is None:
        return None
    logits = shape.vocab_size * need.parallel * 4
    used = [index for index, share in enumerate(split.shares) if share]
    if not used:
        return (*(0 for _ in split.shares), estimate_compute(shape, need) + logits)
    on_host = len(weights.layers) + 1 - split.n_gpu_layers
    # A device without layers is one of the pipeline all the same.
    pipelined = on_host <= 0 and len(split.shares) > 1 and not split.n_cpu_moe
    compute = estimate_offloaded(shape, need, pipelined=pipelined)
    sizes = [0] * len(split.shares)
    for index in used:
        sizes[index] = compute.first if index == used[0] else compute.further
    if split.op_offload and (on_host > 0 or split.n_cpu_moe):
        # Always on the first device, with layers or without.
        copied = compute.layer + _staged_weights(weights, shape, split, on_host)
        cache = estimate_staged_cache(shape, need) if on_host > 0 else 0
        sizes[0] = max(compute.first, copied, cache)
    return (*sizes, compute.host + logits)


def _staged_weights(weights: Weights, shape: Shape, split: Split, on_host: int) -> int:
    """Bytes on the first device for weights that live in RAM and are copied over for a batch.

    llama.cpp copies one tensor at a time (``ggml_backend_sched_split_graph`` starts a new split
    for each), so the largest counts; in some architectures the graph holds two stacks of experts.
    """
    dense = max((layer.largest for layer in weights.layers[: max(on_host, 0)]), default=0)
    if not weights.routed:
        return dense
    with_experts = weights.layers[: max(on_host, split.n_cpu_moe)]
    stacks = 2 if shape.architecture in _TWO_STACKS or not shape.known else 1
    experts = (min(stacks * layer.largest_expert, layer.experts) for layer in with_experts)
    return max(dense, *experts, 0)


def backend_overhead(device: Device, *, used: bool = True) -> int:
    """Bytes that a device's backend takes for itself; an unstated one counts as CUDA's, the most.

    A device that nothing is put on is left out of the count.
    """
    return BACKEND_OVERHEAD.get(device.backend or Backend.CUDA, 0) if used else 0


def projector_scratch(file_bytes: int) -> int:
    """Bytes that a vision projector needs beside its file."""
    return round(file_bytes * _PROJECTOR_SCRATCH)


def _unified(devices: Sequence[Device]) -> bool:
    return any(device.memory_kind is MemoryKind.UNIFIED for device in devices)


def _sum(terms: Iterable[int | None]) -> int | None:
    total = 0
    for term in terms:
        if term is None:
            return None
        total += term
    return total
