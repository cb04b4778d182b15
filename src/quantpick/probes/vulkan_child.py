"""Asks the Vulkan loader for its devices and prints them as one line of JSON.

A program of its own that imports nothing of quantpick: the loader brings every installed driver
into the process, and a broken one takes the process with it. Structures and numbers are those of
vulkan_core.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import Structure, byref, c_char, c_char_p, c_uint8, c_uint32, c_uint64, c_void_p

_LIBRARY = "vulkan-1.dll" if sys.platform == "win32" else "libvulkan.so.1"

_VERSION_1_1 = 1 << 22 | 1 << 12

#: The loader's answer where no driver has a device.
_INITIALIZATION_FAILED = -3

_DEVICE_LOCAL = 1
_HEAPS, _MEMORY_TYPES, _TEXT = 16, 32, 256


#: What every structure of a chain begins with.
_HEAD = (("structure_type", c_uint32), ("next", c_void_p))


class Linked(Structure):
    """A structure of a chain; ``code`` is its VkStructureType."""

    code = 0


class ApplicationInfo(Linked):
    """VkApplicationInfo."""

    code = 0
    _fields_ = (
        *_HEAD,
        ("name", c_char_p),
        ("version", c_uint32),
        ("engine", c_char_p),
        ("engine_version", c_uint32),
        ("api", c_uint32),
    )


class InstanceCreateInfo(Linked):
    """VkInstanceCreateInfo."""

    code = 1
    _fields_ = (
        *_HEAD,
        ("flags", c_uint32),
        ("application", c_void_p),
        ("layer_count", c_uint32),
        ("layers", c_void_p),
        ("extension_count", c_uint32),
        ("extensions", c_void_p),
    )


class Properties(Structure):
    """VkPhysicalDeviceProperties, with its limits as so many bytes."""

    _fields_ = (
        ("api", c_uint32),
        ("driver_version", c_uint32),
        ("vendor", c_uint32),
        ("device", c_uint32),
        ("type", c_uint32),
        ("name", c_char * _TEXT),
        ("cache_uuid", c_uint8 * 16),
        ("limits", c_uint64 * 63),
        ("sparse", c_uint32 * 5),
    )


class Properties2(Linked):
    """VkPhysicalDeviceProperties2."""

    code = 1000059001
    _fields_ = (
        *_HEAD,
        ("properties", Properties),
    )


class IdProperties(Linked):
    """VkPhysicalDeviceIDProperties."""

    code = 1000071004
    _fields_ = (
        *_HEAD,
        ("device_uuid", c_uint8 * 16),
        ("driver_uuid", c_uint8 * 16),
        ("luid", c_uint8 * 8),
        ("node_mask", c_uint32),
        ("luid_valid", c_uint32),
    )


class DriverProperties(Linked):
    """VkPhysicalDeviceDriverProperties."""

    code = 1000196000
    _fields_ = (
        *_HEAD,
        ("driver", c_uint32),
        ("name", c_char * _TEXT),
        ("info", c_char * _TEXT),
        ("conformance", c_uint8 * 4),
    )


class PciBusInfo(Linked):
    """VkPhysicalDevicePCIBusInfoPropertiesEXT."""

    code = 1000212000
    _fields_ = (
        *_HEAD,
        ("domain", c_uint32),
        ("bus", c_uint32),
        ("device", c_uint32),
        ("function", c_uint32),
    )


class MemoryType(Structure):
    """VkMemoryType."""

    _fields_ = (("flags", c_uint32), ("heap", c_uint32))


class MemoryHeap(Structure):
    """VkMemoryHeap."""

    _fields_ = (("size", c_uint64), ("flags", c_uint32))


class MemoryProperties2(Linked):
    """VkPhysicalDeviceMemoryProperties2."""

    code = 1000059006
    _fields_ = (
        *_HEAD,
        ("type_count", c_uint32),
        ("types", MemoryType * _MEMORY_TYPES),
        ("heap_count", c_uint32),
        ("heaps", MemoryHeap * _HEAPS),
    )


class MemoryBudget(Linked):
    """VkPhysicalDeviceMemoryBudgetPropertiesEXT."""

    code = 1000237000
    _fields_ = (*_HEAD, ("budget", c_uint64 * _HEAPS), ("usage", c_uint64 * _HEAPS))


class Features2(Linked):
    """VkPhysicalDeviceFeatures2; the features of Vulkan 1.0 are 55 flags."""

    code = 1000059000
    _fields_ = (
        *_HEAD,
        ("features", c_uint32 * 55),
    )


class Float16Features(Linked):
    """VkPhysicalDeviceShaderFloat16Int8Features."""

    code = 1000082000
    _fields_ = (*_HEAD, ("float16", c_uint32), ("int8", c_uint32))


class Storage16Features(Linked):
    """VkPhysicalDevice16BitStorageFeatures."""

    code = 1000083000
    _fields_ = (
        *_HEAD,
        ("buffer", c_uint32),
        ("uniform", c_uint32),
        ("push_constant", c_uint32),
        ("in_out", c_uint32),
    )


class Extension(Structure):
    """VkExtensionProperties."""

    _fields_ = (("name", c_char * _TEXT), ("version", c_uint32))


def main() -> dict[str, object]:
    """Return the devices, or which library is missing or which call failed with what."""
    try:
        vulkan = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        return {"missing": _LIBRARY, "reason": str(error)}
    application = ApplicationInfo(api=_VERSION_1_1)
    info = InstanceCreateInfo(
        structure_type=InstanceCreateInfo.code, application=ctypes.addressof(application)
    )
    instance = c_void_p()
    if result := vulkan.vkCreateInstance(byref(info), None, byref(instance)):
        return {"call": "vkCreateInstance", "result": result}
    # The instance is never destroyed: this process ends without giving the drivers another turn.
    count = c_uint32()
    result = vulkan.vkEnumeratePhysicalDevices(instance, byref(count), None)
    handles = (c_void_p * count.value)()
    if not result:
        result = vulkan.vkEnumeratePhysicalDevices(instance, byref(count), handles)
    if result < 0 and result != _INITIALIZATION_FAILED:
        return {"call": "vkEnumeratePhysicalDevices", "result": result}
    found = [c_void_p(handle) for handle in handles[: count.value] if result >= 0]
    return {"devices": [_describe(vulkan, device) for device in found]}


def _describe(vulkan: ctypes.CDLL, device: c_void_p) -> dict[str, object]:
    plain = Properties()
    vulkan.vkGetPhysicalDeviceProperties(device, byref(plain))
    row: dict[str, object] = {
        "name": plain.name.decode("utf-8", "replace"),
        "type": plain.type,
        "vendor": plain.vendor,
        "storage16": False,
    }
    # A device of Vulkan 1.0 has none of the calls below; llama.cpp does not run on it.
    if plain.api >= _VERSION_1_1:
        extensions = _extensions(vulkan, device)
        row |= _identity(vulkan, device, extensions)
        row |= _numbers(vulkan, device, extensions)
        row["heaps"] = _heaps(vulkan, device, extensions)
    return row


def _extensions(vulkan: ctypes.CDLL, device: c_void_p) -> set[bytes]:
    count = c_uint32()
    vulkan.vkEnumerateDeviceExtensionProperties(device, None, byref(count), None)
    rows = (Extension * count.value)()
    vulkan.vkEnumerateDeviceExtensionProperties(device, None, byref(count), rows)
    return {row.name for row in rows[: count.value]}


def _identity(vulkan: ctypes.CDLL, device: c_void_p, extensions: set[bytes]) -> dict[str, object]:
    ids, driver, pci = IdProperties(), DriverProperties(), PciBusInfo()
    offered = b"VK_EXT_pci_bus_info" in extensions
    chain = [Properties2(), ids, driver, *([pci] if offered else [])]
    _ask(vulkan, "vkGetPhysicalDeviceProperties2", device, chain)
    return {
        "driver": driver.driver,
        "uuid": bytes(ids.device_uuid).hex(),
        "luid": bytes(ids.luid).hex() if ids.luid_valid else None,
        "pci": [pci.domain, pci.bus, pci.device, pci.function] if offered else None,
    }


def _numbers(vulkan: ctypes.CDLL, device: c_void_p, extensions: set[bytes]) -> dict[str, object]:
    half, storage = Float16Features(), Storage16Features()
    _ask(vulkan, "vkGetPhysicalDeviceFeatures2", device, [Features2(), half, storage])
    return {
        "fp16": bool(half.float16),
        "bf16": b"VK_KHR_shader_bfloat16" in extensions,
        "storage16": bool(storage.buffer),
    }


def _heaps(
    vulkan: ctypes.CDLL, device: c_void_p, extensions: set[bytes]
) -> list[dict[str, object]]:
    memory, now = MemoryProperties2(), MemoryBudget()
    offered = b"VK_EXT_memory_budget" in extensions
    chain = [memory, *([now] if offered else [])]
    _ask(vulkan, "vkGetPhysicalDeviceMemoryProperties2", device, chain)
    return [
        {
            "size": heap.size,
            "device_local": bool(heap.flags & _DEVICE_LOCAL),
            "budget": now.budget[index] if offered else None,
            "usage": now.usage[index] if offered else None,
        }
        for index, heap in enumerate(memory.heaps[: memory.heap_count])
    ]


def _ask(vulkan: ctypes.CDLL, call: str, device: c_void_p, chain: list[Linked]) -> None:
    """Link the structures to each other and have the driver fill them."""
    for part, following in zip(chain, [*chain[1:], None], strict=True):
        part.structure_type = part.code
        part.next = ctypes.addressof(following) if following else None
    vulkan[call](device, byref(chain[0]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
    sys.stdout.flush()
    # Drivers have crashed in their last words; what they had to tell is told.
    os._exit(0)
