"""Whole machines through the command line: files of another one, a driver, an engine, flags."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.probes.protocol import SYSROOT_VARIABLE
from tests.support import fake_nvml
from tests.support.command import Command
from tests.support.fake_nvml import Gpu
from tests.support.llama_programs import devices, with_path, write_engine
from tests.support.sysfs import (
    GIB,
    MIB,
    write,
    write_amd,
    write_apu,
    write_card,
    write_node,
    write_rocm,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_nvml import FakeNvml

MODEL = "llama-3.1-70b"
FLOATS = {"BF16": "qwen3-14b", "F16": "llama-3.2-3b"}
RTX_3090 = Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, reserved=316 * MIB, free=20 * GIB)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the machines are made of Linux's files"
)


def on_machine(quantpick: Command, root: Path, ram_gib: int) -> Command:
    """Return quantpick on a machine whose files are below ``root``."""
    kib = ram_gib * 2**20
    write(root, "/proc/meminfo", f"MemTotal: {kib} kB\nMemAvailable: {kib - 2**20} kB")
    return Command(quantpick.cwd, {**quantpick.env, SYSROOT_VARIABLE: str(root)})


def hardware(quantpick: Command, *words: str) -> dict[str, Any]:
    """Return what `quantpick hardware --json` tells."""
    found = quantpick("hardware", "--json", *words)
    assert found.status == 0, found.stderr
    return found.json


def states(found: dict[str, Any]) -> dict[str, str]:
    """Return the state of each source."""
    return {source["source"]: source["state"] for source in found["sources"]}


# Machines of other makers


def test_an_apus_memory_is_counted_once(bare: Command, tmp_path: Path) -> None:
    write_apu(tmp_path, 0, "0000:c4:00.0", vram=GIB // 2, gtt=62 * GIB)
    write_node(tmp_path, 1, gfx_target_version=110501, simd_count=80, drm_render_minor=128)
    write_rocm(tmp_path)
    machine = on_machine(bare, tmp_path, 124)
    found = hardware(machine)
    (card,) = found["devices"]
    assert (card["memory_kind"], card["arch"], card["backend"]) == (
        "carve-out+gtt",
        "gfx1151",
        "rocm",
    )
    assert (card["usable"], card["gtt"]) == (62 * GIB + GIB // 2, 62 * GIB)
    rule = machine("recommend", MODEL, "--json", "--for", "quality").json["rule"]
    # The carve-out lies outside the RAM that the system sees, the rest inside.
    assert rule["capacity"] == 124 * GIB + GIB // 2
    assert "62.0 GiB of it are RAM, counted once" in machine("hardware").stdout


def test_an_integrated_gpu_beside_a_card_is_not_counted(bare: Command, tmp_path: Path) -> None:
    write_card(tmp_path, 0, "0000:00:02.0", vendor="0x8086", device="0xa780")
    card = {"mem_info_vram_total": 24 * GIB, "mem_info_vram_used": GIB}
    write_amd(tmp_path, 1, "0000:03:00.0", **card)
    found = hardware(on_machine(bare, tmp_path, 64))
    assert [(d["pci"], d["backend"]) for d in found["devices"]] == [("0000:03:00.0", "vulkan")]
    assert [item["code"] for item in found["set_aside"]] == ["integrated"]
    assert found["devices"][0]["usable"] == 24 * GIB


def test_a_container_limit_is_the_machine(bare: Command, tmp_path: Path) -> None:
    write(
        tmp_path,
        "/proc/self/mountinfo",
        "30 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw",
    )
    write(tmp_path, "/proc/self/cgroup", "0::/docker/abc")
    write(tmp_path, "/sys/fs/cgroup/memory.max", 8 * GIB)
    write(tmp_path, "/sys/fs/cgroup/memory.current", 3 * GIB)
    stat = f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\nslab_reclaimable 0"
    write(tmp_path, "/sys/fs/cgroup/memory.stat", stat)
    machine = on_machine(bare, tmp_path, 64)
    found = hardware(machine)
    assert (found["ram"]["total"], found["ram"]["installed"]) == (8 * GIB, 64 * GIB)
    text = machine("hardware").stdout
    assert re.search(r"^RAM +64\.0 GiB +8\.0 GiB +7\.0 GiB ", text, re.MULTILINE)
    assert re.search(r"^RAM: 56\.0 GiB less: .*cgroup", text, re.MULTILINE)
    rule = machine("recommend", MODEL, "--json").json["rule"]
    assert rule["capacity"] == 8 * GIB


# Driver and engine together


def test_the_engine_and_the_driver_make_one_card(
    quantpick: Command, nvml: FakeNvml, tmp_path: Path
) -> None:
    write_engine(tmp_path, devices("CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 19000 MiB free)"))
    found = hardware(with_path(nvml.machine(quantpick, RTX_3090), tmp_path))
    (card,) = found["devices"]
    assert (card["total"], card["usable"], card["free"]) == (24 * GIB, 24124 * MIB, 19000 * MIB)
    assert (card["arch"], card["bf16"], card["pci"]) == ("8.6", True, "0000:01:00.0")
    assert sum(cut["size"] for cut in card["cuts"]) == card["total"] - card["usable"]


def test_a_build_without_a_gpu_backend_is_a_warning_and_the_cpu(
    quantpick: Command, nvml: FakeNvml, tmp_path: Path
) -> None:
    program = write_engine(tmp_path, devices())
    machine = with_path(nvml.machine(quantpick, RTX_3090), tmp_path)
    run = machine("recommend", MODEL, "--ram", "64GiB")
    assert run.status == 0
    assert f"warning: {program} lists no GPU" in run.stderr
    assert "NVIDIA GeForce RTX 3090" in run.stderr
    assert "--n-gpu-layers 0" in run.stdout
    # The user who is about to get another build says so.
    (card,) = hardware(machine, "--backend", "cuda")["devices"]
    assert card["name"] == RTX_3090.name


def test_a_hung_driver_is_a_state_and_the_answer_comes(quantpick: Command, nvml: FakeNvml) -> None:
    found = hardware(nvml.machine(quantpick, RTX_3090, hang=600))
    assert states(found)["NVML"] == "timed out"
    assert found["devices"] == []
    assert [warning["code"] for warning in found["warnings"]] == ["source_failed"]


def test_the_program_is_asked_where_the_library_does_not_answer(
    quantpick: Command, bare: Command, nvml: FakeNvml, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asked = [
        "nvidia-smi" in states(hardware(with_path(machine, tmp_path)))
        for machine in (bare, nvml.machine(quantpick, RTX_3090))
    ]
    assert asked == [True, False]


# What is asked, and what to do


def test_doctor_tells_each_source_with_its_state(
    quantpick: Command, nvml: FakeNvml, tmp_path: Path
) -> None:
    write_engine(tmp_path, devices())
    machine = nvml.machine(quantpick, RTX_3090, init=fake_nvml.MISMATCH)
    run = with_path(machine, tmp_path)("hardware", "--doctor", CUDA_VISIBLE_DEVICES="0")
    rows = [re.split(r"\s{2,}", line) for line in run.stdout.splitlines()]
    said = {row[0]: row[1] for row in rows if len(row) > 1}
    assert said["llama.cpp"] == "ok"
    assert said["NVML"] == "mismatch"
    assert said["RAM"] == "ok"
    assert "for other systems: Metal, Windows registry" in run.stdout
    assert re.search(r"^to do: NVML: .*reboot", run.stdout, re.MULTILINE)
    assert "set: CUDA_VISIBLE_DEVICES=0" in run.stdout.splitlines()


def test_without_doctor_the_sources_are_not_listed(bare: Command) -> None:
    run = bare("hardware")
    assert "NVML" not in run.stdout
    assert "quantpick hardware --doctor" in run.stdout


# Flags


def test_a_named_card_takes_the_place_of_the_probed_ones(bare: Command) -> None:
    found = hardware(bare, "--gpu", "2x3090", "--ram", "64GiB")
    assert [(d["usable"], d["backend"], d["bf16"]) for d in found["devices"]] == [
        (24 * GIB, "cuda", True)
    ] * 2
    found = hardware(bare, "--gpu", "3090", "--backend", "vulkan")
    assert [d["backend"] for d in found["devices"]] == ["vulkan"]


def test_a_named_machine_brings_its_memory(bare: Command) -> None:
    found = hardware(bare, "--gpu", "m4-max-64")
    assert (found["ram"]["total"], found["devices"][0]["memory_kind"]) == (64 * GIB, "unified")
    assert found["ram"]["source"] == "--gpu"
    rule = bare("recommend", MODEL, "--gpu", "m4-max-64", "--for", "quality", "--json").json["rule"]
    assert rule["capacity"] == 64 * GIB


@pytest.mark.parametrize("words", [("--gpu", "b580, 4090"), ("--gpu", "b580", "--gpu", "4090")])
def test_cards_of_different_makers_are_driven_by_one_backend(
    words: tuple[str, ...], bare: Command
) -> None:
    cards = hardware(bare, *words)["devices"]
    assert [(card["name"], card["backend"]) for card in cards] == [
        ("Arc B580", "vulkan"),
        ("GeForce RTX 4090", "vulkan"),
    ]


@pytest.mark.parametrize(
    ("name", "usable", "cut"),
    [
        ("m4-max-128", 48 * GIB, [("working_set", 16 * GIB)]),
        ("strix-halo-128", 64 * GIB, [("gtt_limit", 64 * GIB)]),
        ("dgx-spark", 64 * GIB, []),
    ],
)
def test_stated_ram_bounds_what_a_named_machine_shares(
    name: str, usable: int, cut: list[tuple[str, int]], bare: Command
) -> None:
    found = hardware(bare, "--gpu", name, "--ram", "64GiB")
    (gpu,) = found["devices"]
    assert found["ram"]["source"] == "--ram"
    assert (gpu["usable"], [(c["code"], c["size"]) for c in gpu["cuts"]]) == (usable, cut)


def test_a_share_larger_than_the_stated_ram_is_cut(bare: Command) -> None:
    (gpu,) = hardware(bare, "--gpu", "strix-halo-128", "--ram", "32GiB")["devices"]
    assert gpu["usable"] == gpu["gtt"] == 32 * GIB
    assert [c["size"] for c in gpu["cuts"]] == [64 * GIB, 32 * GIB]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--gpu", "RTX 9999"], 3, "RTX 9999"),
        (["--gpu", "m4-max"], 2, "64"),
        (["--gpu", "3090", "--vram", "24GiB"], 2, "--gpu"),
        (["--gpu", "3090", "--backend", "cpu"], 2, "--gpu"),
        (["--device", "CUDA0"], 3, "CUDA0"),
        (["--vram", "24GiB", "--free-vram", "1GiB", "--free-vram", "1GiB"], 2, "--free-vram"),
        (["--free-vram", "1GiB"], 2, "--free-vram"),
        (["--host", "x.json", "--engine", "x"], 2, "--engine"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], status: int, said: str, bare: Command
) -> None:
    run = bare("hardware", *words)
    assert (run.status, run.stdout) == (status, "")
    assert said in run.stderr
    assert "hint: " in run.stderr


def test_free_memory_is_planned_for_when_it_is_stated(bare: Command) -> None:
    words = ["--vram", "24GiB", "--backend", "cuda", "--free-vram", "12GiB"]
    (card,) = hardware(bare, *words)["devices"]
    assert (card["total"], card["usable"], card["free"]) == (24 * GIB, 12 * GIB, 12 * GIB)
    assert [(cut["code"], cut["size"]) for cut in card["cuts"]] == [("in_use", 12 * GIB)]
    asked = ["recommend", "llama-3.1-8b", "--json", "--for", "speed", "--ram", "64GiB"]
    assert bare(*asked, *words).json["rule"]["capacity"] == 12 * GIB


def test_a_chosen_device_is_in_the_line_that_runs_the_pick(bare: Command, tmp_path: Path) -> None:
    rows = (
        "CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23861 MiB free)",
        "CUDA1: NVIDIA GeForce RTX 3060 (11900 MiB, 11800 MiB free)",
    )
    write_engine(tmp_path, devices(*rows))
    machine = with_path(bare, tmp_path)
    asked = ["recommend", "llama-3.2-3b", "--json"]
    for words, flag in (
        ([], ""),
        (["--device", "3060"], " --device CUDA1"),
        (["--device", "CUDA1,CUDA0"], " --device CUDA1,CUDA0"),
        (["--device", "none"], " --device none"),
    ):
        run = machine(*asked, *words).json["commands"]["run"]
        assert flag in run
        assert ("--device" in run) == bool(flag)


def test_a_file_carries_all_that_is_known_to_another_machine(
    quantpick: Command, nvml: FakeNvml, bare: Command, tmp_path: Path
) -> None:
    write_engine(
        tmp_path / "bin", devices("CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 9 MiB free)")
    )
    there = with_path(nvml.machine(quantpick, RTX_3090), tmp_path / "bin")
    written = hardware(there)
    (bare.cwd / "host.json").write_text(json.dumps(written))
    assert hardware(bare, "--host", "host.json") == written


# Types of 16 bits


@pytest.mark.parametrize(
    ("gpu", "bf16", "f16"),
    [
        ("3090", "float_native", "float_native"),
        ("2060", "float_slow", "float_native"),
        ("1080", "float_slow", "float_slow"),
        (None, "float_unknown", "float_unknown"),
    ],
)
def test_bf16_and_f16_are_advised_by_what_the_device_has(
    gpu: str | None, bf16: str, f16: str, bare: Command
) -> None:
    words = ["--gpu", gpu] if gpu else ["--vram", "24GiB", "--backend", "cuda"]
    words += ["--ram", "64GiB", "--for", "quality"]
    for label, code in (("BF16", bf16), ("F16", f16)):
        answer = bare("explain", f"{FLOATS[label]}:{label}", *words, "--json").json
        codes = [reason["code"] for reason in answer["verdict"]["reasons"]]
        assert code in codes
        others = {"float_native", "float_slow", "float_unknown"} - {code}
        assert not others & set(codes)
