"""Which of a machine's devices llama.cpp would compute on, and why not the others.

llama.cpp uses all discrete GPUs, and an integrated one only where there is no other. One build has
one backend or several; without one to ask, the backend that reaches the most memory counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.host import Backend, SetAside
from quantpick.domain.matching import simple_name
from quantpick.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.host import Device, Host

#: Backends in the order that a build for the device is usually made for.
_PREFERENCE = (Backend.CUDA, Backend.ROCM, Backend.METAL, Backend.SYCL, Backend.VULKAN)

#: Reasons to set a device aside that another choice of backend or device takes away.
_INTEGRATED, _OTHER_BACKEND, _NOT_CHOSEN = "integrated", "other_backend", "not_chosen"
_OPEN = frozenset({_INTEGRATED, _OTHER_BACKEND, _NOT_CHOSEN})

#: One that goes when the user names the backend to plan for: the engine's list is of another.
NOT_IN_ENGINE = "not_in_engine"


def choose(
    candidates: Sequence[Device], backend: Backend | None = None
) -> tuple[tuple[Device, ...], tuple[SetAside, ...]]:
    """Return the devices that count, with the backend that drives each, and the others.

    ``backend`` is the one to plan for. None leaves it to the devices: what the engine lists keeps
    its own, of others the one that reaches the most memory counts for all.
    """
    chosen = backend or _widest(candidates)
    able, others = [], []
    for device in candidates:
        if device.engine_id is not None and backend is None:
            able.append(device)
        elif chosen in device.backends or (backend and not device.backends):
            able.append(device._replace(backend=chosen))
        else:
            why = f"{chosen or 'no known backend'} does not drive it"
            others.append(SetAside(device, _OTHER_BACKEND, why))
    discrete = [device for device in able if not device.integrated]
    if discrete:
        why = "integrated, and llama.cpp leaves such a GPU alone beside a discrete one"
        others += [SetAside(d, _INTEGRATED, why) for d in able if d.integrated]
    return tuple(discrete or able), tuple(others)


def with_backend(host: Host, backend: Backend) -> Host:
    """Return the host as a build with this backend would use it."""
    open_codes = _OPEN | {NOT_IN_ENGINE}
    # An engine's name for a device is one of its own backend.
    candidates = [
        device if device.backend is backend else device._replace(engine_id=None)
        for device in _candidates(host, open_codes)
    ]
    devices, others = choose(candidates, backend)
    closed = tuple(item for item in host.set_aside if item.code not in open_codes)
    return host._replace(devices=devices, set_aside=(*others, *closed))


def with_devices(host: Host, words: Sequence[str]) -> Host:
    """Return the host with only the devices that are named, in that order.

    A word is llama.cpp's name for a device (``CUDA0``), a PCI address, the start of a UUID, or part
    of its name; ``none`` leaves the CPU. Raises NotFoundError for a word that fits no device.
    """
    everything = [*host.devices, *(item.device for item in host.set_aside)]
    named: list[Device] = []
    for word in words:
        if word.lower() == "none":
            continue
        found = [device for device in everything if _is_called(device, word)]
        if not found:
            names = ", ".join(_handle(device) for device in everything)
            hint = (
                f"there are: {names}" if names else "no GPU was found: quantpick hardware --doctor"
            )
            raise NotFoundError(f"no device {word!r} here", hint)
        named += [device for device in found if device not in named]
    rest = [device for device in host.devices if device not in named]
    aside = [SetAside(device, _NOT_CHOSEN, "not named by --device") for device in rest]
    kept = [item for item in host.set_aside if item.device not in named]
    return host._replace(devices=tuple(named), set_aside=(*aside, *kept), device_flag=True)


def _candidates(host: Host, codes: Iterable[str]) -> list[Device]:
    return [*host.devices, *(item.device for item in host.set_aside if item.code in codes)]


def _widest(candidates: Sequence[Device]) -> Backend | None:
    """Return the backend that reaches the most memory, discrete GPUs before integrated ones."""

    def reach(backend: Backend) -> tuple[int, int]:
        able = [device for device in candidates if backend in device.backends]
        discrete = sum(device.usable for device in able if not device.integrated)
        return discrete, sum(device.usable for device in able)

    known = [b for b in _PREFERENCE if any(b in device.backends for device in candidates)]
    return max(known, key=reach, default=None)


def _is_called(device: Device, word: str) -> bool:
    word = word.lower()
    exact = {(device.engine_id or "").lower(), (device.pci or "").lower()}
    uuid = (device.uuid or "").lower()
    in_name = bool(simple_name(word)) and simple_name(word) in simple_name(device.name)
    return word in exact - {""} or (bool(uuid) and uuid.startswith(word)) or in_name


def _handle(device: Device) -> str:
    return f"{device.engine_id} ({device.name})" if device.engine_id else device.name
