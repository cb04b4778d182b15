"""Windows' registry and performance counters; the only door to winreg and pdh.dll.

Both are empty on other systems. The counters' names are translated in other languages' Windows; the
English ones are asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

if sys.platform == "win32":
    import ctypes
    import winreg
    from ctypes import wintypes

    _COUNTER = r"\GPU Adapter Memory(*)\Dedicated Usage"
    _AS_LARGE, _MORE_DATA = 0x400, 0x800007D2

    #: Statuses of a value that can be used: valid, and new since the last reading.
    _VALID = {0, 1}

    class _Value(ctypes.Structure):
        """PDH_FMT_COUNTERVALUE, with the member of its union that a large number is in."""

        _fields_ = (("status", wintypes.DWORD), ("large", ctypes.c_int64))

    class _Item(ctypes.Structure):
        """PDH_FMT_COUNTERVALUE_ITEM_W."""

        _fields_ = (("name", wintypes.LPWSTR), ("value", _Value))

    def read_dedicated_usage() -> dict[str, int]:
        """Return the bytes in use by counter instance. Raises OSError where there are none."""
        pdh = ctypes.WinDLL("pdh.dll")
        query, counter = ctypes.c_void_p(), ctypes.c_void_p()
        nothing = ctypes.c_size_t(0)
        _check(pdh.PdhOpenQueryW(None, nothing, ctypes.byref(query)))
        try:
            _check(pdh.PdhAddEnglishCounterW(query, _COUNTER, nothing, ctypes.byref(counter)))
            _check(pdh.PdhCollectQueryData(query))
            return _instances(pdh, counter)
        finally:
            pdh.PdhCloseQuery(query)

    def _instances(pdh: ctypes.WinDLL, counter: ctypes.c_void_p) -> dict[str, int]:
        size, count = wintypes.DWORD(), wintypes.DWORD()
        sizes = ctypes.byref(size), ctypes.byref(count)
        read = pdh.PdhGetFormattedCounterArrayW
        # The first call tells the size of the items and of the names that follow them.
        if read(counter, _AS_LARGE, *sizes, None) & 0xFFFFFFFF != _MORE_DATA:
            return {}
        buffer = (ctypes.c_uint64 * (size.value // 8 + 1))()
        _check(read(counter, _AS_LARGE, *sizes, buffer))
        items = ctypes.cast(buffer, ctypes.POINTER(_Item))
        rows = [(items[at].name, items[at].value) for at in range(count.value)]
        return {name: value.large for name, value in rows if name and value.status in _VALID}

    def _check(status: int) -> None:
        if status:
            raise OSError(f"the performance counters answer {status & 0xFFFFFFFF:#010x}")

    class LocalMachine:
        """The keys below HKEY_LOCAL_MACHINE; what cannot be opened is empty."""

        def subkeys(self, path: str) -> Sequence[str]:
            """Return the names of the keys below a key."""
            try:
                with _open(path) as key:
                    return [winreg.EnumKey(key, at) for at in range(winreg.QueryInfoKey(key)[0])]
            except OSError:
                return ()

        def values(self, path: str) -> Mapping[str, object]:
            """Return the values of a key by name."""
            try:
                with _open(path) as key:
                    rows = [winreg.EnumValue(key, at) for at in range(winreg.QueryInfoKey(key)[1])]
            except OSError:
                return {}
            return {name: value for name, value, _ in rows}

    def _open(path: str) -> winreg.HKEYType:
        # A 32 bit Python would otherwise be shown another tree.
        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        return winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path, 0, access)

else:

    class LocalMachine:
        """No registry."""

        def subkeys(self, _path: str) -> Sequence[str]:
            """Return nothing."""
            return ()

        def values(self, _path: str) -> Mapping[str, object]:
            """Return nothing."""
            return {}

    def read_dedicated_usage() -> dict[str, int]:
        """Return nothing."""
        return {}
