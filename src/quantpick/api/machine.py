"""The machine a model will run on: probed, read from a file, or stated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.override import STATED, Stated, override_host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quantpick.domain.host import Backend, Host
    from quantpick.domain.machine import Machine


def probe(  # noqa: PLR0913 -- one keyword a flag
    *,
    vram: Sequence[int] = (),
    ram: int | None = None,
    backend: Backend | None = None,
    build: int | None = None,
    host_file: Path | None = None,
    engine: Path | None = None,
    gpus: Sequence[str] = (),
    devices: Sequence[str] = (),
    free_vram: Sequence[int] = (),
) -> Host:
    """Return this machine, or the one in ``host_file``, with the given figures in place.

    ``vram`` and ``free_vram`` have one size in bytes a device. ``gpus`` names machines or cards
    such as ``2x3090`` or ``m4-max-64``, ``devices`` the devices to use of those that are there,
    ``engine`` the llama.cpp to ask. Nothing is asked but memory and processor when ``vram`` or
    ``gpus`` are given, nor for the CPU backend.
    """
    named = _named_machine(gpus)
    stated = Stated(
        vram=tuple(vram),
        ram=named.ram if named and ram is None else ram,
        ram_source="--gpu" if ram is None else "--ram",
        backend=backend,
        build=build,
        devices=tuple(devices),
        free_vram=tuple(free_vram),
        gpus=named.devices if named else (),
    )
    if host_file is not None:
        from quantpick.sources.host_file import load_host

        host = load_host(host_file)
    else:
        from quantpick.probes import probe_host

        host = probe_host(engine=engine, devices=not stated.whole)
    return _with_bandwidths(override_host(host, stated))


def _with_bandwidths(host: Host) -> Host:
    """Return the host with the bandwidth of each device that has one by its name."""
    if all(device.bandwidth or device.source == STATED for device in host.devices):
        return host
    from quantpick.domain.known_device import with_known_bandwidth
    from quantpick.sources.devices import load_devices

    table = load_devices()
    devices = [
        device if device.bandwidth else with_known_bandwidth(device, table)
        for device in host.devices
    ]
    return host._replace(devices=tuple(devices))


def _named_machine(words: Sequence[str]) -> Machine | None:
    """Return the devices that the words name, None without words."""
    if not words:
        return None
    from quantpick.domain.machine import machine_of
    from quantpick.sources.devices import load_devices

    return machine_of(words, load_devices())
