"""AMD APUs on Windows: the registry tells the carve-out, which is no part of RAM."""

from __future__ import annotations

import pytest

from quantpick.domain.host import Backend, Cpu, Host, MemoryKind, Ram
from quantpick.domain.picture import picture
from quantpick.domain.sighting import Sighting

GIB = 2**30
HOST = Host(Ram(64 * GIB, 60 * GIB, "test"), Cpu(None, None))
VULKAN = Backend.VULKAN


@pytest.mark.parametrize(
    ("carve_out", "offered", "gtt"),
    [(96, None, 0), (96, 64, 0), (96, 110, 14), (1, 17, 16), (1, 90, 64)],
)
def test_the_carve_out_that_windows_tells_is_not_part_of_ram(
    carve_out: int, offered: int | None, gtt: int
) -> None:
    name = "AMD Radeon(TM) 8060S Graphics"
    registry = Sighting(
        "Windows registry", name, MemoryKind.DEDICATED, carve_out * GIB, backends=(VULKAN,)
    )
    loader = Sighting("Vulkan", name, total=64 * GIB, backends=(VULKAN,), integrated=True)
    engine = Sighting(
        "llama-server", name, usable=(offered or 0) * GIB, backends=(VULKAN,), engine_id="Vulkan0"
    )
    rows = None if offered is None else [engine]
    host = picture(HOST, [registry, loader], rows)
    (gpu,) = host.devices
    assert (gpu.memory_kind, gpu.integrated) == (MemoryKind.CARVE_OUT_GTT, True)
    usable = min(offered or carve_out, carve_out + gtt)
    assert (gpu.usable, gpu.gtt) == (usable * GIB, gtt * GIB)
    assert gpu.total == (carve_out + gtt) * GIB
    assert host.pool == (64 + usable - gtt) * GIB
