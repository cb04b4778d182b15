"""How much of an Apple machine's RAM its GPU may use: Metal's recommendedMaxWorkingSetSize.

The shares are read off public llama.cpp logs of machines with 16 to 512 GiB; they repeat 16 of
them to the last digit logged, and are no word of Apple's.
"""

from __future__ import annotations

from quantpick.domain.units import GIB

_PAGE = 16 * 1024

#: macOS from which the larger shares hold.
_NEWER = 26

#: macOS 26: the largest RAM in GiB that a share holds for, and the share in percent. 96, 256 and
#: 512 GiB were not measured and have their lower neighbour's.
_SHARES = ((24, 74), (48, 78), (96, 81))
_LARGEST_SHARE = 84

#: macOS up to 15: two thirds up to this RAM, three quarters up to the next, then all but 48 GiB.
_TWO_THIRDS, _THREE_QUARTERS, _KEPT = 32 * GIB, 256 * GIB, 48 * GIB


def working_set(ram: int, macos: int | None) -> int:
    """Return the bytes of ``ram`` that the GPU may use by default.

    ``macos`` is the major version; where unknown the smaller share counts.
    """
    if macos is not None and macos >= _NEWER:
        percent = next((p for gib, p in _SHARES if ram <= gib * GIB), _LARGEST_SHARE)
        return min(-(-ram * percent // (100 * _PAGE)) * _PAGE, ram)
    if ram <= _TWO_THIRDS:
        return min((ram // _PAGE * 2 // 3 + 1) * _PAGE, ram)
    return ram * 3 // 4 if ram <= _THREE_QUARTERS else ram - _KEPT
