"""AMD GPUs on Linux by the files of the amdgpu driver; no tool and no library is asked.

Memory is what the card has (``mem_info_vram``), not the window on it that the processor sees
(``mem_info_vis_vram``). What ROCm makes of the card is read from its compute nodes (KFD).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.apu_memory import Memory, Pool, apu_memory, card_memory
from quantpick.domain.capability import Capability, gfx_capability
from quantpick.domain.host import Backend, Caveat, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.domain.visible_amd import hidden_by
from quantpick.probes.drm import module_loaded, parse_hex, probe_cards, probe_renders
from quantpick.probes.kfd import parse_override, probe_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Ram
    from quantpick.probes.drm import Card
    from quantpick.probes.kfd import Node
    from quantpick.probes.protocol import Place

SOURCE = "amdgpu"
SYSTEMS = ("linux",)
TIME_LIMIT = 5.0

_VENDOR = 0x1002
_NAMES = "/usr/share/libdrm/amdgpu.ids"
_KFD = "/dev/kfd"
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"

#: Where HIP's library is looked for: AMD's packages, then those of the distributions.
_HIP_FOLDERS = (
    ("/opt", "rocm*/lib/libamdhip64.so*"),
    ("/usr/lib/x86_64-linux-gnu", "libamdhip64.so*"),
    ("/usr/lib64", "libamdhip64.so*"),
    ("/usr/lib", "libamdhip64.so*"),
)

#: Targets of llama.cpp's ROCm release for Linux (release.yml at commit 002efcd4, ROCm 7.2.1), and
#: gfx950, which is in the longer list of its pull request 28423 (September 2026).
ROCM_TARGETS = frozenset(
    {
        *("gfx908", "gfx90a", "gfx942", "gfx950"),
        *("gfx1030", "gfx1100", "gfx1101", "gfx1102"),
        *("gfx1150", "gfx1151", "gfx1200", "gfx1201"),
    }
)

_GROUPS = "add yourself to the groups render and video, and log in again"


class _Rocm(NamedTuple):
    """What ROCm would run on: its nodes, what hides each, and why it cannot run, if it cannot."""

    nodes: tuple[Node, ...] = ()
    hidden: tuple[str | None, ...] = ()
    override: str | None = None
    obstacle: str | None = None
    denied: bool = False
    installed: bool = False

    def drives(self, node: Node) -> bool:
        """Whether ROCm programs can use a node, were it visible."""
        return self.obstacle is None and (self.override or node.gfx) in ROCM_TARGETS


class _Seen(NamedTuple):
    """What came of one card: its devices, and remarks for the state."""

    sightings: tuple[Sighting, ...] = ()
    remarks: tuple[str, ...] = ()


def probe_devices(place: Place, ram: Ram) -> Answer:
    """Read all AMD GPUs; what cannot be read of one leaves the others."""
    cards = probe_cards(place, _VENDOR)
    if not cards:
        return Answer(states=(_absence(place),))
    rocm = _probe_rocm(place)
    sightings: list[Sighting] = []
    remarks, denied = list(_rocm_remarks(rocm)), []
    for card in cards:
        try:
            seen = _probe_card(place, ram, card, rocm)
        except PermissionError as error:
            denied.append(f"{card.pci or card.path}: {error.filename}")
            continue
        sightings += seen.sightings
        remarks += seen.remarks
    return Answer(tuple(sightings), *_states(sightings, remarks, denied, rocm))


def parse_name(ids: str, product: int, revision: int) -> str | None:
    """Return a product's name from libdrm's list: ``73DF, C1, AMD Radeon RX 6700 XT``."""
    row = rf"^0*{product:x},[ \t]*0*{revision:x},(.+)$"
    match = re.search(row, ids, re.MULTILINE | re.IGNORECASE)
    return match.group(1).strip() or None if match else None


def _absence(place: Place) -> SourceState:
    if place.list("/dev", "dxg"):
        # WSL gives programs the GPU through this device, and shows no card to Linux.
        advice = "if there is an AMD GPU, state its memory with --vram"
        return SourceState(SOURCE, State.NOTHING, "WSL shows no AMD card to Linux", advice)
    if module_loaded(place, "amdgpu"):
        return SourceState(SOURCE, State.NOTHING, "the driver has no card")
    return SourceState(SOURCE, State.NOT_INSTALLED, "no AMD GPU, or no driver for it")


def _probe_rocm(place: Place) -> _Rocm:
    nodes = probe_nodes(place)
    kfd = place.root / _KFD.lstrip("/")
    # ROCm opens it for reading and writing.
    denied = kfd.exists() and not os.access(kfd, os.R_OK | os.W_OK)
    installed = any(place.list(folder, pattern) for folder, pattern in _HIP_FOLDERS)
    obstacle = None
    if not kfd.exists():
        obstacle = f"there is no {_KFD}"
    elif denied:
        obstacle = f"{_KFD} cannot be opened"
    elif not installed:
        obstacle = "its library libamdhip64 was not found"
    return _Rocm(
        nodes,
        hidden_by(place.environ, [node.uuid for node in nodes]),
        parse_override(place.environ.get(_OVERRIDE, "")),
        obstacle,
        denied,
        installed,
    )


def _rocm_remarks(rocm: _Rocm) -> tuple[str, ...]:
    if rocm.obstacle is not None:
        return (f"not for ROCm: {rocm.obstacle}",)
    asked = f"{_OVERRIDE} makes ROCm take every GPU for {rocm.override}"
    return (asked,) if rocm.override else ()


def _probe_card(place: Place, ram: Ram, card: Card, rocm: _Rocm) -> _Seen:
    renders = probe_renders(place, card)
    nodes = [n for n in rocm.nodes if n.render in renders or (n.pci and n.pci == card.pci)]
    mode = (place.read(f"{card.device}/current_compute_partition", 64) or "").strip()
    if len(nodes) > 1 and mode not in {"", "SPX"}:
        return _partitions(place, card, nodes, mode, rocm)
    node = nodes[0] if nodes else None
    memory, integrated = _probe_memory(place, ram, card, node, rocm)
    sighting = _sighting(_probe_name(place, card), card, node, memory, rocm)
    remarks = _target_remarks(nodes[:1], rocm)
    if memory.total is None:
        remarks += (f"{card.pci or card.path} does not tell its memory",)
    return _Seen((sighting._replace(integrated=integrated),), remarks)


def _partitions(place: Place, card: Card, nodes: Sequence[Node], mode: str, rocm: _Rocm) -> _Seen:
    """Return the parts of a card that is split: each is a device to ROCm, on the same bus place."""
    name = _probe_name(place, card)
    sightings: list[Sighting] = []
    for node in nodes:
        memory = Memory(MemoryKind.DEDICATED, node.pool, node.pool)
        part = _sighting(f"{name} ({mode} {len(sightings)})", card, node, memory, rocm)
        uuid = f"{node.uuid or card.pci or card.path}/{node.number}"
        sightings.append(part._replace(uuid=uuid, integrated=False))
    remark = f"{card.pci or card.path} is split into {len(nodes)} devices ({mode})"
    return _Seen(tuple(sightings), (remark, *_target_remarks(nodes[:1], rocm)))


def _target_remarks(nodes: Sequence[Node], rocm: _Rocm) -> tuple[str, ...]:
    if rocm.obstacle is not None:
        return ()
    others = (node for node in nodes if not rocm.drives(node))
    return tuple(
        f"not for ROCm: no build for {rocm.override or node.gfx or 'its target'}" for node in others
    )


def _probe_memory(
    place: Place, ram: Ram, card: Card, node: Node | None, rocm: _Rocm
) -> tuple[Memory, bool | None]:
    """Return a card's memory, and whether it is part of the processor."""
    vram, gtt = _probe_pool(place, card, "vram"), _probe_pool(place, card, "gtt")
    # Old kernels tell a vendor for processors too, an unknown one. Newer ones tell neither.
    vendor = (place.read(f"{card.device}/mem_info_vram_vendor", 64) or "").strip()
    board = place.read(f"{card.device}/board_info", 64)
    if vendor not in {"", "unknown"} or board is not None:
        return card_memory(vram), False
    if vram.total is None and gtt.total is None:
        return Memory(), None
    limit = node.pool if node is not None and rocm.drives(node) else None
    return apu_memory(vram, gtt, ram, limit), True


def _probe_pool(place: Place, card: Card, name: str) -> Pool:
    total = place.number(f"{card.device}/mem_info_{name}_total")
    return Pool(total or None, place.number(f"{card.device}/mem_info_{name}_used"))


def _probe_name(place: Place, card: Card) -> str:
    revision = parse_hex(place.read(f"{card.device}/revision", 64) or "")
    if card.product is not None and revision is not None:
        listed = parse_name(place.read(_NAMES) or "", card.product, revision)
        if listed:
            return listed
    told = (place.read(f"{card.device}/product_name", 256) or "").strip()
    return told or f"AMD GPU {card.label}"


def _sighting(name: str, card: Card, node: Node | None, memory: Memory, rocm: _Rocm) -> Sighting:
    sighting = Sighting(
        SOURCE,
        name,
        memory.kind,
        memory.total,
        memory.usable,
        memory.free,
        cuts=memory.cuts,
        gtt=memory.gtt,
        backends=(Backend.VULKAN,),
        pci=card.pci,
    )
    return sighting if node is None else _with_node(sighting, node, rocm)


def _with_node(sighting: Sighting, node: Node, rocm: _Rocm) -> Sighting:
    fast = gfx_capability(node.gfx) if node.gfx else Capability()
    sighting = sighting._replace(
        arch=node.gfx, fp16=fast.fp16, bf16=fast.bf16, bandwidth=node.bandwidth, uuid=node.uuid
    )
    if not rocm.drives(node):
        # The variables are ROCm's, and Vulkan does not read them.
        return sighting
    hidden = rocm.hidden[rocm.nodes.index(node)]
    return sighting._replace(backends=(Backend.ROCM, Backend.VULKAN), hidden=hidden)


def _states(
    sightings: Sequence[Sighting], remarks: Sequence[str], denied: Sequence[str], rocm: _Rocm
) -> tuple[tuple[SourceState, ...], tuple[Caveat, ...]]:
    states, caveats = [], []
    if sightings:
        count = f"{len(sightings)} device{'s' if len(sightings) > 1 else ''}"
        detail = "; ".join((count, *dict.fromkeys(remarks)))
        states.append(SourceState(SOURCE, State.OK, detail))
    if denied:
        detail = f"may not read {', '.join(denied)}"
        states.append(SourceState(SOURCE, State.NO_PERMISSION, detail, _GROUPS))
        caveats.append(Caveat("amd_unreadable", f"AMD GPU: {detail}"))
    if rocm.denied:
        states.append(SourceState(SOURCE, State.NO_PERMISSION, f"may not open {_KFD}", _GROUPS))
        if rocm.installed:
            message = f"ROCm is installed and {_KFD} cannot be opened: {_GROUPS}"
            caveats.append(Caveat("amd_no_permission", message))
    return tuple(states), tuple(caveats)
