"""Where a Host comes from: one source a file, none of which can make the tool fail.

The room is called probes so that ``quantpick.probe`` can be the public function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from quantpick.domain.host import Caveat, Host
from quantpick.probes import ram

if TYPE_CHECKING:
    from quantpick.domain.host import Device
    from quantpick.probes.protocol import DeviceSource

#: Modules with a source of devices, in the order their devices are listed. Each is loaded, with
#: the library it needs, when devices are asked for.
DEVICE_SOURCES = ("nvidia",)


def probe_host(*, devices: bool = True) -> Host:
    """Read this machine once: memory, processor and, unless told not to, devices."""
    found: list[Device] = []
    caveats: list[Caveat] = []
    for name in DEVICE_SOURCES if devices else ():
        try:
            source: DeviceSource = import_module(f"quantpick.probes.{name}")
            answer = source.probe_devices()
        except Exception as error:  # noqa: BLE001 -- a broken driver must not stop the answer
            caveats.append(Caveat(f"{name}_failed", f"{name}: {type(error).__name__}: {error}"))
        else:
            found.extend(answer.devices)
            caveats.extend(answer.caveats)
    return Host(ram.probe_ram(), ram.probe_cpu(), tuple(found), None, tuple(caveats))
