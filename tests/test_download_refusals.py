"""Downloads that are refused: exit status, message and hint, and what is left on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.hub import faults
from tests.support.downloads import GOOD, NAME, NOTICE, REPO, SPEC, refused, succeeds, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

API = "/api/models"


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with one repo of one small quant."""
    hub.add_repo(REPO, {NAME: GOOD, "README.md": b"# card"})
    return hub


def written(folder: Path) -> set[str]:
    """Name what is below a folder, but for the listings that quantpick keeps."""
    return {path for path in tree(folder) if ".cache" not in path}


@pytest.mark.parametrize(
    ("label", "refusal"),
    [
        ("Q4_K_S", (3, "has no quant Q4_K_S", "did you mean Q4_K_M")),
        ("nonsense", (3, "has no quant nonsense", "there are Q4_K_M")),
        ("Q6_K", (3, "has no quant Q6_K", "Q6_K_L")),
        ("Q8_0", (3, "has no quant Q8_0", "there are Q4_K_M")),
        ("Q2_K", (3, "a/g-Q2_K.gguf, b/g-Q2_K.gguf", "by its path: quantpick download")),
        ("Q3_K_XL", (3, "g-UD-Q3_K_XL.gguf, g.i1-Q3_K_XL.gguf", "ask for one of UD-Q3_K_XL, i1")),
        ("Q3_K_S", (7, "2 of 3 raw parts", "choose another quant")),
        ("Q5_K_M", (7, "1 of 2 shards", "choose another quant")),
    ],
)
def test_label_without_one_whole_quant_is_refused_before_anything_is_fetched(
    online: Command, hub: LoopbackHub, label: str, refusal: tuple[int, str, str]
) -> None:
    names = [NAME, "g-Q6_K_L.gguf", "mmproj-g-Q8_0.gguf", "g-Q5_K_M-00002-of-00002.gguf"]
    names += ["a/g-Q2_K.gguf", "b/g-Q2_K.gguf", "g-UD-Q3_K_XL.gguf", "g.i1-Q3_K_XL.gguf"]
    names += [f"g-Q3_K_S.gguf.part{number}of3" for number in (1, 3)]
    hub.add_repo(REPO, dict.fromkeys(names, GOOD))
    status, said, hint = refusal
    refused(online, f"{REPO}:{label}", status=status, said=said, hint=hint)
    assert (tree(online.cwd), hub.requests("cdn")) == (set(), [])


@pytest.mark.parametrize("label", ["q4_k_m", "Q4_k_M"])
def test_label_in_another_case_is_accepted(online: Command, shelf: LoopbackHub, label: str) -> None:
    result = online("download", f"{REPO}:{label}", "--json")
    assert (result.status, result.json["label"]) == (0, "Q4_K_M")
    assert (online.cwd / NAME).read_bytes() == GOOD
    assert len(shelf.requests("cdn")) == 1


@pytest.mark.parametrize("token", ["", "hf_accepted"], ids=["anonymous", "token"])
def test_unknown_repo_is_not_found(online: Command, hub: LoopbackHub, token: str) -> None:
    there = replace(online, env={**online.env, "HF_TOKEN": token})
    refused(there, "nobody/none:Q4_K_M", status=3, said="no repo nobody/none", hint="spelling")
    answers = {entry.status for entry in hub.requests("hub") if API in entry.path}
    assert answers == {404 if token else 401}


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([SPEC, "--revision", "nope"], "no revision nope", "leave --revision out"),
        ([f"{REPO}@nope:Q4_K_M"], "no revision nope", "leave --revision out"),
        (["lama-3.1-70b:Q4_K_M"], "no model 'lama-3.1-70b'", "did you mean llama-3.1-70b"),
    ],
)
def test_unknown_revision_and_alias_are_not_found(
    online: Command, words: list[str], said: str, hint: str
) -> None:
    refused(online, *words, status=3, said=said, hint=hint)


@pytest.mark.parametrize("command", ["recommend", "list", "download"])
@pytest.mark.usefixtures("shelf")
def test_a_misspelled_repo_leads_to_the_catalogued_one(online: Command, command: str) -> None:
    label = ":Q4_K_M" if command == "download" else ""
    for repo, near in (
        ("bartowsk/Meta-Llama-3.1-8B-Instruct-GGUF", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
        ("bartowski/Llama-3.3-70B-Instruct-GUFF", "bartowski/Llama-3.3-70B-Instruct-GGUF"),
        ("nobody/nothing", None),
    ):
        run = online(command, f"{repo}{label}")
        assert run.status == 3
        told = [line for line in run.stderr.splitlines() if "did you mean" in line]
        assert [line.split()[4].rstrip(",?") for line in told] == ([near] if near else [])


def test_repo_without_gguf_files_is_not_found(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {"model.safetensors": GOOD})
    refused(online, SPEC, status=3, said="holds no GGUF model", hint="-GGUF")


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([], "no quant is named", "OWNER/REPO:LABEL"),
        ([SPEC, "--nope"], "--nope", "quantpick download --help"),
        ([REPO], "names no quant", f"{REPO}:auto"),
        (["../x:Q4_K_M"], "is a path", "OWNER/REPO:LABEL"),
        (["some one/x:Q4_K_M"], "cannot read", "OWNER/REPO:LABEL"),
        ([f"{REPO}:auto", "--vram", "lots"], "lots", "24GiB"),
    ],
)
def test_words_that_make_no_sense_are_a_usage_error(
    online: Command, words: list[str], said: str, hint: str
) -> None:
    refused(online, *words, status=2, said=said, hint=hint)


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("there", [b"mine", GOOD[:-1] + b"\xff"], ids=["size", "bytes"])
def test_another_file_of_that_name_is_left_alone_and_replaced_with_force(
    online: Command, there: bytes
) -> None:
    (online.cwd / NAME).write_bytes(there)
    refused(online, SPEC, status=7, said="not the file that the Hub lists", hint="--force")
    assert (online.cwd / NAME).read_bytes() == there
    assert tree(online.cwd) == {NAME}
    succeeds(online, "--force")


@pytest.mark.parametrize("token", ["", "hf_other"], ids=["no-token", "without-access"])
def test_gated_repo_asks_for_its_licence_to_be_accepted(
    online: Command, hub: LoopbackHub, token: str
) -> None:
    hub.add_repo(REPO, {NAME: GOOD}, gated=True)
    there = replace(online, env={**online.env, "HF_TOKEN": token})
    refused(there, SPEC, status=6, said=f"{REPO} is gated", hint="accept it")
    assert (tree(online.cwd), hub.requests("cdn")) == (set(), [])
    assert {entry.status for entry in hub.requests("hub") if "/resolve/" in entry.path} == {
        403 if token else 401
    }


def test_bare_401_asks_for_a_token(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.status(401, path=API))
    refused(online, SPEC, status=6, said="refuses access", hint="set HF_TOKEN")


def test_auto_where_nothing_fits_names_the_nearest_quant(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    small = ("--vram", "1MiB", "--ram", "1MiB")
    said, hint = f"no quant of {REPO} fits this machine", "nearest: Q4_K_M"
    refused(online, f"{REPO}:auto", *small, status=4, said=said, hint=hint)
    assert tree(online.cwd) == set()


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
def test_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    online: Command, hub: LoopbackHub, place: list[str]
) -> None:
    huge = {"rfilename": NAME, "size": 10**15, "blobId": "0" * 40}
    hub.add_repo(REPO, {NAME: GOOD}, info={"siblings": [huge]})
    refused(online, SPEC, *place, status=8, said="1000000.00 GB to fetch", hint="smaller quant")
    assert (tree(online.cwd), hub.requests("cdn")) == (set(), [])


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("words", "home"),
    [(["--local-dir", "file/below"], "hf"), (["--cache"], "file/below")],
    ids=["folder", "cache"],
)
def test_place_that_cannot_be_written_is_a_disk_error(
    online: Command, words: list[str], home: str
) -> None:
    (online.cwd / "file").write_text("a file, not a folder")
    there = replace(online, env={**online.env, "HF_HOME": str(online.cwd / home)})
    refused(there, SPEC, *words, status=8, said="cannot write", hint="another")
    assert tree(online.cwd) == {"file"}


@pytest.mark.usefixtures("shelf")
def test_notice_that_cannot_be_written_is_a_disk_error(online: Command) -> None:
    (online.cwd / NOTICE).mkdir()
    refused(online, SPEC, status=8, said="cannot write", hint="another")


@pytest.mark.parametrize(
    "name",
    [
        "../../x-Q4_K_M.gguf",
        "a/../../../x-Q4_K_M.gguf",
        "/{tmp_path}/x-Q4_K_M.gguf",
        "a\\..\\b-Q4_K_M.gguf",
        "C:/x-Q4_K_M.gguf",
        "x\x1b[31m-Q4_K_M.gguf",
        "x\r\n-Q4_K_M.gguf",
        "x\u202e-Q4_K_M.gguf",
    ],
)
def test_hostile_file_name_is_refused_and_nothing_is_written_anywhere(
    online: Command, hub: LoopbackHub, tmp_path: Path, name: str
) -> None:
    hub.add_repo(REPO, {name.format(tmp_path=str(tmp_path).strip("/")): GOOD})
    before = written(tmp_path)
    for words in (["--local-dir", "deep/er"], ["--json", "--cache"]):
        result = online("download", SPEC, *words)
        assert result.status == 7
        told = result.stdout + result.stderr
        assert "not safe to write" in told
        assert "another quantizer" in told
        assert not set(told) & {"\x1b", "\r", "\u202e"}
    assert (written(tmp_path), hub.requests("cdn")) == (before, [])


def test_hostile_commit_and_card_reach_neither_path_nor_terminal_nor_notice(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(REPO, {NAME: GOOD}, license="evil\x1b[31m\nred", base_model="m\x1b[2J")
    result = online("download", SPEC)
    assert result.status == 0
    assert "\x1b" not in result.stdout + result.stderr
    assert b"\x1b" not in (online.cwd / NOTICE).read_bytes()
    hub.add_repo(REPO, {NAME: GOOD}, info={"sha": "/../../../evil"})
    before = written(tmp_path)
    refused(online, SPEC, status=5, said="names no commit", hint="try again")
    assert written(tmp_path) == before
