"""Writes trees of the files in which Linux describes graphics cards, and reads them as a place."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

import pytest

from quantpick.probes.protocol import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 2**30
MIB = 2**20

#: A window on a card's memory of 256 MiB, the third line of a PCI resource file.
SMALL_WINDOW = (
    "0x00000000fc000000 0x00000000fcffffff 0x0000000000140204\n"
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    "0x0000007fe0000000 0x0000007fefffffff 0x000000000014220c\n"
)


def _reads_everything() -> bool:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "denied"
        file.touch(mode=0)
        return os.access(file, os.R_OK)


#: Marks a test in which a file may not be read.
denying = pytest.mark.skipif(_reads_everything(), reason="this user may read everything")


def place(root: Path, environ: Mapping[str, str] | None = None) -> Place:
    """Return a Linux machine whose files are below ``root``, and that may start no program."""
    return Place(root, environ or {}, _run_nothing, "linux")


def write(root: Path, path: str, content: object) -> None:
    """Write a file below the root, with the folders above it."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{content}\n")


def write_card(root: Path, number: int, pci: str, **files: object) -> str:
    """Write a card and the files of its device; return the device's folder.

    ``vendor`` is one of the files; the card has the render node 128 + number.
    """
    device = f"/sys/class/drm/card{number}/device"
    for name, content in files.items():
        write(root, f"{device}/{name}", content)
    write(root, f"{device}/uevent", f"DRIVER=some\nPCI_CLASS=30000\nPCI_SLOT_NAME={pci}")
    write(root, f"{device}/drm/renderD{128 + number}/dev", "226:128")
    # What is listed beside cards and is none.
    write(root, f"/sys/class/drm/card{number}-DP-1/status", "connected")
    write(root, "/sys/class/drm/version", "drm 1.1.0 20060810")
    return device


def write_amd(root: Path, number: int, pci: str, **files: object) -> str:
    """Write a card of AMD's with its own memory; ``files`` replace the usual ones."""
    usual: dict[str, object] = {
        "vendor": "0x1002",
        "device": "0x73df",
        "revision": "0xc1",
        "mem_info_vram_vendor": "samsung",
        "mem_info_vis_vram_total": 268435456,
        "mem_info_vis_vram_used": 10000000,
        "mem_info_gtt_total": 8 * GIB,
        "mem_info_gtt_used": 0,
    }
    return write_card(root, number, pci, **{**usual, **files})


def write_apu(root: Path, number: int, pci: str, vram: int, gtt: int, **files: object) -> str:
    """Write a GPU inside a processor of AMD's, with a carve-out and a GTT and nothing used."""
    usual: dict[str, object] = {
        "vendor": "0x1002",
        "device": "0x1586",
        "revision": "0xc1",
        "mem_info_vram_total": vram,
        "mem_info_vram_used": 0,
        "mem_info_vis_vram_total": vram,
        "mem_info_gtt_total": gtt,
        "mem_info_gtt_used": 0,
    }
    return write_card(root, number, pci, **{**usual, **files})


def write_node(root: Path, number: int, *banks: Mapping[str, int], **rows: int) -> str:
    """Write a compute node with its memory banks; without ``simd_count`` it is a processor."""
    folder = f"/sys/class/kfd/kfd/topology/nodes/{number}"
    text = "\n".join(f"{name} {value}" for name, value in rows.items())
    write(root, f"{folder}/properties", text)
    for index, bank in enumerate(banks):
        text = "\n".join(f"{name} {value}" for name, value in bank.items())
        write(root, f"{folder}/mem_banks/{index}/properties", text)
    return folder


def write_rocm(root: Path) -> None:
    """Write what ROCm programs need: the compute device and HIP's library."""
    write(root, "/dev/kfd", "")
    write(root, "/opt/rocm-7.2.1/lib/libamdhip64.so.7", "")


def _run_nothing(*_words: object, **_options: object) -> NoReturn:
    raise AssertionError("a program was started")
