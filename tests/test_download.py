"""Downloads that go well: what arrives, how it is proven and what is said of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.engine import generate
from tests.support.gguf_files import MODEL_NAME, MODEL_SHA256, MODEL_SIZE, tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

REPO = "someone/gemma-3-270m-GGUF"
LLAMA = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF"
COMMIT = "c0ffee" * 6 + "abcd"
TINY = tiny_gguf()


def run_hf(online: Command, line: str) -> None:
    """Run a printed `hf` line as it stands."""
    words = shlex.split(line)
    program = shutil.which(words[0], path=str(Path(sys.executable).parent))
    assert program is not None
    subprocess.run(
        [program, *words[1:]],
        cwd=online.cwd,
        env=online.environment(HF_HUB_DISABLE_UPDATE_CHECK="1"),
        capture_output=True,
        timeout=60,
        check=True,
    )


def files_below(folder: Path) -> set[str]:
    """Name all files, but for receipts and the notes that huggingface_hub keeps of its own."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = {path.as_posix() for path in found if path.parts[0] != ".cache"}
    return {name for name in names if not name.endswith(".quantpick.json")}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(online: Command, *words: str) -> dict[str, Any]:
    result = online("download", *words, "--json")
    assert result.status == 0, result.stderr
    return result.json


def catalogued(quantpick: Command) -> dict[str, tuple[str, int]]:
    """Return the 70B's paths as its catalog entry has them, each with label and size."""
    files = quantpick("list", LLAMA, "--json").json["files"]
    return {
        path: (file["label"], file["file_bytes"] // len(file["paths"]))
        for file in files
        for path in file["paths"]
    }


def cdn_paths(hub: LoopbackHub) -> list[str]:
    return [entry.path for entry in hub.requests("cdn")]


def test_real_model_arrives_proven_and_runs_in_llama_cpp(
    online: Command, hub: LoopbackHub, gemma: Path
) -> None:
    hub.add_repo(REPO, {MODEL_NAME: gemma, "README.md": b"# card"}, sha=COMMIT)
    document = fetch(online, f"{REPO}:Q4_K_M")
    assert (document["schema_version"], document["command"]) == (1, "download")
    assert (document["repo_id"], document["revision"]) == (REPO, COMMIT)
    assert (document["label"], document["include"]) == ("Q4_K_M", [MODEL_NAME])
    assert document["local_dir"] == "."
    (file,) = document["files"]
    proof = {"path": MODEL_NAME, "bytes": MODEL_SIZE, "sha256": MODEL_SHA256, "verified": True}
    assert proof.items() <= file.items()
    assert sha256(online.cwd / file["local_path"]) == MODEL_SHA256
    assert files_below(online.cwd) == {MODEL_NAME, "NOTICE-someone--gemma-3-270m-GGUF.txt"}
    assert re.search("[a-z]{3}", generate(online.cwd / MODEL_NAME))


def test_split_model_keeps_its_folder_and_runs_from_its_first_shard(
    online: Command, hub: LoopbackHub, gemma: Path, gemma_shards: list[Path]
) -> None:
    folder = "gemma-3-270m-Q4_K_M"
    shards = {f"{folder}/{shard.name}": shard for shard in gemma_shards}
    hub.add_repo(REPO, {**shards, "gemma-3-270m-Q8_0.gguf": TINY, "README.md": b"# card"})
    document = fetch(online, f"{REPO}:Q4_K_M")
    assert document["include"] == [f"{folder}/*"]
    assert [(file["path"], file["verified"]) for file in document["files"]] == [
        (path, True) for path in shards
    ]
    assert {path: sha256(online.cwd / path) for path in shards} == {
        path: sha256(shard) for path, shard in shards.items()
    }
    first = f"{folder}/{gemma_shards[0].name}"
    assert document["commands"]["run"] == f"llama-server -m {first}"
    assert generate(online.cwd / first) == generate(gemma)


def test_text_report_names_each_file_its_proof_the_licence_and_the_line_to_run(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY}, sha=COMMIT, license="gemma")
    result = online("download", f"{REPO}:Q4_K_M")
    assert result.status == 0
    head, file, licence, *rest = result.stdout.splitlines()
    assert head == f"Q4_K_M of {REPO} at commit {COMMIT}"
    assert file.split("  ")[:2] == ["g-Q4_K_M.gguf", f"{len(TINY)} bytes (0.00 MB)"]
    assert file.endswith("sha256 verified")
    assert licence == "licence: Gemma Terms of Use"
    assert rest[-1] == "run: llama-server -m g-Q4_K_M.gguf"


def test_second_run_fetches_nothing_and_says_that_the_file_was_there(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY})
    assert fetch(online, f"{REPO}:Q4_K_M")["files"][0]["reused"] is False
    hub.log.clear()
    (again,) = fetch(online, f"{REPO}:Q4_K_M")["files"]
    assert (again["reused"], again["verified"]) == (True, True)
    assert "was there already" in online("download", f"{REPO}:Q4_K_M").stdout
    assert cdn_paths(hub) == []


def test_only_the_missing_shard_is_fetched(online: Command, hub: LoopbackHub) -> None:
    paths = [f"g-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.add_repo(REPO, {path: tiny_gguf(seed=n) for n, path in enumerate(paths)})
    fetch(online, f"{REPO}:Q4_K_M")
    (online.cwd / paths[0]).unlink()
    hub.log.clear()
    document = fetch(online, f"{REPO}:Q4_K_M")
    assert [file["reused"] for file in document["files"]] == [False, True]
    assert len(cdn_paths(hub)) == 1
    assert f"filename={paths[0]}" in cdn_paths(hub)[0]


@pytest.mark.parametrize(
    ("label", "include"),
    [
        ("Q6_K", ["g-Q6_K.gguf"]),
        ("Q6_K_L", ["g-Q6_K_L.gguf"]),
        ("Q8_0", ["g-Q8_0/*"]),
        ("Q5_K_M", ["g-Q5_K_M-00001-of-00002.gguf", "g-Q5_K_M-00002-of-00002.gguf"]),
        ("Q4_0", ["mixed/g-Q4_0.gguf"]),
        ("Q2_K", ["g[[]1]-Q2_K.gguf"]),
    ],
)
def test_dry_run_writes_nothing_and_its_hf_line_fetches_exactly_the_planned_files(
    online: Command, hub: LoopbackHub, label: str, include: list[str]
) -> None:
    paths = ["g-Q6_K.gguf", "g-Q6_K_L.gguf", "g[1]-Q2_K.gguf", "g1-Q2_K_S.gguf", "README.md"]
    paths += [f"g-Q8_0/g-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    paths += [f"g-Q5_K_M-0000{number}-of-00002.gguf" for number in (1, 2)]
    paths += ["mixed/g-Q4_0.gguf", "mixed/g-Q4_1.gguf"]
    hub.add_repo(REPO, dict.fromkeys(paths, TINY))
    planned = fetch(online, f"{REPO}:{label}", "--dry-run")
    assert (planned["dry_run"], planned["include"]) == (True, include)
    assert not any(file["verified"] for file in planned["files"])
    text = online("download", f"{REPO}:{label}", "--dry-run").stdout
    assert (files_below(online.cwd), cdn_paths(hub)) == (set(), [])
    line = next(line for line in text.splitlines() if line.startswith("equal to: "))
    run_hf(online, line.removeprefix("equal to: "))
    assert files_below(online.cwd) == {file["path"] for file in planned["files"]}


def test_include_pattern_matches_the_folders_of_the_70b_where_its_card_is_wrong(
    online: Command, hub: LoopbackHub
) -> None:
    paths = catalogued(online)
    hub.add_repo(LLAMA, dict.fromkeys(paths, TINY))
    document = fetch(online, f"{LLAMA}:Q6_K", "--local-dir", "ours")
    assert document["include"] == ["Meta-Llama-3.1-70B-Instruct-Q6_K/*"]
    wanted = {path for path, (label, _) in paths.items() if label == "Q6_K"}
    assert len(wanted) == 2
    assert {path for path in files_below(online.cwd / "ours") if "NOTICE" not in path} == wanted
    card = "Meta-Llama-3.1-70B-Instruct-Q8_0.gguf/*"
    run_hf(online, f"hf download {LLAMA} --include '{card}' --local-dir card")
    assert files_below(online.cwd / "card") == set()


def test_cache_has_the_layout_that_other_programs_read(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY}, sha=COMMIT)
    document = fetch(online, f"{REPO}:Q4_K_M", "--cache")
    place = tmp_path / "home/hf/hub/models--someone--gemma-3-270m-GGUF/snapshots" / COMMIT
    assert document["local_dir"] is None
    assert document["files"][0]["local_path"] == str(place / "g-Q4_K_M.gguf")
    assert (place / "g-Q4_K_M.gguf").read_bytes() == TINY
    assert files_below(online.cwd) == set()
    hub.log.clear()
    assert fetch(online, f"{REPO}:Q4_K_M", "--cache")["files"][0]["reused"] is True
    assert cdn_paths(hub) == []


@pytest.mark.parametrize(
    ("spec", "revision"),
    [(REPO, COMMIT), (REPO, "old"), (f"{REPO}@old", None), (f"{REPO}@main", "old")],
)
def test_revision_names_the_commit_to_fetch(
    online: Command, hub: LoopbackHub, spec: str, revision: str | None
) -> None:
    old = tiny_gguf(seed=1)
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": old}, sha=COMMIT, revision="old")
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY})
    words = ["--revision", revision] if revision else []
    assert fetch(online, f"{spec}:Q4_K_M", *words)["revision"] == COMMIT
    assert (online.cwd / "g-Q4_K_M.gguf").read_bytes() == old


def test_auto_fetches_what_recommend_picks_for_the_machine(
    online: Command, hub: LoopbackHub
) -> None:
    listed = [
        {"rfilename": path, "size": size, "blobId": "0" * 40}
        for path, (_, size) in catalogued(online).items()
    ]
    hub.add_repo(LLAMA, {}, info={"siblings": listed})
    labels = []
    for vram in ("48GiB", "80GiB"):
        machine = ("--vram", vram, "--ram", "64GiB", "--backend", "cuda")
        picked = online("recommend", LLAMA, *machine, "--json").json["pick"]["label"]
        planned = online("download", f"{LLAMA}:auto", *machine, "--dry-run", "--json")
        assert planned.json["label"] == picked
        assert f"recommended for this machine: {picked}" in planned.stderr
        labels.append(picked)
    assert labels[0] != labels[1]


def test_auto_fetches_the_file(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {"g-Q2_K.gguf": tiny_gguf(seed=1), "g-Q8_0.gguf": TINY})
    document = fetch(online, f"{REPO}:auto", "--vram", "24GiB")
    assert (document["label"], document["recommendation"]["pick"]["label"]) == ("Q8_0", "Q8_0")
    assert "--n-gpu-layers" in document["commands"]["run"]
    assert (online.cwd / "g-Q8_0.gguf").read_bytes() == TINY


@pytest.mark.parametrize(
    ("repo", "env"), [(LLAMA, {}), (REPO, {"QUANTPICK_REPO": REPO})], ids=["catalog", "variable"]
)
def test_label_alone_means_the_default_repo_and_stderr_says_which(
    online: Command, hub: LoopbackHub, repo: str, env: Mapping[str, str]
) -> None:
    hub.add_repo(LLAMA, {"l-Q4_K_M.gguf": TINY})
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY})
    there = replace(online, env={**online.env, **env})
    result = there("download", "Q4_K_M", "--json")
    assert (result.status, result.json["repo_id"]) == (0, repo)
    assert result.stderr.splitlines()[0] == f"Q4_K_M of the default repo {repo}"


def test_alias_names_a_catalogued_repo(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(LLAMA, {"l-Q4_K_M.gguf": TINY})
    result = online("download", "llama-3.1-70b:q4_k_m", "--json")
    assert (result.json["repo_id"], result.json["label"]) == (LLAMA, "Q4_K_M")
    assert "default repo" not in result.stderr


def test_licence_notice_stands_beside_the_model(online: Command, hub: LoopbackHub) -> None:
    path = "l-Q8_0/l-Q8_0-00001-of-00001.gguf"
    about = {"license": "llama3.1", "base_model": "meta-llama/Meta-Llama-3.1-70B-Instruct"}
    hub.add_repo(LLAMA, {path: TINY}, sha=COMMIT, **about)  # type: ignore[arg-type]
    document = fetch(online, f"{LLAMA}:Q8_0", "--local-dir", "models")
    name = "l-Q8_0/NOTICE-bartowski--Meta-Llama-3.1-70B-Instruct-GGUF.txt"
    assert files_below(online.cwd) == {f"models/{path}", f"models/{name}"}
    assert document["notice"] == f"models/{name}"
    text = (online.cwd / "models" / name).read_text("utf-8")
    for part in (LLAMA, COMMIT, about["base_model"], "Llama 3.1 is licensed under", "llama3.1"):
        assert part in text


def test_token_reaches_the_hub_and_nothing_else(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY}, gated=True)
    for words in ([], ["--cache"], ["--json", "--local-dir", "there"]):
        result = online("download", f"{REPO}:Q4_K_M", *words, HF_TOKEN="hf_accepted")
        assert result.status == 0
        assert "hf_accepted" not in result.stdout + result.stderr
    assert "Bearer hf_accepted" in {entry.authorization for entry in hub.log}
    assert {entry.authorization for entry in hub.requests("cdn")} == {None}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not [path for path in written if b"hf_accepted" in path.read_bytes()]


def test_progress_in_a_pipe_is_plain_lines_on_stderr_and_stdout_is_one_document(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": TINY})
    result = online("download", f"{REPO}:Q4_K_M", "--json")
    assert result.stderr.splitlines() == ["fetch g-Q4_K_M.gguf (0.00 MB)"]
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout)["label"] == "Q4_K_M"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_on_a_terminal_is_a_bar_and_stdout_stays_one_document(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": tiny_gguf(10_000)})
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "quantpick", "download", f"{REPO}:Q4_K_M", "--json"],
        cwd=online.cwd,
        env=online.environment(TERM="xterm", COLUMNS="100"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert json.loads(done.stdout)["label"] == "Q4_K_M"
    assert "\x1b[" in shown
    assert "fetch g-Q4_K_M.gguf" in shown
    assert "━" in shown


def test_mirror_without_sizes_is_asked_for_the_tree_page_by_page(
    online: Command, hub: LoopbackHub
) -> None:
    others = {f"notes/{number:05}.txt": b"" for number in range(10_000)}
    hub.add_repo(REPO, {**others, "g-Q4_K_M.gguf": TINY}, no_blobs=True)
    (file,) = fetch(online, f"{REPO}:Q4_K_M")["files"]
    assert (file["verified"], (online.cwd / "g-Q4_K_M.gguf").read_bytes()) == (True, TINY)
    pages = [entry.path for entry in hub.requests("hub") if "/tree/" in entry.path]
    assert len(pages) == 11
