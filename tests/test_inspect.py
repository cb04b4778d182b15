"""`quantpick inspect`: a header shown, of local files and of files on the Hub."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from quantpick.gguf_header import read_file
from tests.hub import faults
from tests.support.gguf_files import tiny_gguf
from tests.support.gguf_headers import ARCHITECTURE, F32, STR, Pair, pack_file, write_70b

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoggedRequest, LoopbackHub
    from tests.support.command import Command, Result

REPO = "someone/seventy-GGUF"
SPEC = f"{REPO}:Q4_K_M"
NAME = "seventy-Q4_K_M.gguf"
MIB = 1 << 20


@pytest.fixture(scope="session")
def seventy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file whose header is as long as that of a 70B model."""
    path = tmp_path_factory.mktemp("seventy") / NAME
    write_70b(path)
    return path


def spans(entries: list[LoggedRequest]) -> list[tuple[int, int]]:
    """Return the ranges that were asked for, as first byte and byte after the last."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", entry.range or "") for entry in entries]
    return [(int(span[1]), int(span[2]) + 1) for span in found if span]


def gets(hub: LoopbackHub) -> list[LoggedRequest]:
    """Return the requests that carry file content, or would."""
    resolved = [entry for entry in hub.requests("hub") if "/resolve/" in entry.path]
    return [*resolved, *hub.requests("cdn")]


def facts(result: Result) -> dict[str, str]:
    """Return the lines of a fact each, by what they are called."""
    lines = [line.partition(":") for line in result.stdout.partition("\n\n")[0].splitlines()]
    return {name: value.strip() for name, _, value in lines}


# Local files


def test_a_file_shows_its_facts_in_80_columns(quantpick: Command, gemma: Path) -> None:
    run = replace(quantpick, cwd=gemma.parent)("inspect", gemma.name)
    assert (run.status, run.stderr) == (0, "")
    told = facts(run)
    assert told[gemma.name] == "GGUF version 3, one file"
    assert told["architecture"] == "gemma3"
    assert told["parameters"] == "268.10 M"
    assert told["size"] == "253113024 bytes (0.25 GB), 7.36 bits per weight"
    assert told["file type"] == "Q4_K_M"
    assert (told["embedding"], told["output"]) == ("Q8_0", "tied to the embedding")
    assert (told["context"], told["layers"]) == ("32768 tokens", "18")
    assert told["tokenizer"] == "llama, 262144 tokens"
    assert (told["chat template"], told["licence"]) == ("none", "gemma")
    rows = [line.split() for line in run.stdout.partition("\n\n")[2].splitlines()]
    assert rows[1] == ["Q8_0", "10", "169.25", "M", "179824640", "8.50", "72.9", "%"]
    assert rows[-1] == ["all", "236", "268.10", "M", "246587904", "7.36", "100.0", "%"]
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_a_document_holds_key_values_and_table(quantpick: Command, gemma: Path) -> None:
    document = quantpick("inspect", str(gemma), "--json").json
    assert (document["schema_version"], document["command"]) == (1, "inspect")
    assert document["metadata"]["tokenizer.ggml.tokens"] == {"type": "str", "length": 262144}
    assert document["metadata"]["gemma3.block_count"] == 18
    assert len(document["tensors"]) == document["tensor_count"] == 236
    assert sum(tensor["bytes"] for tensor in document["tensors"]) == document["tensor_bytes"]
    assert document["tensors"][1] == {
        "name": "token_embd.weight",
        "dims": [640, 262144],
        "type": "Q8_0",
        "bytes": 178257920,
    }
    assert (document["tied"], document["output_type"]) == (True, None)
    assert document["vocab_size"] == 262144


def test_a_shard_shows_its_set(quantpick: Command, gemma: Path, gemma_shards: list[Path]) -> None:
    whole = quantpick("inspect", str(gemma), "--json").json
    split = quantpick("inspect", str(gemma_shards[1]), "--json").json
    assert split["shard_count"] == 2
    assert split["tensors"] == whole["tensors"]
    assert "2 shards" in quantpick("inspect", str(gemma_shards[0])).stdout.splitlines()[0]


def test_what_the_file_says_cannot_reach_the_terminal_raw(quantpick: Command) -> None:
    pairs = (
        ARCHITECTURE,
        Pair("general.name", STR, "evil\x1b[2J\n" + "x" * 500),
        Pair("general.license", STR, "mit\r\x07"),
        Pair("general.license.link", STR, "https://example.org/licence"),
        Pair("general.quantized_by", STR, "someone\u202e"),
        Pair("tokenizer.chat_template", STR, "{{ a }}\n{{ b }}"),
        Pair("a.odd", F32, float("nan")),
    )
    (quantpick.cwd / "evil.gguf").write_bytes(pack_file(pairs))
    run = quantpick("inspect", "evil.gguf")
    assert all(line.isprintable() for line in run.stdout.splitlines())
    assert facts(run)["licence"] == "mit??"
    assert facts(run)["licence link"] == "https://example.org/licence"
    assert facts(run)["chat template"] == "yes, 15 characters"
    assert max(map(len, run.stdout.splitlines())) <= 80
    document = quantpick("inspect", "evil.gguf", "--json").json
    assert document["chat_template"] == "{{ a }}\n{{ b }}"
    assert document["metadata"]["a.odd"] == "nan"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["missing.gguf"], 2, "cannot read missing.gguf"),
        (["broken.gguf"], 7, "broken.gguf: cut short"),
        (["text.gguf"], 7, "text.gguf: no GGUF file"),
        (["bartowski/Llama-3.2-1B-Instruct-GGUF"], 2, "names no quant"),
        (["a b"], 2, "cannot read 'a b'"),
    ],
)
def test_what_cannot_be_shown_is_one_error(
    words: list[str], status: int, said: str, quantpick: Command
) -> None:
    (quantpick.cwd / "broken.gguf").write_bytes(tiny_gguf()[:200])
    (quantpick.cwd / "text.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    run = quantpick("inspect", *words)
    assert (run.status, run.stdout) == (status, "")
    assert [line for line in run.stderr.splitlines() if line.startswith("error: ") and said in line]
    assert "\nhint: " in run.stderr
    assert quantpick("inspect", *words, "--json").json["error"]["exit_status"] == status


# The Hub


def test_a_70b_header_takes_at_most_12_mib_once(
    online: Command, hub: LoopbackHub, seventy: Path
) -> None:
    hub.add_repo(REPO, {NAME: seventy})
    first = online("inspect", SPEC, "--json", HF_TOKEN="hf_accepted")
    assert first.status == 0, first.stderr
    asked = spans(hub.requests("cdn"))
    header = read_file(seventy)
    assert header.header_bytes > 7 * MIB
    assert sum(stop - start for start, stop in asked) <= 12 * MIB
    assert asked[-1][1] < header.header_bytes + 2 * MIB
    assert all(before[1] <= after[0] for before, after in pairwise(asked))
    document = first.json
    assert (document["repo_id"], document["label"], document["paths"]) == (REPO, "Q4_K_M", [NAME])
    assert document["tensor_count"] == 724
    assert document["metadata"]["tokenizer.ggml.merges"] == {"type": "str", "length": 280147}

    before = len(gets(hub))
    again = online("inspect", SPEC, "--json", HF_TOKEN="hf_accepted")
    assert again.json == document
    assert gets(hub)[before:] == []


def test_the_token_stays_with_the_hub(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf()}, gated=True)
    assert online("inspect", SPEC).status == 6
    run = online("inspect", SPEC, HF_TOKEN="hf_accepted")
    assert run.status == 0, run.stderr
    resolved = [entry for entry in hub.requests("hub") if "/resolve/" in entry.path]
    assert resolved[-1].authorization == "Bearer hf_accepted"
    assert [entry.authorization for entry in hub.requests("cdn")] == [None]
    assert "hf_accepted" not in run.stdout + run.stderr


def test_a_split_set_shows_all_its_tensors(
    online: Command, hub: LoopbackHub, gemma: Path, gemma_shards: list[Path]
) -> None:
    hub.add_repo(REPO, {path.name: path for path in gemma_shards})
    document = online("inspect", SPEC, "--json").json
    assert document["shard_count"] == 2
    assert document["file_bytes"] == sum(path.stat().st_size for path in gemma_shards)
    assert [tensor["name"] for tensor in document["tensors"]] == [
        tensor.name for tensor in read_file(gemma).tensors
    ]
    sizes = [stop - start for start, stop in spans(hub.requests("cdn"))]
    assert sizes[-1] == 32 << 10
    assert sum(sizes) < 10 * MIB


def test_a_server_that_ignores_ranges_is_read_as_far_as_needed(
    online: Command, hub: LoopbackHub, seventy: Path
) -> None:
    hub.add_repo(REPO, {NAME: seventy})
    hub.add_fault(faults.no_range())
    run = online("inspect", SPEC, "--json")
    assert run.status == 0, run.stderr
    assert run.json["tensor_count"] == 724
    assert {entry.status for entry in hub.requests("cdn")} == {200}


@pytest.mark.parametrize(
    "fault",
    [faults.drop(1000, times=1), faults.reset(1000, times=1), faults.status(503, times=1)],
    ids=["drop", "reset", "503"],
)
def test_a_passing_trouble_is_tried_again(
    fault: faults.Fault, online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf(4096)})
    hub.add_fault(fault)
    run = online("inspect", SPEC, "--json")
    assert run.status == 0, run.stderr
    assert run.json["architecture"] == "llama"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (faults.short(100), 7, "arrived shorter or longer than the Hub lists it"),
        (faults.corrupt(0, n=4), 7, "no GGUF file"),
        (faults.missing_on_cdn(), 3, "is not there (404)"),
    ],
    ids=["short", "corrupt", "404"],
)
def test_a_wrong_answer_is_refused_and_not_kept(
    fault: faults.Fault, status: int, said: str, online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf(4096)})
    hub.add_fault(fault)
    run = online("inspect", SPEC)
    assert (run.status, run.stdout) == (status, "")
    assert said in run.stderr
    hub.clear_faults()
    assert online("inspect", SPEC).status == 0


# What is kept


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("headers/*") if path.is_file()]


def test_the_cache_is_where_the_variable_says(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf()})
    place = tmp_path / "kept"
    assert online("inspect", SPEC, QUANTPICK_CACHE=str(place)).status == 0
    assert len(kept(place)) == 1
    assert list(online.cwd.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"of": 1}', b"\xff\xfe", b'{"of": null, "record": {}}']
)
def test_a_damaged_entry_is_read_again(
    damage: bytes, online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf()})
    online = replace(online, env={**online.env, "QUANTPICK_CACHE": str(tmp_path / "kept")})
    first = online("inspect", SPEC, "--json")
    (entry,) = kept(tmp_path / "kept")
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert online("inspect", SPEC, "--json").json == first.json
    assert entry.read_bytes() == whole


def test_a_damaged_table_in_an_entry_is_read_again(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf()})
    online = replace(online, env={**online.env, "QUANTPICK_CACHE": str(tmp_path / "kept")})
    first = online("inspect", SPEC, "--json")
    (entry,) = kept(tmp_path / "kept")
    entry.write_text(entry.read_text("utf-8").replace('"F32"', '"F33"'), "utf-8")
    assert online("inspect", SPEC, "--json").json == first.json


def test_a_new_commit_is_read_anew(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf(name="one")})
    assert online("inspect", SPEC, "--json").json["name"] == "one"
    hub.add_repo(REPO, {NAME: tiny_gguf(name="two")}, sha="f" * 40)
    assert online("inspect", SPEC, "--json").json["name"] == "two"


def test_a_cache_that_cannot_be_written_is_no_error(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: tiny_gguf()})
    (tmp_path / "file").write_text("not a folder")
    run = online("inspect", SPEC, QUANTPICK_CACHE=str(tmp_path / "file"))
    assert (run.status, run.stderr) == (0, "")
