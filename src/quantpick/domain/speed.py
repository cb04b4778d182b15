"""Tokens per second from what a token costs: bytes read through memory, and time for each layer.

A token reads every loaded weight once but for the token embedding, and of routed experts the share
that is used. Seconds are ``bytes x factor of the type / (efficiency x bandwidth) + layers x time of
a layer``, on each device for its own layers. The figures come from a table of fits to published
measurements, and hold for an empty context: what the cache adds to the reading is left out.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Backend
from quantpick.domain.quant import Family, base_label, family_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.domain.host import Device
    from quantpick.domain.memory import Split
    from quantpick.domain.shape import Shape
    from quantpick.domain.weights import Weights

#: Below this many weights a model's speed is mostly overhead, which the fit knows least about.
SMALL = 1_500_000_000

#: Stands for all generations of a backend that have no row of their own.
OTHER = "other"

#: Tokens a second that nobody waits for: faster than most people read.
FLUENT = 20.0

#: Mean KL divergence from the unquantized model that is hard to notice.
NEAR = 0.01

#: Mean KL divergence that quants of four bits stay below. One that loses more sets no pace: a
#: repo's one-bit file would make its three-bit one look like the slowest that will do.
SOUND = 0.05

#: CUDA compute capabilities of cards with stacks of HBM; llama.cpp's kernels do not fill those.
_HBM = frozenset({"6.0", "7.0", "8.0", "9.0", "10.0", "10.3"})
_CUDA = {"6.1": "Pascal", "6.2": "Pascal", "7.5": "Turing", "8.6": "Ampere", "8.7": "Ampere"}
_CUDA |= {"8.9": "Ada", "11.0": "Blackwell", "12.0": "Blackwell", "12.1": "Blackwell"}
_GFX = {"gfx90": "HBM", "gfx94": "HBM", "gfx95": "HBM"}
_GFX |= {"gfx10": "RDNA2", "gfx11": "RDNA3", "gfx12": "RDNA4"}
_VENDORS = {"nvidia": "NVIDIA", "geforce": "NVIDIA", "amd": "AMD", "radeon": "AMD"}
_VENDORS |= {"intel": "Intel", "arc": "Intel"}


class Cost(StrEnum):
    """Kinds of types that take a like time to read a byte of."""

    PLAIN = "plain"
    WIDE = "wide"
    K = "k"
    LOW_K = "low_k"
    IQ4 = "iq4"
    LOW_I = "low_i"


class Basis(StrEnum):
    """What a figure rests on, the weakest part of it; decides how wide its band is."""

    GENERATION = "generation"
    BACKEND = "backend"
    SEVERAL = "several_devices"
    SMALL = "small_model"
    LOW_I = "low_i_quant"
    EXPERTS = "experts"


class Unknown(StrEnum):
    """Why there is no figure."""

    CPU = "cpu"
    PARTIAL_OFFLOAD = "partial_offload"
    SHAPE = "shape"
    EXPERTS = "experts_not_told_apart"
    TYPE = "type"
    EMULATED = "bf16_not_in_hardware"
    BANDWIDTH = "bandwidth"
    BACKEND = "backend"


class Band(NamedTuple):
    """Measured speed over predicted speed: its middle, and what four of five devices are within."""

    middle: float
    low: float
    high: float


class Rates(NamedTuple):
    """Fitted figures of one generation of devices under one backend.

    ``efficiency`` is the share of the bandwidth that weights of 4 or 5 plain bits are read with,
    ``layer_seconds`` what each layer takes beside; ``factors`` multiply the reading. ``band`` is
    how far off they were, that of the backend at least.
    """

    backend: Backend
    generation: str
    efficiency: float
    layer_seconds: float
    factors: Mapping[Cost, float]
    band: Band


class SpeedTable(NamedTuple):
    """The fitted figures, and how far off they were for devices that the fit had not seen.

    ``bands`` are those of all that is predicted worse; ``GENERATION`` has its own in the rates.
    """

    rates: Mapping[tuple[Backend, str], Rates]
    bands: Mapping[Basis, Band]


class Run(NamedTuple):
    """One way to run a file: what decides its speed."""

    weights: Weights
    shape: Shape | None
    label: str
    devices: Sequence[Device]
    split: Split


class Speed(NamedTuple):
    """Tokens per second at an empty context, and the range to expect."""

    tokens_per_second: float
    low: float
    high: float
    basis: Basis


class Trade(NamedTuple):
    """One candidate for ``balanced``: tokens a second (None if unknown), KL divergence, bytes."""

    speed: float | None
    kld: float
    size: int


def predict(run: Run, table: SpeedTable) -> Speed | None:
    """Return how fast a model answers with its layers split over devices, None if unknown.

    ``why_unknown`` tells why there is no figure.
    """
    cost = cost_of(run.label)
    if why_unknown(run, table) or cost is None or run.shape is None:
        return None
    seconds, bases, own = 0.0, _weak(run, run.shape, cost), dict[str, Band]()
    for device, (read, layers) in zip(run.devices, _shares(run, run.shape), strict=False):
        rates = rates_for(device, table)
        if not read or rates is None or device.bandwidth is None:
            continue
        seconds += sum(token_time(rates, cost, read, layers, device.bandwidth))
        bases.add(Basis.BACKEND if rates.generation == OTHER else Basis.GENERATION)
        own[rates.generation] = rates.band
    bands = [*own.values(), *(table.bands[basis] for basis in bases - {Basis.GENERATION})]
    return _speed(1 / seconds, max(bases, key=list(Basis).index), bands)


def why_unknown(run: Run, table: SpeedTable) -> Unknown | None:  # noqa: PLR0911 -- one a reason
    """Return why there is no figure, None where there is one.

    The bandwidth of RAM is not known, so nothing is said of layers or experts that stay in it.
    """
    shape, split = run.shape, run.split
    if not run.devices or not split.n_gpu_layers:
        return Unknown.CPU
    if split.n_gpu_layers <= len(run.weights.layers) or split.n_cpu_moe:
        return Unknown.PARTIAL_OFFLOAD
    if shape is None or not run.weights.loaded:
        return Unknown.SHAPE
    if bool(shape.expert_count) != run.weights.routed:
        return Unknown.EXPERTS
    if cost_of(run.label) is None:
        return Unknown.TYPE
    used = [device for device, share in zip(run.devices, split.shares, strict=False) if share]
    if base_label(run.label) == "BF16" and any(device.bf16 is False for device in used):
        return Unknown.EMULATED
    if not all(device.bandwidth for device in used):
        return Unknown.BANDWIDTH
    known = all(rates_for(device, table) for device in used)
    return None if known else Unknown.BACKEND


def token_time(
    rates: Rates, cost: Cost, read: float, layers: int, bandwidth: float
) -> tuple[float, float]:
    """Return the seconds a token takes on one device: for reading, and for the layers beside."""
    reading = read * rates.factors[cost] / (rates.efficiency * bandwidth)
    return reading, layers * rates.layer_seconds


def cost_of(label: str) -> Cost | None:
    """Return what the bytes of a label cost to read, None where the types inside are not known."""
    family, base = family_of(label), base_label(label)
    if family in {Family.FORK, Family.UNKNOWN}:
        return None
    if family is Family.FLOAT or base.startswith("Q8_"):
        return Cost.WIDE
    if family is Family.K:
        return Cost.LOW_K if base.startswith(("Q2_", "Q3_")) else Cost.K
    if family is Family.I:
        return Cost.IQ4 if base.startswith("IQ4_") else Cost.LOW_I
    return Cost.LOW_I if family is Family.TERNARY else Cost.PLAIN


def generation_of(device: Device) -> str:
    """Return the generation that a device's rates are looked up by, OTHER where it is not known."""
    match device.backend:
        case Backend.CUDA:
            return "HBM" if device.arch in _HBM else _CUDA.get(device.arch or "", OTHER)
        case Backend.ROCM:
            # gfx90c is an APU with DDR memory, gfx101x is RDNA1.
            arch = device.arch or ""
            odd = arch == "gfx90c" or arch.startswith("gfx101")
            return OTHER if odd else _GFX.get(arch[:5], OTHER)
        case Backend.METAL:
            return _apple(device.name)
        case Backend.VULKAN:
            return _vendor(device)
        case _:
            return OTHER


def _apple(name: str) -> str:
    """Return M1 to M5 for a chip's name; later ones count as M5, the nearest there is."""
    chip = next((word for word in name.split() if word[:1] == "M" and word[1:].isdecimal()), "")
    return f"M{min(int(chip[1:]), 5)}" if chip else OTHER


def _vendor(device: Device) -> str:
    if device.arch in _HBM or _GFX.get((device.arch or "")[:5]) == "HBM":
        return OTHER
    if device.arch:
        return "AMD" if device.arch.startswith("gfx") else "NVIDIA"
    words = device.name.casefold().replace("(", " ").split()
    return next((_VENDORS[word] for word in words if word in _VENDORS), OTHER)


def rates_for(device: Device, table: SpeedTable) -> Rates | None:
    """Return the rates of a device's generation, else of its backend, None if it has none.

    A backend that nobody says can drive the device has none for it.
    """
    if device.backend is None or (device.backends and device.backend not in device.backends):
        return None
    own = table.rates.get((device.backend, generation_of(device)))
    return own or table.rates.get((device.backend, OTHER))


def _shares(run: Run, shape: Shape) -> list[tuple[float, int]]:
    """Return for each device the bytes that a token reads there, and the layers it passes."""
    active = shape.expert_used_count / shape.expert_count if shape.expert_count else 0.0
    kept = _without_embedding(run.weights, shape)
    reads = [(layer.dense + layer.experts * active) * kept for layer in run.weights.layers]
    reads.append(run.weights.output)
    counts = [*(int(layer.total > 0) for layer in run.weights.layers), 0]
    edges = pairwise(accumulate(run.split.shares, initial=0))
    return [(sum(reads[first:end]), sum(counts[first:end])) for first, end in edges]


def _without_embedding(weights: Weights, shape: Shape) -> float:
    """Return the part of the layers' bytes that are theirs.

    Where bytes were shared out by estimate the layers hold the token embedding too, as large as
    the output layer; tied, the two are one.
    """
    inside = sum(layer.total for layer in weights.layers)
    if weights.exact or shape.tied or not shape.parameters or inside <= weights.output:
        return 1.0
    return 1 - weights.output / inside


def _weak(run: Run, shape: Shape, cost: Cost) -> set[Basis]:
    """Return the sides of a model and its layout that are known to be predicted worse."""
    signs = {
        Basis.EXPERTS: run.weights.routed,
        Basis.LOW_I: cost is Cost.LOW_I,
        Basis.SMALL: 0 < shape.parameters < SMALL,
        Basis.SEVERAL: sum(share > 0 for share in run.split.shares) > 1,
    }
    return {basis for basis, applies in signs.items() if applies}


def _speed(raw: float, weakest: Basis, bands: Sequence[Band]) -> Speed:
    """Put the widest band of all that apply around a figure, after their corrections."""
    middle = raw * prod(band.middle for band in bands)
    low = middle * min(band.low / band.middle for band in bands)
    high = middle * max(band.high / band.middle for band in bands)
    return Speed(middle, low, high, weakest)


def balanced(candidates: Sequence[Trade]) -> int:
    """Return the index of the candidate that gives up little of either speed or quality.

    Of those at least half as fast as the fastest sound one, or fluent, the fastest whose KL
    divergence is near the lowest. Where a speed is unknown, the sizes stand for all: half the
    bytes, twice as fast. No candidate is better in one respect and as good in the others.
    """
    if not candidates:
        raise ValueError("nothing to choose from")
    known = [trade.speed for trade in candidates if trade.speed is not None]
    told = len(known) == len(candidates)
    speeds = known if told else [1 / trade.size for trade in candidates]
    pairs = zip(speeds, candidates, strict=True)
    enough = max([speed for speed, trade in pairs if trade.kld <= SOUND] or speeds) / 2
    if told:
        enough = min(enough, FLUENT)
    fast = [index for index, speed in enumerate(speeds) if speed >= enough]
    best = min(candidates[index].kld for index in fast) + NEAR
    near = [index for index in fast if candidates[index].kld <= best]
    return min(near, key=lambda i: (-speeds[i], candidates[i].kld, candidates[i].size, i))
