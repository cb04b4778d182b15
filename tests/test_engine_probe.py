"""The user's own llama.cpp decides: what it lists counts, what it cannot use is said out loud."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, State
from quantpick.errors import UsageError
from quantpick.probes.engine import probe_engine
from quantpick.probes.engine_output import parse_devices, parse_extras, parse_version
from quantpick.probes.protocol import Place
from quantpick.probes.run import Output, run
from tests.support.llama_programs import (
    REAL,
    VERSION_2025,
    VERSION_2026,
    devices,
    with_path,
    write_engine,
    write_program,
)

if TYPE_CHECKING:
    from tests.support.command import Command

GIB, MIB = 2**30, 2**20
CARD = "CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23861 MiB free)"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the stand-ins for programs are shell scripts"
)


def hardware(quantpick: Command, *words: str, **env: Any) -> dict[str, Any]:  # noqa: ANN401
    found = quantpick("hardware", "--json", *words, **env)
    assert found.status == 0, found.stderr
    return found.json


def place(**environ: str) -> Place:
    return Place(Path("/"), environ, run, sys.platform)


# What an engine lists


def test_what_the_engine_lists_is_what_counts(bare: Command, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    write_engine(bin_dir, devices(CARD))
    found = hardware(with_path(bare, bin_dir))
    (card,) = found["devices"]
    assert (card["name"], card["backend"]) == ("NVIDIA GeForce RTX 3090", "cuda")
    assert (card["total"], card["usable"], card["free"]) == (24124 * MIB, 24124 * MIB, 23861 * MIB)
    assert (card["engine_id"], card["source"]) == ("CUDA0", str(bin_dir / "llama-server"))
    engine = found["engine"]
    assert (engine["build"], engine["source"]) == (6795, "PATH")
    assert engine["path"] == str(bin_dir / "llama-server")


def test_the_build_of_the_engine_decides_which_quants_run(bare: Command, tmp_path: Path) -> None:
    listed = devices("Vulkan0: Some Card (24576 MiB, 24000 MiB free)")
    for build, runs in (("4500", False), ("4600", True)):
        folder = tmp_path / build
        write_engine(folder, listed, version=f"version: {build} (abc1234)")
        answer = with_path(bare, folder)("recommend", "llama-3.1-70b", "--json").json
        placed = {v["label"]: v["placement"] for v in answer["verdicts"]}
        assert (placed["IQ2_M"] != "incompatible") == runs


@pytest.mark.parametrize(
    ("version", "build"),
    [
        (VERSION_2025, 6795),
        (VERSION_2026, 11540),
        ("version: 0.5.0-dev (build 0, commit unknown)", None),
        ("version: 3447 (ed9d2854)\nbuilt with clang", 3447),
        ("llama.cpp, some version", None),
        ("", None),
    ],
)
def test_both_forms_of_the_version_are_read(
    version: str, build: int | None, tmp_path: Path
) -> None:
    write_engine(tmp_path, devices(), version=version)
    engine = probe_engine(place(PATH=str(tmp_path))).engine
    assert engine is not None
    assert engine.build == build


def test_llama_bench_is_asked_for_devices_and_its_neighbour_for_the_version(
    tmp_path: Path,
) -> None:
    log = (
        "ggml_vulkan: Found 1 Vulkan devices:\n"
        "ggml_vulkan: 0 = AMD Radeon 780M (RADV) (radv) | uma: 1 | fp16: 1 | bf16: 0 | fp4: 0\n"
    )
    listed = devices("Vulkan0: AMD Radeon 780M (RADV) (20480 MiB, 20000 MiB free)")
    write_engine(tmp_path, listed, name="llama-bench", log=log, version="unknown")
    write_engine(tmp_path, devices(), version=VERSION_2026)
    answer = probe_engine(place(PATH=str(tmp_path)))
    assert answer.engine is not None
    assert answer.engine.build == 11540
    assert answer.listed is not None
    (card,) = answer.listed
    assert (card.integrated, card.fp16, card.bf16) == (True, True, False)


def test_extras_of_cuda_and_rocm_are_read() -> None:
    log = (
        "ggml_cuda_init: found 2 CUDA devices (Total VRAM: 36000 MiB):\n"
        "  Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes, VRAM: 24124 MiB\n"
        "  Device 1: Tesla P40, compute capability 6.1, VMM: yes, VRAM: 24000 MiB\n"
    )
    extras = parse_extras(log)
    assert extras["CUDA0"][:3] == ("8.6", True, True)
    assert extras["CUDA1"][:3] == ("6.1", False, False)
    log = "  Device 0: AMD Radeon Graphics, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 9 MiB"
    assert parse_extras(log)["ROCm0"][:3] == ("gfx1151", True, True)


@pytest.mark.parametrize("listing", ["", "Available devices:\n", devices(), "\n\n"])
def test_an_engine_without_a_gpu_means_the_cpu(listing: str, bare: Command, tmp_path: Path) -> None:
    write_engine(tmp_path / "bin", listing)
    found = hardware(with_path(bare, tmp_path / "bin"))
    assert (found["devices"], found["warnings"]) == ([], [])
    assert found["sources"][0]["state"] == "ok"


def test_rows_that_are_no_gpu_of_this_machine_are_left_out() -> None:
    rows = devices(
        "CPU: AMD Ryzen (96000 MiB, 96000 MiB free)",
        "BLAS: OpenBLAS (0 MiB, 0 MiB free)",
        "RPC[10.0.0.2:50052]: RPC[10.0.0.2:50052] (24000 MiB, 24000 MiB free)",
        "RPC0: 10.0.0.2:50052 (24000 MiB, 24000 MiB free)",
        "MTL0: Apple M4 Max (110100 MiB, 110100 MiB free)",
        "Metal: Apple M1 (10922 MiB, 10922 MiB free)",
        "SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)",
        "ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24534 MiB free)",
        "Vulkan0: Odd (Name) (with) (8192 MiB, 8000 MiB free)",
    )
    found = parse_devices(rows, "test")
    assert [(d.engine_id, *d.backends) for d in found] == [
        ("MTL0", Backend.METAL),
        ("Metal", Backend.METAL),
        ("SYCL0", Backend.SYCL),
        ("ROCm0", Backend.ROCM),
        ("Vulkan0", Backend.VULKAN),
    ]
    assert found[-1].name == "Odd (Name) (with)"


def test_free_memory_is_clamped_to_the_total() -> None:
    # llama.cpp took a card for unified memory and printed the host's free memory.
    row = "  CUDA0: NVIDIA GeForce RTX 5090 (32106 MiB, 55372 MiB free)"
    (card,) = parse_devices(row, "test")
    assert (card.usable, card.free) == (32106 * MIB, 32106 * MIB)
    (card,) = parse_devices("Vulkan0: X (100 MiB, 17592186044400 MiB free)", "test")
    assert card.free == 100 * MIB


def test_what_metal_lists_shares_the_hosts_memory() -> None:
    (gpu,) = parse_devices(devices("MTL0: Apple M4 Max (110100 MiB, 110099 MiB free)"), "any")
    assert gpu.integrated


def test_lines_between_header_and_devices_do_not_matter(bare: Command, tmp_path: Path) -> None:
    listing = f"Available devices:\nggml_cuda_init: found 1 CUDA devices\n  {CARD}\nbye\n"
    write_engine(tmp_path / "bin", listing)
    assert len(hardware(with_path(bare, tmp_path / "bin"))["devices"]) == 1


# Where engines are


def test_the_first_folder_on_path_wins(tmp_path: Path) -> None:
    write_engine(tmp_path / "one", devices())
    write_engine(tmp_path / "two", devices(CARD), name="llama-bench")
    path = os.pathsep.join(
        ["", str(tmp_path / "missing"), *(str(tmp_path / n) for n in ("one", "two"))]
    )
    answer = probe_engine(place(PATH=path))
    assert answer.listed == ()


def test_engine_names_a_program_or_its_folder(bare: Command, tmp_path: Path) -> None:
    program = write_engine(tmp_path / "bin", devices(CARD))
    write_engine(tmp_path / "path", devices())
    for words in (["--engine", str(program)], ["--engine", str(program.parent)]):
        found = hardware(with_path(bare, tmp_path / "path"), *words)
        assert [d["engine_id"] for d in found["devices"]] == ["CUDA0"]
        assert found["engine"]["source"] == "--engine"


def test_an_engine_that_is_none_is_refused(bare: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("llama-server")
    for path in (tmp_path / "missing", tmp_path / "text", tmp_path):
        run = bare("hardware", "--engine", str(path))
        assert (run.status, run.stdout) == (2, "")
        assert str(path) in run.stderr
        with pytest.raises(UsageError):
            probe_engine(place(), path)


def test_lm_studios_chosen_backend_is_asked(tmp_path: Path) -> None:
    backends = tmp_path / ".lmstudio" / "extensions" / "backends"
    write_engine(backends / "llama.cpp-linux-x86_64-avx2@1.50.0", devices())
    write_engine(backends / "llama.cpp-linux-x86_64-nvidia-cuda12-avx2@1.40.0", devices(CARD))
    # Without a readable choice the last by name; on Windows the home has another name.
    for home in ("USERPROFILE", "HOME"):
        assert probe_engine(place(**{home: str(tmp_path)})).listed
    chosen = tmp_path / ".lmstudio" / ".internal" / "backend-preferences-v1.json"
    chosen.parent.mkdir()
    for text, listed in (
        ('[{"model_format":"gguf","name":"llama.cpp-linux-x86_64-avx2","version":"1.50.0"}]', 0),
        ("[" * 100_000, 1),
        ('[{"model_format": 7}, 5]', 1),
    ):
        chosen.write_text(text)
        answer = probe_engine(place(HOME=str(tmp_path)))
        assert answer.engine is not None
        assert answer.engine.source == "LM Studio"
        assert len(answer.listed or ()) == listed


def test_ollamas_bundle_is_asked_for_each_of_its_backends(tmp_path: Path) -> None:
    bundle = tmp_path / "opt/lib/ollama"
    # Without being told of a backend it has none, as the real one.
    rows = {
        "cuda_v13/libggml-cuda.so": "CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23861 MiB free)",
        "cuda_v12/libggml-cuda.so": "CUDA0: NVIDIA GeForce RTX 3090 (24100 MiB, 23861 MiB free)",
        "vulkan/libggml-vulkan.so": "Vulkan0: Radeon RX 7900 XTX (24560 MiB, 24534 MiB free)",
    }
    cases = "".join(f'{bundle}/{name}) echo "  {row}";;\n' for name, row in rows.items())
    check = f'case "$LD_LIBRARY_PATH" in {bundle}:{bundle}/*) ;; *) exit 1;; esac'
    write_program(bundle, f'{check}\necho Devices:\ncase "$GGML_BACKEND_PATH" in\n{cases}esac')
    for name in (*rows, "mlx_cuda/libmlx.so"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).touch()
    write_program(tmp_path / "opt/bin", "", name="ollama")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "ollama").symlink_to(tmp_path / "opt/bin/ollama")
    answer = probe_engine(Place(tmp_path, {"PATH": str(tmp_path / "path")}, run, "linux"))
    assert answer.engine is not None
    assert (answer.engine.source, answer.engine.path) == ("Ollama", str(bundle / "llama-server"))
    assert answer.listed is not None
    assert [(d.engine_id, (d.usable or 0) // MIB) for d in answer.listed] == [
        ("CUDA0", 24124),
        ("Vulkan0", 24560),
    ]


def test_ollamas_bundle_without_a_gpu_backend_is_the_cpu(tmp_path: Path) -> None:
    write_engine(tmp_path / "usr/local/lib/ollama", devices())
    answer = probe_engine(Place(tmp_path, {}, run, "linux"))
    assert answer.engine is not None
    assert (answer.engine.source, answer.listed) == ("Ollama", ())


@pytest.mark.parametrize("gpu", [True, False])
def test_the_python_package_tells_whether_it_has_a_gpu_backend(
    gpu: bool,  # noqa: FBT001 -- a parameter of the test
    bare: Command,
    tmp_path: Path,
) -> None:
    module = f"__version__ = '0.3.36'\ndef llama_supports_gpu_offload():\n    return {gpu}\n"
    (tmp_path / "llama_cpp.py").write_text(module)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    found = hardware(bare, PYTHONPATH=path, PATH="")
    assert found["engine"]["source"] == "llama_cpp (Python)"
    assert found["engine"]["version"] == "llama_cpp 0.3.36"
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('no library')")
    found = hardware(bare, PYTHONPATH=path, PATH="")
    assert found["engine"] is None
    assert found["sources"][0]["state"] == "failed"


# How it is asked


def test_settings_of_llama_cpp_do_not_bend_the_answer(bare: Command, tmp_path: Path) -> None:
    script = (
        '[ -n "$LLAMA_ARG_DEVICE$LLAMA_LOG_FILE" ] && exit 1\n'
        '[ -n "$GGML_CUDA_DEVICES$GGML_METAL_DEVICES" ] && exit 1\n'
        f'echo "Available devices:"; [ "$CUDA_VISIBLE_DEVICES" = 0 ] && echo "  {CARD}"\nexit 0'
    )
    write_program(tmp_path / "bin", script)
    stale = {"LLAMA_ARG_DEVICE": "CUDA7", "LLAMA_LOG_FILE": "x", "CUDA_VISIBLE_DEVICES": "0"}
    stale |= {"GGML_CUDA_DEVICES": "4", "GGML_METAL_DEVICES": "4"}
    found = hardware(with_path(bare, tmp_path / "bin"), **stale)
    assert len(found["devices"]) == 1
    assert found["environment"]["LLAMA_ARG_DEVICE"] == "CUDA7"
    assert found["environment"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_stdin_is_closed(bare: Command, tmp_path: Path) -> None:
    write_program(tmp_path / "bin", f'read answer; echo "  {CARD}"')
    assert len(hardware(with_path(bare, tmp_path / "bin"))["devices"]) == 1


def test_an_engine_too_old_for_the_list_leaves_the_drivers_to_decide(
    bare: Command, tmp_path: Path
) -> None:
    write_engine(tmp_path / "bin", "", status=1, version="version: 2800 (abc)")
    found = hardware(with_path(bare, tmp_path / "bin"))
    assert (found["engine"]["build"], found["devices"]) == (2800, [])
    assert found["sources"][0]["state"] == "failed"
    assert "--list-devices" in found["sources"][0]["detail"]


def test_an_engine_that_cannot_be_run_is_a_warning(bare: Command, tmp_path: Path) -> None:
    program = write_program(tmp_path / "bin", "")
    program.write_bytes(b"\x7fELF broken")
    found = hardware(with_path(bare, tmp_path / "bin"))
    assert found["sources"][0]["state"] == "failed"
    assert f"{program} cannot be run" in found["sources"][0]["detail"]
    assert [warning["code"] for warning in found["warnings"]] == ["engine_unreadable"]


def test_a_hung_engine_is_a_state_and_the_answer_comes(tmp_path: Path) -> None:
    program = write_program(tmp_path, "sleep 1000 & sleep 1000")

    def impatient(words: Any, *, timeout: float, env: Any) -> Output:  # noqa: ANN401
        assert timeout >= 30
        return run(words, timeout=0.3, env=env)

    answer = probe_engine(Place(Path("/"), dict(os.environ), impatient, "linux"), program)
    assert answer.listed is None
    assert [state.state for state in answer.states] == [State.TIMED_OUT]
    (caveat,) = answer.caveats
    assert caveat.code == "engine_unreadable"
    assert caveat.message.startswith(f"{program} did not answer within")


# Real engines


def test_a_real_llama_cpp_without_a_gpu_is_the_cpu(bare: Command, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    write_program(tmp_path / "bin", REAL)
    found = hardware(with_path(bare, tmp_path / "bin"))
    # Its one device is the processor, with all RAM as free memory: no GPU.
    assert found["devices"] == []
    assert found["engine"]["build"] > 10_000


def test_a_real_program_of_llama_cpp_answers(quantpick: Command) -> None:
    program = shutil.which("llama-bench") or shutil.which("llama-server")
    if program is None:
        pytest.skip("no llama-bench or llama-server on PATH")
    found = hardware(quantpick, "--engine", program)
    assert found["engine"]["path"] == program
    assert found["sources"][0]["state"] == "ok"


# Parsers


@example("Available devices:\n" + "(" * 100_000)
@example("CUDA0: " + " (1 MiB" * 100_000)
@given(
    st.text()
    | st.from_regex(
        r"(CUDA|CPU|RPC|x)[0-9]: .+ \([0-9]{1,12} MiB, [0-9]{1,20} MiB free\)", fullmatch=True
    )
)
def test_any_output_is_read_without_an_error(text: str) -> None:
    for row in parse_devices(text, "any"):
        assert row.usable
        assert 0 <= (row.free or 0) <= row.usable
    parse_version(text)
    parse_extras(text)


ROWS = st.tuples(
    st.sampled_from(["CUDA0", "ROCm1", "Vulkan12", "MTL0", "SYCL3"]),
    st.text("aZ0 ()[]:,/", min_size=1, max_size=30).filter(str.strip),
    st.integers(1, 10**6),
    st.integers(0, 10**15),
)


@given(st.lists(ROWS, max_size=8))
def test_every_row_that_llama_cpp_prints_is_read(rows: list[tuple[str, str, int, int]]) -> None:
    text = devices(*(f"{i}: {n.strip()} ({t} MiB, {f} MiB free)" for i, n, t, f in rows))
    found = parse_devices(text, "test")
    assert [(d.engine_id, d.name, d.usable, d.free) for d in found] == [
        (i, n.strip(), t * MIB, min(f, t) * MIB) for i, n, t, f in rows
    ]
