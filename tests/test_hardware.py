"""What quantpick knows of a machine: probed, stated by flags, read from a file of another one."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import fake_nvml
from tests.support.fake_nvml import FakeNvml, Gpu

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command import Command


GIB = 2**30
RTX_3090 = Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, reserved=316 * 2**20, free=20 * GIB)
RTX_3060 = Gpu("NVIDIA GeForce RTX 3060", 12 * GIB, reserved=368 * 2**20, free=11 * GIB)
SUPERCHIP = Gpu("NVIDIA GB10", memory_status=fake_nvml.NOT_SUPPORTED)
MODEL = "llama-3.1-70b"


def hardware(quantpick: Command, *words: str) -> dict[str, Any]:
    """Return what `quantpick hardware --json` tells."""
    run = quantpick("hardware", "--json", *words)
    assert run.status == 0, run.stderr
    return run.json


def devices(quantpick: Command, *words: str) -> list[dict[str, Any]]:
    """Return the devices that `quantpick hardware --json` lists."""
    found = hardware(quantpick, *words)["devices"]
    assert isinstance(found, list)
    return found


def recommend(quantpick: Command, *words: str) -> dict[str, Any]:
    """Return what `quantpick recommend --json` answers for one model."""
    return quantpick("recommend", MODEL, "--json", *words).json


# The NVIDIA driver


def test_a_card_is_read_with_what_the_driver_keeps_taken_off(
    quantpick: Command, nvml: FakeNvml
) -> None:
    (card,) = devices(nvml.machine(quantpick, RTX_3090))
    assert (card["name"], card["backend"]) == ("NVIDIA GeForce RTX 3090", "cuda")
    assert (card["memory_kind"], card["source"]) == ("dedicated", "NVML")
    assert (card["total"], card["free"]) == (24 * GIB, 20 * GIB)
    assert card["usable"] == 24 * GIB - 316 * 2**20
    assert [(cut["code"], cut["size"]) for cut in card["cuts"]] == [("reserved", 316 * 2**20)]


def test_text_shows_each_figure_of_a_card_with_its_source(
    quantpick: Command, nvml: FakeNvml
) -> None:
    run = nvml.machine(quantpick, RTX_3090)("hardware")
    rows = [re.split(r"\s{2,}", line) for line in run.stdout.splitlines()]
    what = "NVIDIA GeForce RTX 3090 (CUDA, dedicated): NVML"
    assert ["GPU 0", "24.0 GiB", "23.7 GiB", "20.0 GiB", what] in rows
    assert ["GPU 0: 0.3 GiB less: kept by the driver"] in rows
    assert any(row[0] == "RAM" and row[-1] for row in rows)
    assert ["backend: CUDA"] in rows


def test_two_different_cards_count_together(quantpick: Command, nvml: FakeNvml) -> None:
    machine = nvml.machine(quantpick, RTX_3090, RTX_3060)
    assert [d["name"] for d in devices(machine)] == [RTX_3090.name, RTX_3060.name]
    rule = recommend(machine, "--for", "speed")["rule"]
    usable = RTX_3090.total - RTX_3090.reserved + RTX_3060.total - RTX_3060.reserved
    assert (rule["pool"], rule["capacity"]) == ("vram", usable)


def test_an_old_driver_is_read_without_its_reserved_memory(
    quantpick: Command, nvml: FakeNvml
) -> None:
    (card,) = devices(nvml.machine(quantpick, RTX_3090, old=True))
    assert (card["total"], card["usable"], card["free"]) == (24 * GIB, 24 * GIB, 20 * GIB)
    assert card["memory_kind"] == "dedicated"


@pytest.mark.parametrize("old", [False, True], ids=["current", "old"])
def test_a_device_without_memory_of_its_own_shares_the_hosts(
    old: bool,  # noqa: FBT001 -- a parameter of the test
    quantpick: Command,
    nvml: FakeNvml,
) -> None:
    answer = recommend(nvml.machine(quantpick, SUPERCHIP, old=old), "--for", "quality")
    (device,) = answer["host"]["devices"]
    assert (device["memory_kind"], device["total"]) == ("unified", answer["host"]["ram"]["total"])
    assert answer["rule"]["pool"] == "vram_and_ram"
    assert answer["rule"]["capacity"] == answer["host"]["ram"]["total"]


def test_memory_of_a_card_is_added_to_ram(quantpick: Command, nvml: FakeNvml) -> None:
    answer = recommend(nvml.machine(quantpick, RTX_3090), "--for", "quality", "--ram", "64GiB")
    assert answer["rule"]["capacity"] == 64 * GIB + RTX_3090.total - RTX_3090.reserved


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (Gpu("lost", handle_status=fake_nvml.LOST), "fell off the bus"),
        (Gpu("lost", memory_status=fake_nvml.LOST), "fell off the bus"),
        (Gpu("odd", memory_status=fake_nvml.UNKNOWN), "Unknown Error"),
    ],
)
def test_a_lost_card_is_a_warning_and_the_other_stays(
    lost: Gpu, why: str, quantpick: Command, nvml: FakeNvml
) -> None:
    found = hardware(nvml.machine(quantpick, lost, RTX_3060))
    assert [d["name"] for d in found["devices"]] == [RTX_3060.name]
    (warning,) = found["warnings"]
    assert warning["code"] == "nvidia_unreadable"
    assert "GPU 0" in warning["message"]
    assert why in warning["message"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (fake_nvml.MISMATCH, "reboot"),
        (fake_nvml.NOT_LOADED, "not loaded"),
        (fake_nvml.NO_PERMISSION, "permission"),
    ],
)
def test_a_driver_that_will_not_start_is_a_warning(
    status: int, words: str, quantpick: Command, nvml: FakeNvml
) -> None:
    machine = nvml.machine(quantpick, RTX_3090, init=status)
    found = hardware(machine)
    assert found["devices"] == []
    assert [warning["code"] for warning in found["warnings"]] == ["nvidia_unreadable"]
    text = machine("hardware")
    assert text.status == 0
    assert "backend: CPU" in text.stdout
    assert re.search(f"^warning: NVIDIA: .*{words}", text.stderr, re.MULTILINE)


def test_a_machine_without_driver_is_a_cpu_and_nothing_to_warn_of(bare: Command) -> None:
    found = hardware(bare)
    assert (found["devices"], found["warnings"]) == ([], [])
    text = bare("hardware")
    assert (text.status, text.stderr) == (0, "")
    assert "backend: CPU" in text.stdout


def test_a_driver_without_cards_is_a_cpu_and_nothing_to_warn_of(
    quantpick: Command, nvml: FakeNvml
) -> None:
    found = hardware(nvml.machine(quantpick))
    assert (found["devices"], found["warnings"]) == ([], [])


def test_free_memory_never_exceeds_the_usable(quantpick: Command, nvml: FakeNvml) -> None:
    card = Gpu("NVIDIA GeForce RTX 5090", 32 * GIB, reserved=GIB, free=55 * GIB)
    (found,) = devices(nvml.machine(quantpick, card))
    assert (found["usable"], found["free"]) == (31 * GIB, 31 * GIB)


def test_a_broken_driver_module_is_a_warning(quantpick: Command, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('broken on purpose')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    found = quantpick("hardware", "--json", PYTHONPATH=path).json
    (warning,) = found["warnings"]
    assert "broken on purpose" in warning["message"]
    assert found["ram"]["total"] > 0


# Flags in place of the probe


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (["24GiB"], [24 * GIB]),
        (["24GB"], [24 * 10**9]),
        (["24"], [24 * GIB]),
        (["0.5gib", "80 GB"], [GIB // 2, 80 * 10**9]),
    ],
)
def test_stated_cards_take_the_place_of_probed_ones(
    sizes: list[str], expected: list[int], quantpick: Command, nvml: FakeNvml
) -> None:
    words = [word for size in sizes for word in ("--vram", size)]
    found = hardware(nvml.machine(quantpick, RTX_3090, init=fake_nvml.MISMATCH), *words)
    assert [(d["total"], d["usable"]) for d in found["devices"]] == [(e, e) for e in expected]
    assert {device["source"] for device in found["devices"]} == {"--vram"}
    assert found["warnings"] == []


def test_stated_ram_and_build_take_the_place_of_probed_ones(quantpick: Command) -> None:
    found = hardware(quantpick, "--ram", "64GB", "--llama-cpp", "b3472")
    ram, engine = found["ram"], found["engine"]
    assert (ram["total"], ram["available"], ram["source"]) == (64 * 10**9, None, "--ram")
    assert (engine["build"], engine["source"]) == (3472, "--llama-cpp")


@pytest.mark.parametrize("backend", ["rocm", "vulkan", "cuda", "sycl"])
def test_a_stated_backend_is_that_of_the_probed_card(
    backend: str, quantpick: Command, nvml: FakeNvml
) -> None:
    (card,) = devices(nvml.machine(quantpick, RTX_3090), "--backend", backend)
    assert (card["name"], card["backend"]) == (RTX_3090.name, backend)


def test_backend_cpu_leaves_the_card_out(quantpick: Command, nvml: FakeNvml) -> None:
    assert devices(nvml.machine(quantpick, RTX_3090), "--backend", "cpu") == []


@pytest.mark.parametrize(("ram", "usable"), [(24, 16), (64, 48)])
def test_metal_gives_a_share_of_ram(ram: int, usable: int, bare: Command) -> None:
    (device,) = devices(bare, "--backend", "metal", "--ram", f"{ram}GiB")
    assert (device["backend"], device["memory_kind"]) == ("metal", "unified")
    # Two thirds are rounded up to a page of 16 KiB.
    assert (device["total"], device["usable"] // 2**20) == (ram * GIB, usable * 2**10)
    rule = recommend(bare, "--backend", "metal", "--ram", f"{ram}GiB", "--for", "quality")["rule"]
    assert rule["capacity"] == ram * GIB


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--vram", "24G"], "24GiB"),
        (["--vram", "-1GiB"], "24GiB"),
        (["--vram", "0"], "above zero"),
        (["--vram", "9" * 400], "24GiB"),
        (["--ram", "lots"], "24GiB"),
        (["--ram", ""], "24GiB"),
        (["--llama-cpp", "master"], "b3472"),
        (["--llama-cpp", ""], "b3472"),
        (["--backend", "cuda"], "--vram 24GiB"),
        (["--backend", "abacus"], "quantpick hardware --help"),
        (["--host", "host.json", "--vram", "24GiB"], "leave out --host"),
        (["--host", "host.json", "--ram", "24GiB"], "leave out --host"),
    ],
)
def test_a_figure_that_cannot_be_meant_is_refused(
    words: list[str], hint: str, bare: Command
) -> None:
    run = bare("hardware", *words)
    assert (run.status, run.stdout) == (2, "")
    assert re.search(f"^hint: .*{re.escape(hint)}", run.stderr, re.MULTILINE)


# Files of other machines


def test_a_file_carries_a_machine_to_another(
    quantpick: Command, bare: Command, nvml: FakeNvml
) -> None:
    lost = Gpu("lost", handle_status=fake_nvml.LOST)
    there = nvml.machine(quantpick, RTX_3090, lost, RTX_3060)
    written = there("hardware", "--json", "--llama-cpp", "b3472")
    (bare.cwd / "host.json").write_text(written.stdout)
    assert hardware(bare, "--host", "host.json") == written.json
    answer = recommend(bare, "--host", "host.json")
    assert answer["host"] == {key: written.json[key] for key in answer["host"]}
    own = recommend(there, "--llama-cpp", "b3472")
    for part in ("pick", "rule", "verdicts", "commands", "model"):
        assert answer[part] == own[part]


def test_a_full_card_is_still_full_on_another_machine(
    quantpick: Command, bare: Command, nvml: FakeNvml
) -> None:
    there = nvml.machine(quantpick, Gpu("NVIDIA A10", 24 * GIB, free=0))
    (bare.cwd / "host.json").write_text(there("hardware", "--json").stdout)
    (card,) = devices(bare, "--host", "host.json")
    assert card["free"] == 0


def test_flags_change_a_machine_read_from_a_file(
    quantpick: Command, bare: Command, nvml: FakeNvml
) -> None:
    there = nvml.machine(quantpick, RTX_3090)
    (bare.cwd / "host.json").write_text(there("hardware", "--json").stdout)
    found = hardware(bare, "--host", "host.json", "--backend", "vulkan", "--llama-cpp", "7")
    assert found["devices"][0]["backend"] == "vulkan"
    assert found["engine"]["build"] == 7
