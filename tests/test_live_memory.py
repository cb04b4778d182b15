"""Repos that the catalog does not know: shape from one header, the other quants by prediction.

The repo on the Hub on loopback holds quants of one small llama, so that the real files are small;
what is told of it is held against the files themselves.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.hollow import Blueprint, write_hollow
from tests.engine.parts import Shape, attention, ends, gated, keys, norms, tensors
from tests.hub import faults
from tests.support.gguf_files import split_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

REPO = "someone/Little-Llama-GGUF"
MACHINE = ("--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda")

#: Layers, heads, KV heads, head width, embedding, feed-forward, vocabulary, context.
LITTLE = Shape(6, 8, 2, 32, 256, 768, 2048, 4096)
LABELS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q2_K", "F16")

#: 6 layers x 8192 cells x 2 heads x (32 + 32) numbers of 2 bytes.
KV_CACHE_8192 = 6 * 8192 * 2 * (32 + 32) * 2


@cache
def little(name: str = "little", *, architecture: str = "llama") -> Blueprint:
    layer = attention(LITTLE) | gated(LITTLE) | norms(LITTLE, "attn_norm", "ffn_norm")
    own = {"attention.layer_norm_rms_epsilon": 1e-5}
    slots = tensors(ends(LITTLE, tied=False), [layer] * LITTLE.block_count)
    return Blueprint(name, keys(architecture, LITTLE, own), slots, LITTLE.vocab_size)


@pytest.fixture(scope="session")
def quants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return real files of the small model by their names."""
    folder = tmp_path_factory.mktemp("little")
    paths = [write_hollow(little(), label, folder) for label in LABELS]
    return {path.name: path for path in paths}


def recommend(online: Command, *words: str, spec: str = REPO, status: int = 0) -> dict[str, Any]:
    result = online("recommend", spec, *MACHINE, *words, "--json")
    assert result.status == status, result.stderr
    return result.json


def explain(online: Command, spec: str, *words: str) -> dict[str, Any]:
    result = online("explain", spec, *MACHINE, *words, "--json")
    assert result.status == 0, result.stderr
    found = result.json["verdict"]
    assert isinstance(found, dict)
    return found


def verdicts(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {verdict["label"]: verdict for verdict in answer["verdicts"]}


def codes(verdict: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in verdict["reasons"]]


def ranges(hub: LoopbackHub) -> list[int]:
    """Return the lengths of what was asked of the files' content."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", entry.range or "") for entry in hub.requests("cdn")]
    assert all(found)
    return [int(span[2]) - int(span[1]) + 1 for span in found if span]


# From one header


def test_every_quant_is_told_exactly_from_the_header_of_one(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    judged = verdicts(recommend(online))
    assert set(judged) == set(LABELS)
    for path in quants.values():
        label = path.stem.removeprefix("little-")
        assert judged[label]["file_bytes"] == path.stat().st_size
        # The same file on disk, judged by its own header.
        assert judged[label]["memory"] == explain(online, str(path))["memory"]
        assert judged[label]["memory"]["exact"]
        assert judged[label]["memory"]["kv_cache"] == KV_CACHE_8192
        assert codes(judged[label])[0] == "comfortable"


def test_the_answer_is_whole(online: Command, hub: LoopbackHub, quants: dict[str, Path]) -> None:
    hub.add_repo(REPO, quants, license="apache-2.0")
    answer = recommend(online, "--ctx-size", "2048", "--max-ctx")
    shape = answer["model"]["shape"]
    assert (shape["block_count"], shape["vocab_size"]) == (6, 2048)
    assert answer["pick"]["label"] == "Q8_0"
    assert (answer["pick"]["n_gpu_layers"], answer["pick"]["max_ctx"]) == (7, 4096)
    assert answer["commands"]["download"] == f"quantpick download {REPO}:Q8_0"
    words = shlex.split(answer["commands"]["run"])
    assert words == [
        *("llama-server", "-m", "little-Q8_0.gguf"),
        *("--ctx-size", "2048", "--n-gpu-layers", "7"),
    ]


def test_explain_knows_the_terms_of_one_quant(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    cache = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    judged = explain(online, f"{REPO}:Q4_K_M", *cache)
    assert judged["memory"]["kv_cache"] == KV_CACHE_8192 * 34 // 64
    assert judged["n_gpu_layers"] == 7
    text = online("explain", f"{REPO}:Q4_K_M", *MACHINE).stdout
    assert "unknown" not in text.replace("speed: unknown", "")
    assert "GPU 0" in text


# What is asked of the Hub


def test_one_listing_and_one_header_are_read_once(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    first = recommend(online)
    listings = [entry.path for entry in hub.requests("hub") if "/api/models/" in entry.path]
    assert len(listings) == 1, listings
    assert 1 <= len(ranges(hub)) <= 3
    assert sum(ranges(hub)) < min(path.stat().st_size for path in quants.values())
    files = {entry.path.partition("?")[0] for entry in hub.requests("cdn")}
    assert len(files) == 1

    before = len(hub.requests("cdn"))
    assert recommend(online) == first
    assert explain(online, f"{REPO}:Q2_K")["memory"]["exact"]
    assert len(hub.requests("cdn")) == before


def test_a_new_commit_is_read_anew(
    online: Command, hub: LoopbackHub, quants: dict[str, Path], tmp_path: Path
) -> None:
    hub.add_repo(REPO, quants)
    recommend(online)
    before = len(hub.requests("cdn"))
    longer = dict(little().metadata) | {"llama.context_length": 65536}
    path = write_hollow(little()._replace(metadata=longer), "Q4_K_M", tmp_path)
    hub.add_repo(REPO, {path.name: path}, sha="f" * 40)
    assert recommend(online)["model"]["shape"]["context_length"] == 65536
    assert len(hub.requests("cdn")) > before


def test_a_list_says_what_each_quant_needs(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    listed = {file["label"]: file for file in online("list", REPO, "--json").json["files"]}
    assert set(listed) == set(LABELS)
    machine = ("--vram", "24GiB", "--ram", "64GiB", "--ctx-size", "8192")
    judged = online("explain", f"{REPO}:Q4_K_M", *machine, "--json").json["verdict"]
    assert judged["placement"] == "full_offload"
    assert listed["Q4_K_M"]["memory"]["total"] == judged["memory"]["total"]


def test_a_list_does_without_a_header_that_cannot_be_read(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    hub.add_fault(faults.corrupt(0, n=4))
    files = online("list", REPO, "--json").json["files"]
    assert {file["label"] for file in files} == set(LABELS)
    assert all(file["memory"]["kv_cache"] is None for file in files)
    assert "unknown" in online("list", REPO).stdout


def test_a_closed_repo_asks_for_a_token(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants, gated=True)
    assert online("recommend", REPO, *MACHINE).status == 6
    result = online("recommend", REPO, *MACHINE, "--json", HF_TOKEN="hf_accepted")
    assert result.json["pick"]["memory"]["exact"]
    assert [entry.authorization for entry in hub.requests("cdn")] == [None] * len(ranges(hub))


def test_the_fetched_pick_runs_as_it_was_planned(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    result = online("download", f"{REPO}:auto", "--json")
    assert result.status == 0, result.stderr
    answer, run = result.json["recommendation"], result.json["commands"]["run"]
    layers = answer["pick"]["n_gpu_layers"]
    assert f"--ctx-size 8192 --n-gpu-layers {layers}" in run
    assert (online.cwd / f"little-{answer['pick']['label']}.gguf").is_file()


# Mixes that are not llama.cpp's own


def test_a_mix_of_its_makers_own_is_a_bound(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    true = quants["little-Q5_K_M.gguf"]
    hub.add_repo(REPO, {**quants, "little-UD-Q4_K_XL.gguf": true})
    judged = verdicts(recommend(online))
    own = judged["UD-Q4_K_XL"]
    assert (own["fits"], own["memory"]["exact"]) == (True, False)
    assert "memory_is_a_bound" in codes(own)
    assert own["memory"]["kv_cache"] == KV_CACHE_8192
    real = explain(online, str(true))["memory"]
    assert own["memory"]["weights"] >= real["weights"]
    (bound,), (device,) = own["memory"]["devices"], real["devices"]
    assert bound["total"] >= device["total"]
    assert judged["Q4_K_M"]["memory"]["exact"]


def test_a_file_of_another_size_than_its_label_makes_is_a_bound(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    files = {**quants, "little-Q4_K_M.gguf": quants["little-Q5_K_M.gguf"]}
    hub.add_repo(REPO, files)
    judged = verdicts(recommend(online))
    assert {label for label in judged if not judged[label]["memory"]["exact"]} == {"Q4_K_M"}
    size = quants["little-Q5_K_M.gguf"].stat().st_size
    assert judged["Q4_K_M"]["memory"]["weights"] >= size - size // 20


def test_a_repo_of_own_mixes_alone_is_told_by_what_was_read(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    # The only file is the one whose header is read: nothing is left to predict.
    hub.add_repo(REPO, {"little-UD-Q4_K_XL.gguf": quants["little-Q5_K_M.gguf"]})
    own = verdicts(recommend(online))["UD-Q4_K_XL"]
    real = explain(online, str(quants["little-Q5_K_M.gguf"]))["memory"]
    assert own["memory"] == real


def test_an_unknown_architecture_is_a_bound_and_says_so(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    path = write_hollow(little(architecture="newish"), "Q4_K_M", tmp_path)
    hub.add_repo(REPO, {path.name: path})
    (judged,) = recommend(online)["verdicts"]
    assert (judged["fits"], judged["memory"]["exact"]) == (True, False)
    assert "memory_is_a_bound" in codes(judged)
    assert "upper bound" in online("recommend", REPO, *MACHINE).stdout


# Sets, projectors, damage


def test_a_split_set_counts_with_all_its_shards(
    online: Command, hub: LoopbackHub, quants: dict[str, Path], tmp_path: Path
) -> None:
    whole = quants["little-Q8_0.gguf"]
    shards = split_gguf(whole, tmp_path, 3)
    hub.add_repo(REPO, {f"Q8_0/{path.name}": path for path in shards})
    (judged,) = recommend(online)["verdicts"]
    assert judged["split"]
    assert judged["file_bytes"] == sum(path.stat().st_size for path in shards)
    assert judged["memory"] == explain(online, str(whole))["memory"]


def test_a_projector_of_the_repo_is_not_read_as_a_model(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, {"mmproj-F16.gguf": b"GGUF" + bytes(4096), **quants})
    assert set(verdicts(recommend(online))) == set(LABELS)


@pytest.mark.parametrize("command", ["recommend", "explain"])
def test_a_header_that_cannot_be_read_is_one_clear_error(
    online: Command, hub: LoopbackHub, quants: dict[str, Path], command: str
) -> None:
    hub.add_repo(REPO, quants)
    hub.add_fault(faults.corrupt(0, n=4))
    spec = REPO if command == "recommend" else f"{REPO}:Q4_K_M"
    result = online(command, spec, *MACHINE)
    assert (result.status, result.stdout) == (7, "")
    assert "little-" in result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr
    hub.clear_faults()
    assert online(command, spec, *MACHINE).status == 0


@pytest.mark.parametrize(
    ("fault", "status"),
    [(faults.status(503), 5), (faults.missing_on_cdn(), 3), (faults.short(100), 7)],
    ids=["503", "404", "short"],
)
def test_trouble_with_the_header_keeps_its_status(
    online: Command, hub: LoopbackHub, quants: dict[str, Path], fault: faults.Fault, status: int
) -> None:
    hub.add_repo(REPO, quants)
    hub.add_fault(fault)
    error = online("recommend", REPO, *MACHINE, "--json").json["error"]
    assert error["exit_status"] == status
    assert error["hints"]


def test_a_passing_trouble_is_tried_again(
    online: Command, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add_repo(REPO, quants)
    hub.add_fault(faults.reset(1000, times=1))
    assert recommend(online)["pick"]["memory"]["exact"]


def test_a_repo_without_a_quant_is_not_found(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {"README.md": b"nothing here"})
    assert online("recommend", REPO, *MACHINE).status == 3
