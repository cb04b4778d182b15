"""The process that asks the Vulkan loader: the real one, and one that a C compiler makes."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.host import Backend, MemoryKind, SourceState, State
from quantpick.probes import vulkan, vulkan_child
from quantpick.probes.protocol import Place
from quantpick.probes.run import Output, run
from tests.support.vulkan import GIB, MIB, RAM, heap, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.domain.sighting import Answer

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the loader is looked for under its Linux name"
)

# The loader of this machine, with Mesa's software driver or a broken one


@pytest.fixture
def loader() -> None:
    """Skip where there is no Vulkan loader."""
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError as error:
        pytest.skip(f"no Vulkan loader: {error}")


@pytest.fixture
def lavapipe(loader: None) -> str:  # noqa: ARG001
    """Return the manifest of Mesa's software driver."""
    found = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not found:
        pytest.skip("no software Vulkan driver: install mesa-vulkan-drivers")
    return str(found[0])


def ask_really(root: Path, driver: str, *, limit: float = 60, **env: str) -> Answer:
    """Ask the machine's own loader about one driver; ``limit`` seconds is all the child gets."""

    def limited(words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        del timeout
        return run(words, timeout=limit, env=env)

    outside = {name: value for name, value in os.environ.items() if not name.startswith("GGML_")}
    environ = {**outside, "VK_DRIVER_FILES": driver, "VK_ICD_FILENAMES": driver, **env}
    return vulkan.probe_devices(Place(root, environ, limited, "linux"), RAM)


def test_lavapipe_is_seen_and_is_no_gpu(lavapipe: str, tmp_path: Path) -> None:
    answer = ask_really(tmp_path, lavapipe)
    (seen,) = answer.sightings
    assert seen.name.startswith("llvmpipe (LLVM ")
    assert (seen.software, seen.hidden) == (True, "a processor posing as a GPU")
    assert (seen.memory_kind, seen.total, seen.pci) == (MemoryKind.UNIFIED, 32 * GIB, None)
    assert seen.usable is not None
    assert 0 < seen.usable <= 32 * GIB
    assert seen.uuid is not None
    assert seen.fp16 is not None
    assert [row["luid"] for row in listed({"VK_DRIVER_FILES": lavapipe})] == [None]
    assert answer.states == (SourceState("Vulkan", State.OK, "1 device"),)


def test_lavapipe_is_taken_where_it_is_named(lavapipe: str, tmp_path: Path) -> None:
    (seen,) = ask_really(tmp_path, lavapipe, GGML_VK_VISIBLE_DEVICES="0").sightings
    assert (seen.software, seen.hidden) == (False, None)
    assert seen.backends == (Backend.VULKAN,)


@pytest.mark.usefixtures("loader")
def test_a_manifest_without_its_library_is_no_driver(tmp_path: Path) -> None:
    answer = ask_really(tmp_path, manifest(tmp_path, "/nowhere/libvulkan_none.so"))
    assert state_of(answer).state is State.NOT_INSTALLED
    assert answer.caveats == ()


@pytest.mark.usefixtures("loader")
def test_a_driver_that_aborts_takes_only_its_own_process(tmp_path: Path) -> None:
    answer = ask_really(tmp_path, driver(tmp_path, "abort();"))
    assert state_of(answer).state is State.FAILED
    assert state_of(answer).detail == "a driver crashed (SIGABRT)"
    assert [caveat.code for caveat in answer.caveats] == ["vulkan_failed"]


@pytest.mark.usefixtures("loader")
def test_a_driver_that_hangs_is_given_up(tmp_path: Path) -> None:
    hanging = driver(tmp_path, "for (;;) sleep(1);")
    with pytest.raises(TimeoutError):
        ask_really(tmp_path, hanging, limit=1)


def manifest(folder: Path, library: str) -> str:
    """Write a driver manifest and return its path."""
    document: dict[str, Any] = {
        "file_format_version": "1.0.0",
        "ICD": {"library_path": library, "api_version": "1.3.0"},
    }
    path = folder / "test_icd.json"
    path.write_text(json.dumps(document), "utf-8")
    return str(path)


def driver(folder: Path, on_load: str) -> str:
    """Build a driver that does something when it is loaded; return its manifest."""
    code = f"__attribute__((constructor)) static void on_load(void) {{ {on_load} }}"
    library = folder / "libvulkan_test.so"
    build(library, f"#include <stdlib.h>\n#include <unistd.h>\n{code}\n")
    return manifest(folder, str(library))


def build(library: Path, code: str) -> None:
    """Compile a shared library from C."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a library with")
    source = library.with_suffix(".c")
    source.write_text(code, "utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)


# A loader with three cards, whose structures the C compiler lays out


#: The structures as vulkan_core.h has them, and three cards.
LOADER = r"""
#include <stdint.h>
#include <string.h>
typedef struct Node { uint32_t type; struct Node *next; } Node;
typedef struct { uint32_t api, driver_version, vendor, device, type; char name[256];
                 uint8_t cache[16]; uint64_t limits[63]; uint32_t sparse[5]; } Properties;
typedef struct { uint32_t type; Node *next; Properties properties; } Properties2;
typedef struct { uint32_t type; Node *next; uint8_t device[16], driver[16], luid[8];
                 uint32_t mask, luid_valid; } Ids;
typedef struct { uint32_t type; Node *next; uint32_t id; char name[256], info[256];
                 uint8_t conformance[4]; } Driver;
typedef struct { uint32_t type; Node *next; uint32_t domain, bus, device, function; } Pci;
typedef struct { uint32_t type; Node *next; uint32_t float16, int8; } Half;
typedef struct { uint32_t type; Node *next; uint32_t buffer, uniform, push, in_out; } Storage16;
typedef struct { uint32_t flags, heap; } Type;
typedef struct { uint64_t size; uint32_t flags; } Heap;
typedef struct { uint32_t type; Node *next; uint32_t types; Type type_rows[32];
                 uint32_t heaps; Heap heap_rows[16]; } Memory;
typedef struct { uint32_t type; Node *next; uint64_t budget[16], usage[16]; } Budget;
typedef struct { char name[256]; uint32_t version; } Extension;

/* One that offers all, one without 16-bit storage, one of Vulkan 1.0. */
static int cards[3];

int vkCreateInstance(const Node *info, void *allocator, void **instance) {
    *instance = cards;
    return RESULT;
}
int vkEnumeratePhysicalDevices(void *instance, uint32_t *count, void **rows) {
    *count = 3;
    for (int i = 0; rows && i < 3; i++) rows[i] = &cards[i];
    return ENUMERATED;
}
void vkGetPhysicalDeviceProperties(void *card, Properties *it) {
    it->api = card == &cards[2] ? 4194304 : 4198400;
    it->vendor = 0x1002;
    it->type = 2;
    strcpy(it->name, card == cards ? "new \xc2\xae card" : "other card");
}
int vkEnumerateDeviceExtensionProperties(void *card, char *layer, uint32_t *count, Extension *it) {
    static const char *names[] = {"VK_KHR_shader_bfloat16", "VK_EXT_pci_bus_info",
                                  "VK_EXT_memory_budget"};
    for (int i = 0; it && i < 3; i++) strcpy(it[i].name, names[i]);
    *count = 3;
    return 0;
}
void vkGetPhysicalDeviceProperties2(void *card, Properties2 *first) {
    for (Node *node = (Node *) first; node; node = node->next) {
        if (node->type == 1000071004) {
            memset(((Ids *) node)->device, card == cards ? 0xab : 0xba, 16);
            memset(((Ids *) node)->luid, card == cards ? 0xcd : 0xdc, 8);
            ((Ids *) node)->luid_valid = card == cards;
        }
        if (node->type == 1000196000) ((Driver *) node)->id = 3;
        if (node->type == 1000212000) {
            Pci *pci = (Pci *) node;
            pci->domain = 1, pci->bus = 0xc1, pci->device = 2, pci->function = 3;
        }
    }
}
void vkGetPhysicalDeviceFeatures2(void *card, Node *first) {
    for (Node *node = first; node; node = node->next) {
        if (node->type == 1000082000) ((Half *) node)->float16 = 1;
        if (node->type == 1000083000) ((Storage16 *) node)->buffer = card == cards;
    }
}
void vkGetPhysicalDeviceMemoryProperties2(void *card, Memory *it) {
    it->heaps = 3;
    it->heap_rows[0] = (Heap) {8ull << 30, 1};
    it->heap_rows[1] = (Heap) {16ull << 30, 0};
    it->heap_rows[2] = (Heap) {256ull << 20, 3};
    for (Node *node = it->next ? it->next : 0; node; node = node->next)
        if (node->type == 1000237000)
            for (int i = 0; i < 3; i++) {
                ((Budget *) node)->budget[i] = (i + 1) * 100ull << 20;
                ((Budget *) node)->usage[i] = 10ull << 20;
            }
}
"""


def made(folder: Path, *, result: int = 0, enumerated: int = 0) -> str:
    """Make a loader of ``LOADER`` whose first two calls return these; return its folder."""
    code = f"#define RESULT {result}\n#define ENUMERATED {enumerated}\n{LOADER}"
    build(folder / "libvulkan.so.1", code)
    return str(folder)


def listed(env: Mapping[str, str]) -> list[dict[str, object]]:
    """Run the child and return the devices that it prints."""
    words = [sys.executable, "-I", "-S", vulkan_child.__file__]
    output = run(words, timeout=60, env={**os.environ, **env})
    assert (output.status, output.stderr) == (0, "")
    devices = json.loads(output.stdout)["devices"]
    assert isinstance(devices, list)
    return devices


def test_all_that_a_driver_tells_is_read(tmp_path: Path) -> None:
    new, small, old = listed({"LD_LIBRARY_PATH": made(tmp_path)})
    assert new == {
        "name": "new \N{REGISTERED SIGN} card",
        "type": 2,
        "vendor": 0x1002,
        "driver": 3,
        "uuid": "ab" * 16,
        "luid": "cd" * 8,
        "pci": [1, 0xC1, 2, 3],
        "fp16": True,
        "bf16": True,
        "storage16": True,
        "heaps": [
            heap(8 * GIB, budget=100 * MIB, usage=10 * MIB),
            heap(16 * GIB, local=False, budget=200 * MIB, usage=10 * MIB),
            heap(256 * MIB, budget=300 * MIB, usage=10 * MIB),
        ],
    }
    other = {"name": "other card", "uuid": "ba" * 16, "luid": None, "storage16": False}
    assert small == new | other
    assert old == {"name": "other card", "type": 2, "vendor": 0x1002, "storage16": False}


def test_what_it_reads_is_what_is_seen(tmp_path: Path) -> None:
    answer = ask_really(tmp_path, "/nowhere", LD_LIBRARY_PATH=made(tmp_path))
    new, small, old = answer.sightings
    assert (new.total, new.free) == (8 * GIB + 256 * MIB, (90 + 256) * MIB)
    assert (new.pci, new.uuid) == ("0001:c1:02.3", "abababab-abab-abab-abab-abababababab")
    assert (old.total, old.uuid, old.pci, old.fp16, old.bf16) == (None, None, None, None, None)
    reason = "no 16-bit storage, which llama.cpp needs"
    assert [seen.hidden for seen in (new, small, old)] == [None, reason, reason]


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the sizes are those of 64 bits")
def test_the_structures_have_the_sizes_of_vulkan_core_h() -> None:
    sizes = {
        vulkan_child.ApplicationInfo: 48,
        vulkan_child.InstanceCreateInfo: 64,
        vulkan_child.Properties: 824,
        vulkan_child.Properties2: 840,
        vulkan_child.IdProperties: 64,
        vulkan_child.DriverProperties: 536,
        vulkan_child.PciBusInfo: 32,
        vulkan_child.MemoryProperties2: 536,
        vulkan_child.MemoryBudget: 272,
        vulkan_child.Features2: 240,
        vulkan_child.Float16Features: 24,
        vulkan_child.Storage16Features: 32,
        vulkan_child.Extension: 260,
    }
    assert {kind: ctypes.sizeof(kind) for kind in sizes} == sizes


@pytest.mark.parametrize(
    ("results", "state", "detail"),
    [
        ({"result": -9}, State.NOT_INSTALLED, "no Vulkan driver that loads"),
        ({"result": -1}, State.FAILED, "vkCreateInstance answered -1"),
        ({"enumerated": -3}, State.NOTHING, "no device"),
        ({"enumerated": -4}, State.FAILED, "vkEnumeratePhysicalDevices answered -4"),
    ],
)
def test_a_call_that_fails_is_told(
    results: dict[str, int], state: State, detail: str, tmp_path: Path
) -> None:
    answer = ask_really(tmp_path, "/nowhere", LD_LIBRARY_PATH=made(tmp_path, **results))
    told = state_of(answer)
    assert (told.state, told.detail) == (state, detail)


def test_a_library_that_is_no_vulkan_loader_is_told(tmp_path: Path) -> None:
    build(tmp_path / "libvulkan.so.1", "int nothing;\n")
    told = state_of(ask_really(tmp_path, "/nowhere", LD_LIBRARY_PATH=str(tmp_path)))
    assert told.state is State.FAILED
    assert "vkCreateInstance" in told.detail


def test_a_file_that_is_no_library_is_no_loader(tmp_path: Path) -> None:
    (tmp_path / "libvulkan.so.1").write_text("GROUP ( nothing )\n", "utf-8")
    told = state_of(ask_really(tmp_path, "/nowhere", LD_LIBRARY_PATH=str(tmp_path)))
    assert (told.state, told.detail) == (State.NOT_INSTALLED, "no libvulkan.so.1")
