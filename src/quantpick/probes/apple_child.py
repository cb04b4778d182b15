"""Asks Metal for its default device and prints what it tells, as JSON; a program of its own.

Runs apart from quantpick, which a fault in a graphics driver must not end. Its argument is the
folder that the system's frameworks are below. ``null`` is a machine without a Metal device.
"""

from __future__ import annotations

import json
import sys
from ctypes import CDLL, CFUNCTYPE, c_char_p, c_uint64, c_void_p
from pathlib import Path


def default_device(root: Path) -> dict[str, object] | None:
    """Return name and recommended working set of Metal's default device, None without one."""
    frameworks = root / "System/Library/Frameworks"
    # A command line program gets no device from Metal before CoreGraphics is loaded
    # (Apple's documentation of MTLCreateSystemDefaultDevice).
    CDLL(str(frameworks / "CoreGraphics.framework/CoreGraphics"))
    metal = CDLL(str(frameworks / "Metal.framework/Metal"))
    create = CFUNCTYPE(c_void_p)(("MTLCreateSystemDefaultDevice", metal))
    device = create()
    if not device:
        return None
    objc = CDLL(str(root / "usr/lib/libobjc.A.dylib"))
    selector = CFUNCTYPE(c_void_p, c_char_p)(("sel_registerName", objc))
    # One function with the true signature a kind of answer: arm64 passes them differently.
    number = CFUNCTYPE(c_uint64, c_void_p, c_void_p)(("objc_msgSend", objc))
    thing = CFUNCTYPE(c_void_p, c_void_p, c_void_p)(("objc_msgSend", objc))
    text = CFUNCTYPE(c_char_p, c_void_p, c_void_p)(("objc_msgSend", objc))
    name = text(thing(device, selector(b"name")), selector(b"UTF8String"))
    return {
        "name": (name or b"").decode("utf-8", "replace"),
        "recommendedMaxWorkingSetSize": number(device, selector(b"recommendedMaxWorkingSetSize")),
    }


if __name__ == "__main__":
    json.dump({"device": default_device(Path(sys.argv[1]))}, sys.stdout)
