"""Where a Host comes from: the engine first, then the machine's own sources.

The room is called probes so that ``quantpick.probe`` can be the public function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.host import Host
from quantpick.probes import ram
from quantpick.probes.environment import read_environment
from quantpick.probes.protocol import here

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.probes.protocol import Place


def probe_host(
    place: Place | None = None, *, engine: Path | None = None, devices: bool = True
) -> Host:
    """Read this machine once: memory, processor and, unless told not to, engine and devices.

    Raises UsageError where ``engine`` is no program of llama.cpp.
    """
    place = place or here()
    memory = ram.probe_ram(place)
    host = Host(
        memory.ram,
        ram.probe_cpu(place),
        warnings=memory.caveats,
        sources=memory.states,
        environment=read_environment(place.environ),
    )
    if not devices:
        return host
    from quantpick.probes.devices import with_devices

    return with_devices(host, place, engine)
