"""The GitHub Action: its own steps, run by a small stand-in for the runner, against a Hub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.downloads import GOOD, NAME, REPO, SPEC
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github" / "actions" / "fetch" / "action.yml"

Steps = dict[str, dict[str, str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the steps are bash")


def load() -> dict[str, Any]:
    action = yaml.safe_load(ACTION.read_text("utf-8"))
    assert isinstance(action, dict)
    return action


def run_action(online: Command, *, cache_hit: bool = False, **inputs: str) -> Steps:
    """Run the steps but for the installation and the cache; return what each put out.

    The virtual environment of the installation is the one that runs the tests.
    """
    action = load()
    temp = online.cwd / "runner"
    (temp / "quantpick").mkdir(parents=True)
    (temp / "quantpick" / "bin").symlink_to(Path(sys.executable).parent)
    given = {name: about["default"] for name, about in action["inputs"].items()} | inputs
    outputs: Steps = {"cache": {"cache-hit": str(cache_hit).lower()}}
    for step in action["runs"]["steps"]:
        if "run" in step and "id" in step:
            outputs[step["id"]] = run_step(online, temp, step, given, outputs)
    return outputs


def run_step(
    online: Command, temp: Path, step: dict[str, Any], given: dict[str, str], outputs: Steps
) -> dict[str, str]:
    out = temp / f"{step['id']}.out"
    env = {name: fill(text, given, outputs) for name, text in step.get("env", {}).items()}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=online.cwd,
        env=online.environment(**env, RUNNER_TEMP=str(temp), GITHUB_OUTPUT=str(out)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_outputs(out.read_text("utf-8"))


def fill(text: str, given: dict[str, str], outputs: Steps) -> str:
    def value(found: re.Match[str]) -> str:
        words = found.group(1).split(".")
        return given[words[1]] if words[0] == "inputs" else outputs[words[1]][words[3]]

    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", value, text)


def read_outputs(text: str) -> dict[str, str]:
    several = re.findall(r"^(\w+)<<(\w+)\n(.*?)\n\2$", text, re.MULTILINE | re.DOTALL)
    single = re.findall(r"^([\w-]+)=(.*)$", text, re.MULTILINE)
    return {**dict(single), **{name: lines for name, _, lines in several}}


@pytest.fixture
def locked(online: Command, hub: LoopbackHub) -> Command:
    """Return the command in a folder with a lock of two quants."""
    hub.add_repo(REPO, {NAME: GOOD, "g-Q8_0.gguf": tiny_gguf(2048)}, gated=True)
    assert online("lock", SPEC, f"{REPO}:Q8_0", HF_TOKEN="hf_accepted").status == 0
    return online


def test_action_fetches_what_is_locked_and_puts_out_paths_and_key(locked: Command) -> None:
    done = run_action(locked, token="hf_accepted")
    assert done["key"]["key"] == locked("lock", "--key").stdout.strip()
    assert done["fetch"] == {
        "path": f"models/{NAME}",
        "paths": f"models/{NAME}\nmodels/g-Q8_0.gguf",
    }
    assert (locked.cwd / "models" / NAME).read_bytes() == GOOD


def test_action_with_a_restored_cache_asks_nobody(locked: Command, hub: LoopbackHub) -> None:
    assert locked("download", "--locked", "--local-dir", "m", HF_TOKEN="hf_accepted").status == 0
    hub.log.clear()
    done = run_action(locked, cache_hit=True, **{"local-dir": "m", "spec": f"{REPO}:Q8_0"})
    assert done["fetch"]["paths"] == "m/g-Q8_0.gguf"
    assert hub.log == []


def test_no_input_is_part_of_a_script_and_other_actions_are_pinned() -> None:
    action = load()
    steps = action["runs"]["steps"]
    assert not [step for step in steps if "${{" in step.get("run", "")]
    for step in steps:
        assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"])


def test_every_output_and_input_of_the_action_is_in_the_readme() -> None:
    readme, action = (ROOT / "README.md").read_text("utf-8"), load()
    for name in [*action["inputs"], *action["outputs"]]:
        assert f"`{name}`" in readme, name
