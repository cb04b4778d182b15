"""Where layers go, against what llama.cpp's own fitting chose for the same model and memory.

``--fit`` keeps a margin free on each device under all circumstances. The product keeps it only
where it has to move something to RAM: a model that fits whole may use it, less what the backend
takes for itself. So what was moved is compared with the margin taken off the memory beforehand,
for both alike, and the product's own answer is held to one rule beside it: it is whole where
fitting said so, and otherwise only if it goes into the margin.

Experts: fitting moves those of the last layers to RAM, the product those of the first, because
``--n-cpu-moe`` does. The number of layers without them compares; how the layers are shared among
several devices does not, where some have experts and some have not.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from quantpick.domain.host import Backend, Cpu, Device, Host, MemoryKind, Ram
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import Need
from quantpick.domain.placement import FIT_MARGIN, lay_out
from quantpick.domain.verdict import Placement
from quantpick.domain.weights import weights_of
from tests.engine.hollow import hollow_header
from tests.engine.models import MODELS

if TYPE_CHECKING:
    from quantpick.domain.placement import Layout
    from quantpick.domain.shape import Shape
    from quantpick.domain.weights import Weights

TABLE = Path(__file__).parents[1] / "data" / "engine_fit.csv"
MIB, TIB = 2**20, 2**40


class Fit(NamedTuple):
    """One answer of fitting: ``n_gpu_layers`` with the output layer, ``free`` in MiB a device.

    ``overrides`` counts the layers with any expert tensor sent to RAM; those that are in RAM
    altogether are not among them.
    """

    build: str
    model: str
    label: str
    free: tuple[int, ...]
    ctx_size: int
    slots: int
    margin: int
    n_gpu_layers: int
    tensor_split: tuple[int, ...]
    overrides: int

    @property
    def key(self) -> tuple[str, tuple[int, ...], int]:
        """The name of the case in a table of exceptions."""
        return self.model, self.free, self.ctx_size


#: Cases where fitting leaves far more room than its margin: it puts the output layer alone on the
#: device. The values are the layers that the product puts there, all experts in RAM, and the MiB
#: that llama.cpp b11549 then sets aside on the device (its own log, -ngl N --n-cpu-moe 61): less
#: than the device has without the margin, so that fitting could have done the same. One layer more
#: would have had room too, and in the first case two.
FITTING_GAVE_UP: dict[tuple[str, tuple[int, ...], int], tuple[int, float]] = {
    ("deepseek-v3", (7692,), 4096): (19, 6362.8),
    ("deepseek-v3", (7692,), 16_384): (18, 6489.7),
    ("deepseek-v3", (11_788,), 4096): (49, 10_495.6),
    ("deepseek-v3", (11_788,), 16_384): (45, 10_573.8),
}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split("+")) if text else ()


def _fit(row: dict[str, str]) -> Fit:
    layers = int(row["n_gpu_layers"])
    count = len(_facts(row["model"], row["label"])[1].layers)
    return Fit(
        build=row["build"],
        model=row["model"],
        label=row["label"],
        free=_numbers(row["gpus"]),
        ctx_size=int(row["ctx_size"]),
        slots=int(row["slots"]),
        margin=int(row["margin_mib"]),
        n_gpu_layers=layers if layers >= 0 else count + 1,
        tensor_split=_numbers(row["tensor_split"]),
        overrides=int(row["experts_in_ram"]),
    )


@cache
def _facts(model: str, label: str) -> tuple[Shape, Weights]:
    header = hollow_header(MODELS[model](), label)
    shape = shape_of(header)
    return shape, weights_of(header.tensors, shape.block_count, shape.idle_blocks)


def _name(fit: Fit) -> str:
    return f"{fit.build}-{fit.model}-{fit.label}-{'+'.join(map(str, fit.free))}-{fit.ctx_size}"


FITS = [_fit(row) for row in csv.DictReader(TABLE.read_text("utf-8").splitlines()[1:])]


def _ours(fit: Fit, backend: Backend, *, taken_off: int) -> Layout:
    shape, weights = _facts(fit.model, fit.label)
    devices = tuple(
        Device(
            f"GPU {index}",
            backend,
            MemoryKind.DEDICATED,
            free * MIB,
            free * MIB - taken_off,
            None,
            "test",
        )
        for index, free in enumerate(fit.free)
    )
    host = Host(Ram(4 * TIB, None, "test"), Cpu(None, None, ()), devices)
    return lay_out(weights, shape, host, Need(ctx_size=fit.ctx_size, parallel=fit.slots))


def _layers_without_experts(fit: Fit) -> int:
    """Count the layers with their experts in RAM, be it alone or with all else.

    Leading layers have no experts. Fitting overrides the last layers first, and with them a block
    for multi-token prediction that is not loaded.
    """
    shape, weights = _facts(fit.model, fit.label)
    on_host = weights.layers[: len(weights.layers) + 1 - fit.n_gpu_layers]
    loaded = max(0, fit.overrides - shape.idle_blocks)
    return loaded + sum(layer.experts > 0 for layer in on_host)


def _is_whole(fit: Fit) -> bool:
    return fit.n_gpu_layers > len(_facts(fit.model, fit.label)[1].layers) and not fit.overrides


WHOLE = [fit for fit in FITS if _is_whole(fit)]
MOVED = [fit for fit in FITS if not _is_whole(fit) and fit.key not in FITTING_GAVE_UP]


def test_there_are_many_cases_of_each_kind() -> None:
    assert len(WHOLE) > 100
    assert len(MOVED) > 90
    assert sum(len(fit.free) > 1 for fit in FITS) > 60
    assert sum(fit.overrides > 0 for fit in FITS) > 60


@pytest.mark.parametrize("fit", WHOLE, ids=_name)
def test_what_fitting_put_on_the_devices_whole_we_put_there_whole(fit: Fit) -> None:
    ours = _ours(fit, Backend.CUDA, taken_off=0)
    assert ours.placement is Placement.FULL_OFFLOAD
    assert ours.split.n_gpu_layers == fit.n_gpu_layers
    assert ours.split.n_cpu_moe == 0
    for mine, theirs in zip(ours.split.shares, fit.tensor_split, strict=False):
        assert abs(mine - theirs) <= 1


@pytest.mark.parametrize("fit", MOVED, ids=_name)
def test_what_fitting_moved_to_ram_we_move_within_a_layer(fit: Fit) -> None:
    # The product keeps the same margin as fitting does by default, so only another one is told.
    ours = _ours(fit, Backend.VULKAN, taken_off=fit.margin * MIB - FIT_MARGIN)
    if ours.placement is Placement.FULL_OFFLOAD:
        # Whole models may use the margin; the next test says how far.
        return
    split = ours.split
    assert abs(split.n_gpu_layers - fit.n_gpu_layers) <= 1
    layers = _facts(fit.model, fit.label)[1].layers
    moved = sum(layer.experts > 0 for layer in layers[: split.n_cpu_moe])
    # With experts in RAM fitting spreads the rest over several devices in another way.
    slack = 1 if len(fit.free) == 1 else 3
    assert abs(moved - _layers_without_experts(fit)) <= slack
    if fit.overrides == 0:
        for mine, their in zip(split.shares, fit.tensor_split, strict=False):
            assert abs(mine - their) <= 1


@pytest.mark.parametrize("fit", MOVED, ids=_name)
def test_what_we_keep_whole_all_the_same_goes_into_the_margin_and_no_further(fit: Fit) -> None:
    ours = _ours(fit, Backend.CUDA, taken_off=0)
    room = [free * MIB for free in fit.free]
    if ours.placement is Placement.FULL_OFFLOAD:
        used = [use.engine for use in ours.memory.devices]
        assert any(u > r - FIT_MARGIN for u, r in zip(used, room, strict=True))
        assert all(use.total <= r for use, r in zip(ours.memory.devices, room, strict=True))
    else:
        assert ours.placement is Placement.PARTIAL_OFFLOAD


@pytest.mark.parametrize("fit", [f for f in FITS if f.key in FITTING_GAVE_UP], ids=_name)
def test_where_fitting_gave_up_the_engine_has_room_for_our_answer(fit: Fit) -> None:
    layers, engine_mib = FITTING_GAVE_UP[fit.key]
    ours = _ours(fit, Backend.CUDA, taken_off=0)
    assert fit.n_gpu_layers == 1
    assert ours.split.n_gpu_layers == layers
    assert engine_mib <= fit.free[0] - fit.margin
    assert ours.memory.devices[0].engine / MIB == pytest.approx(engine_mib, rel=0.05)
