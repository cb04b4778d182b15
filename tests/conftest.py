"""Fixtures: quantpick in an empty home, a Hub on loopback, a real model."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.hub.loopback import LoopbackHub
from tests.hub.matrix_summary import SUMMARY
from tests.support import fake_nvml
from tests.support.command import Command
from tests.support.gguf_files import real_model, split_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fake_nvml import FakeNvml


# What would change an answer that a test gets in this process; the command has its own environment.
for _name in list(os.environ):
    if _name.startswith(("HF_", "HUGGING", "QUANTPICK_CA")):
        del os.environ[_name]
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = f"{os.environ.get(_name, '')},127.0.0.1,localhost"

# No time limit an example: how fast the machine is proves nothing. CI tries the same examples every
# time, so that it fails for a change and not for luck; elsewhere they are new.
settings.register_profile(
    "quantpick",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("quantpick")


@pytest.fixture
def quantpick(tmp_path: Path) -> Command:
    """Quantpick as a command, in an empty folder with an empty home."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    return Command(work, {"HOME": str(home), "HF_HOME": str(home / "hf")})


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """Return a fake NVIDIA driver."""
    if fake_nvml.compiler() is None or not sys.platform.startswith("linux"):
        pytest.skip("the fake driver needs a C compiler and Linux")
    return fake_nvml.build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def bare(quantpick: Command, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Quantpick on a machine without an NVIDIA driver."""
    return fake_nvml.without_driver(quantpick, tmp_path_factory.mktemp("none"))


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """Return a Hub on loopback with no repos."""
    with LoopbackHub() as loopback:
        yield loopback


@pytest.fixture
def online(quantpick: Command, hub: LoopbackHub) -> Command:
    """Quantpick as a command that talks to the Hub on loopback."""
    return Command(quantpick.cwd, {**quantpick.env, "HF_ENDPOINT": hub.endpoint})


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the real Gemma 3 270M Q4_K_M."""
    return real_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def gemma_shards(gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the real model as a split set of two shards."""
    return split_gguf(gemma, tmp_path_factory.mktemp("shards"), 2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the size of the fault matrix and what came of it, where it ran."""
    said = terminalreporter.config.stash.get(SUMMARY, None)
    if said is not None:
        terminalreporter.write_sep("-", "fault matrix")
        terminalreporter.write_line(said)
