"""The scheduled workflow: its own steps, run in a checkout of a test's own, against a Hub."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.catalogs import REPO, entry, files, get, named, new_catalog, row, tiny_llama

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

WORKFLOW = Path(__file__).parents[1] / ".github" / "workflows" / "catalog.yml"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("git") is None, reason="the steps are bash and git"
)

#: Stands in for GitHub's program: says no pull request is open, and keeps what it is told.
_GH = """\
#!/bin/sh
echo "$@" >> "$TOLD"
for word in "$@"; do case "$word" in *short.md) cat "$word" >> "$TOLD";; esac; done
"""


def load() -> dict[str, Any]:
    text = WORKFLOW.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert isinstance(workflow, dict)
    return workflow


def job() -> dict[str, Any]:
    (only,) = load()["jobs"].values()
    assert isinstance(only, dict)
    return only


class Runner:
    """A checkout with a catalog, and a runner that does the steps with a script."""

    def __init__(self, online: Command, rows: list[dict[str, Any]]) -> None:
        self.online, self.temp = online, online.cwd / "temp"
        self.checkout, self.origin = online.cwd / "checkout", online.cwd / "origin"
        self.told = self.temp / "told"
        (self.temp / "bin").mkdir(parents=True)
        (self.temp / "bin" / "gh").write_text(_GH, "utf-8")
        (self.temp / "bin" / "gh").chmod(0o755)
        self.catalog = self.checkout / "src" / "quantpick" / "catalog"
        new_catalog(self.catalog, {REPO: entry(*rows)})
        online("catalog", "check", "--write-index", QUANTPICK_CATALOG=str(self.catalog))
        self.git("init", "--quiet", "--bare", str(self.origin))
        self.git("init", "--quiet", "--initial-branch", "main", ".")
        self.git("add", ".")
        self.git("-c", "user.name=a", "-c", "user.email=a@a", "commit", "--quiet", "-m", "start")
        self.git("remote", "add", "origin", str(self.origin))

    def git(self, *words: str) -> str:
        """Run git in the checkout and return what it says."""
        done = subprocess.run(
            ["git", *words], cwd=self.checkout, capture_output=True, text=True, check=True
        )
        return done.stdout

    def run(self) -> int:
        """Run the steps that have a script, but for the installation; return the last status."""
        outputs: dict[str, str] = {}
        status = 0
        for step in job()["steps"]:
            if "run" in step and "pip install" not in step["run"]:
                status = self._step(step, outputs)
                if status:
                    return status
        return status

    def _step(self, step: dict[str, Any], outputs: dict[str, str]) -> int:
        out = self.temp / "out"
        out.write_text("")
        env = {name: self._fill(text, outputs) for name, text in job()["env"].items()}
        env |= {name: self._fill(text, outputs) for name, text in step.get("env", {}).items()}
        path = f"{self.temp / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.checkout,
            env=self.online.environment(
                **env,
                PATH=path,
                TOLD=str(self.told),
                GITHUB_OUTPUT=str(out),
                RUNNER_TEMP=str(self.temp),
            ),
            check=False,
        )
        for line in out.read_text().splitlines():
            name, _, value = line.partition("=")
            outputs[f"steps.{step['id']}.outputs.{name}"] = value
        return done.returncode

    def _fill(self, text: str, outputs: dict[str, str]) -> str:
        known = {
            "github.workspace": str(self.checkout),
            "github.token": "secret",
            "github.ref_name": "main",
            **outputs,
        }
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found.group(1)], text)


def test_what_is_new_is_proposed_with_the_report(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q4_K_M", "Q8_0"), license="apache-2.0")
    runner = Runner(online, [row("Q4_K_M", 900_000, rounded_to=10_000)])
    assert runner.run() == 0
    told = runner.told.read_text()
    assert "pr create --base main --head catalog-refresh" in told
    assert f"+ {REPO}  Q8_0" in told
    assert "exact sizes: 2 of 2 (100 %)" in told
    assert "secret" not in told
    proposed = runner.git("show", "--name-only", "--format=%s", "catalog-refresh")
    assert f"models/{REPO}.json" in proposed
    assert "index.json" in proposed
    assert "catalog-refresh" in runner.git("ls-remote", "--heads", "origin")


def test_nothing_new_opens_nothing(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q4_K_M"), license="apache-2.0")
    size = len(tiny_llama("Q4_K_M"))
    runner = Runner(online, [row("Q4_K_M", size)])
    online("catalog", "refresh", "--write", QUANTPICK_CATALOG=str(runner.catalog))
    runner.git("add", ".")
    runner.git("-c", "user.name=a", "-c", "user.email=a@a", "commit", "--quiet", "-m", "fresh")
    assert runner.run() == 0
    assert not runner.told.exists()
    assert runner.git("ls-remote", "--heads", "origin") == ""


def test_repo_that_cannot_be_asked_fails_the_run_after_the_proposal(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q4_K_M", "Q8_0"), license="apache-2.0")
    runner = Runner(online, [row("Q4_K_M", 900_000, rounded_to=10_000)])
    broken = row("Q4_K_M", 900_000, paths=[named("Q8_0")])
    path = runner.catalog / "models" / "someone" / "Broken-GGUF.json"
    path.write_text(str(entry(broken)), "utf-8")
    assert runner.run() != 0
    assert get(runner.catalog)["files"][0]["label"] == "Q8_0"
    assert "pr create" in runner.told.read_text()


def test_variables_of_the_job_name_nothing_that_is_known_on_a_runner_alone() -> None:
    # Filled in before there is a runner: with another context the whole file is refused.
    named = re.findall(r"\$\{\{\s*(\w+)", str(job()["env"]))
    assert set(named) <= {"github", "inputs", "matrix", "needs", "secrets", "strategy", "vars"}


def test_actions_are_pinned_and_nothing_more_is_allowed_than_needed() -> None:
    workflow = load()
    used = [step["uses"] for step in job()["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    assert workflow["permissions"] == {}
    assert job()["permissions"] == {"contents": "write", "pull-requests": "write"}
    # YAML 1.1 reads the key `on` as true.
    triggers: dict[Any, Any] = workflow
    assert set(triggers[True]) == {"schedule", "workflow_dispatch"}
    # What comes from outside reaches a script as a variable, never as part of its text.
    assert not [step for step in job()["steps"] if "${{" in step.get("run", "")]
