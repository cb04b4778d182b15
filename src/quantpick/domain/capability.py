"""What a GPU computes in hardware: FP16 and BF16, by the number its vendor gives its architecture.

For GGUF this decides about files in BF16 and F16: without the hardware they are slow.
"""

from __future__ import annotations

from typing import NamedTuple

#: CUDA compute capability from which FP16 is fast, all but 6.1 (GTX 10 series), and BF16 there is.
_CUDA_FP16, _CUDA_SLOW_FP16, _CUDA_BF16 = (6, 0), (6, 1), (8, 0)

#: AMD's gfx targets: FP16 from Vega (gfx900) on; BF16 in CDNA (gfx908, 90a, 94x, 950) and from
#: RDNA3 (gfx11xx) on, as ggml has it.
_AMD_FP16, _AMD_BF16 = 9, 11
_AMD_MATRIX = ("gfx908", "gfx90a", "gfx94", "gfx95")


class Capability(NamedTuple):
    """Whether FP16 and BF16 are computed in hardware, None where unknown."""

    fp16: bool | None = None
    bf16: bool | None = None


def cuda_capability(major: int, minor: int) -> Capability:
    """Return what an NVIDIA GPU of a compute capability has."""
    version = (major, minor)
    return Capability(version >= _CUDA_FP16 and version != _CUDA_SLOW_FP16, version >= _CUDA_BF16)


def gfx_capability(target: str) -> Capability:
    """Return what an AMD GPU of a target such as ``gfx1151`` has; nothing known of another text."""
    # The last two characters are minor version and stepping.
    major = target.removeprefix("gfx")[:-2]
    if not target.startswith("gfx") or not major.isdecimal():
        return Capability()
    return Capability(
        int(major) >= _AMD_FP16, int(major) >= _AMD_BF16 or target.startswith(_AMD_MATRIX)
    )
