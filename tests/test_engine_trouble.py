"""Folders and programs that are no engine: said as what they are, and the drivers decide."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.host import Cpu, Host, Ram, State
from quantpick.errors import UsageError
from quantpick.probes.devices import with_devices
from quantpick.probes.engine import probe_engine
from quantpick.probes.protocol import Place
from quantpick.probes.run import run
from tests.support.llama_programs import with_path, write_program

if TYPE_CHECKING:
    from tests.support.command import Command

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the stand-ins for programs are shell scripts"
)


@pytest.mark.parametrize("name", ["a" * 5000, "locked/bin"])
def test_a_folder_that_cannot_be_looked_into_holds_no_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    _deny(monkeypatch, tmp_path / "locked")
    place = Place(Path("/"), {"PATH": str(folder)}, run, sys.platform)
    assert probe_engine(place).engine is None
    with pytest.raises(UsageError):
        probe_engine(place, folder)


def _deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let nothing below a folder be looked at, also where the tests run as root."""
    look = os.stat

    def stat(path: Any, *words: Any, **more: Any) -> os.stat_result:  # noqa: ANN401
        if str(path).startswith(str(folder)):
            raise PermissionError(errno.EACCES, "denied", str(path))
        return look(path, *words, **more)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'cannot open libggml.so' >&2; exit 127", "status 127: cannot open libggml.so"),
        ('[ "$1" = --version ] && echo "version: 6795 (abc)" && exit; kill -SEGV $$', "status -11"),
        ("exit 0", "does not answer as llama.cpp does"),
        ('echo "$@"', "does not answer as llama.cpp does"),
    ],
)
def test_a_program_that_does_not_work_is_a_warning_and_no_engine_without_a_gpu(
    script: str, said: str, bare: Command, tmp_path: Path
) -> None:
    write_program(tmp_path / "bin", script)
    found = with_path(bare, tmp_path / "bin")("hardware", "--json").json
    assert found["sources"][0]["state"] == "failed"
    assert said in found["sources"][0]["detail"]
    assert [warning["code"] for warning in found["warnings"]] == ["engine_unreadable"]
    assert said in found["warnings"][0]["message"]


@pytest.mark.parametrize("found", [True, False])
def test_a_broken_backend_of_a_bundle_leaves_the_others(
    found: bool,  # noqa: FBT001 -- a parameter of the test
    tmp_path: Path,
) -> None:
    row = "  Vulkan0: Radeon RX 7900 XTX (24560 MiB, 24534 MiB free)" if found else "  (none)"
    script = (
        'case "$GGML_BACKEND_PATH" in *cuda*) kill -SEGV $$;; esac\n'
        f'echo "Available devices:"; echo "{row}"'
    )
    program = write_program(tmp_path, script)
    for name in ("cuda_v13/libggml-cuda.so", "vulkan/libggml-vulkan.so"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    answer = probe_engine(Place(Path("/"), {}, run, sys.platform), program)
    (state,) = answer.states
    if found:
        assert [device.engine_id for device in answer.listed or ()] == ["Vulkan0"]
        assert state.detail.endswith("1 of its 2 backends ended with an error")
    else:
        # What the broken one would have listed is unknown, which is not "no GPU".
        assert (answer.listed, state.state) == (None, State.FAILED)
        assert [caveat.code for caveat in answer.caveats] == ["engine_unreadable"]


@pytest.mark.parametrize("error", [PermissionError(13, "denied", "/x"), TimeoutError("too long")])
def test_whatever_goes_wrong_about_the_engine_is_its_state(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("quantpick.probes.devices.probe_engine", broken)
    place = Place(tmp_path, {}, run, "linux")
    host = with_devices(Host(Ram(2**33, None, "test"), Cpu(None, None)), place, None)
    state = State.TIMED_OUT if isinstance(error, TimeoutError) else State.FAILED
    assert (host.engine, host.sources[0].state) == (None, state)
    assert [caveat.code for caveat in host.warnings] == ["engine_unreadable"]
