"""Ctrl-C at any moment of a wait for threads: it ends the run, and is told as what it is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.hub import faults
from tests.support.downloads import GOOD, NAME, REPO, SPEC
from tests.test_catalog_refresh_many import many

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command


def interrupted(online: Command, moment: int, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.interrupter", str(moment), *words],
        cwd=online.cwd,
        env=online.environment(PYTHONPATH=":".join(sys.path)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    return done


# The first moments are those of threads that start, the later ones those of a wait with no end.


@pytest.mark.parametrize("moment", range(1, 60, 5))
def test_refresh(online: Command, hub: LoopbackHub, moment: int) -> None:
    shop = many(online, hub, 3)
    hub.add_fault(faults.hang(path="repo/r-0001"))
    done = interrupted(shop.online, moment, "catalog", "refresh", "--connections", "2")
    assert done.stderr.splitlines()[-1] == "interrupted"


@pytest.mark.parametrize("moment", [1, 61, 121, *range(181, 231, 5)])
def test_download(online: Command, hub: LoopbackHub, moment: int) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    hub.add_fault(faults.slow(1000))
    done = interrupted(online, moment, "download", SPEC)
    assert "interrupted" in done.stderr
