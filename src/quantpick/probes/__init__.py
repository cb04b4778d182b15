"""Where a Host comes from: one source a file, none of which can make the tool fail.

The room is called probes so that ``quantpick.probe`` can be the public function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.host import Host, Warning
from quantpick.probes import nvidia, ram

if TYPE_CHECKING:
    from quantpick.probes.protocol import DeviceSource

#: Sources of devices by name, in the order their devices are listed.
DEVICE_SOURCES: dict[str, DeviceSource] = {"nvidia": nvidia.probe_devices}


def probe_host(*, devices: bool = True) -> Host:
    """Read this machine once: memory, processor and, unless told not to, devices."""
    found, warnings = [], []
    for name, probe in DEVICE_SOURCES.items() if devices else ():
        try:
            answer = probe()
        except Exception as error:  # noqa: BLE001 -- a broken driver must not stop the answer
            warnings.append(Warning(f"{name}_failed", f"{name}: {type(error).__name__}: {error}"))
        else:
            found.extend(answer.devices)
            warnings.extend(answer.warnings)
    return Host(ram.probe_ram(), ram.probe_cpu(), tuple(found), None, tuple(warnings))
