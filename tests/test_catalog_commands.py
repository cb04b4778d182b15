"""``quantpick catalog add`` and ``import``: entries from the Hub and from published cards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.entry import EntryFacts, EntryFile, entry_document
from tests.hub import faults
from tests.support.cards import BARTOWSKI, BARTOWSKI_REPO, MRADERMACHER, MRADERMACHER_REPO
from tests.support.catalogs import (
    REPO,
    SHAPE,
    entry,
    files,
    get,
    named,
    new_catalog,
    row,
    rows_of,
    sha256,
    tiny_llama,
)
from tests.support.command import Command, Result
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub

OTHER = "someone/Other-GGUF"
COMMIT = "c3" * 20
LABELS = ("Q8_0", "Q4_K_M", "IQ4_XS")


@pytest.fixture
def folder(online: Command) -> Path:
    """Return a catalog with one entry, of another repo."""
    return new_catalog(online.cwd / "catalog", {OTHER: entry(row("Q8_0", 1000))})


@pytest.fixture
def run(online: Command, folder: Path) -> Command:
    """Return quantpick with that catalog."""
    return Command(online.cwd, {**online.env, "QUANTPICK_CATALOG": str(folder)})


def succeeds(result: Result) -> Result:
    assert result.status == 0, result.stdout + result.stderr
    return result


def fails(result: Result, status: int, said: str) -> None:
    assert result.status == status, result.stdout + result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def written(folder: Path) -> dict[str, str]:
    """Return every file of the catalog as it is."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# add


def test_new_repo_is_shown_first_and_written_on_demand(
    run: Command, hub: LoopbackHub, folder: Path
) -> None:
    about: Any = {"license": "mit", "base_model": "someone/Tiny-Llama"}
    hub.add_repo(REPO, files(*LABELS), sha=COMMIT, **about)
    before = written(folder)
    done = succeeds(run("catalog", "add", REPO))
    assert f"+ {REPO}  a new entry of 3 quants" in done.stdout
    assert f"+ {REPO}  shape.block_count: 2" in done.stdout
    size = len(tiny_llama("Q4_K_M"))
    assert f"+ {REPO}  Q4_K_M  {size} bytes  {named('Q4_K_M')}, sha256 known" in done.stdout
    assert "to write it: --write" in done.stdout
    assert written(folder) == before
    done = succeeds(run("catalog", "add", REPO, "--write"))
    assert f"written: {folder / 'models' / f'{REPO}.json'}" in done.stdout
    document = get(folder)
    assert (document["title"], document["quantizer"]) == ("Tiny Llama", "someone")
    assert (document["license"], document["base_model"]) == ("mit", "someone/Tiny-Llama")
    assert "imatrix" not in document
    assert COMMIT in document["sources"]["listing"]
    assert "GGUF header" in document["sources"]["shape"]
    assert {one["source"] for one in document["files"]} == {"listing"}


def test_entry_is_what_its_files_are(run: Command, hub: LoopbackHub, folder: Path) -> None:
    hub.add_repo(REPO, files(*LABELS), license="mit")
    succeeds(run("catalog", "add", REPO, "--write"))
    document = get(folder)
    found = rows_of(folder)
    assert {label: (found[label]["bytes"], found[label]["sha256"]) for label in found} == {
        label: (len(tiny_llama(label)), [sha256(tiny_llama(label))]) for label in LABELS
    }
    assert document["shape"] == {
        name: value
        for name, value in SHAPE._replace(parameters=1_443_072)._asdict().items()
        if value and name != "known"
    }
    # The figures and the label tell where the bytes go, as they do of the real models.
    assert all("weights" in one for one in document["files"])
    assert succeeds(run("catalog", "check")).stdout == "2 repos with 4 quants: no fault\n"


def test_added_repo_is_listed_and_recommended_offline(
    run: Command, hub: LoopbackHub, folder: Path
) -> None:
    hub.add_repo(REPO, files(*LABELS))
    named_so = ("--alias", "tiny-llama", "--alias", "a-llama")
    succeeds(run("catalog", "add", REPO, "--write", *named_so))
    hub.log.clear()
    shown = run("list", "tiny-llama", "--json").json
    assert [one["label"] for one in shown["files"]] == ["Q8_0", "Q4_K_M", "IQ4_XS"]
    answer = run("recommend", "tiny-llama", "--vram", "8GiB", "--json").json
    assert answer["pick"]["label"] == "Q8_0"
    (model,) = [one for one in run("list", "--json").json["models"] if one["repo_id"] == REPO]
    assert model["aliases"] == ["a-llama", "tiny-llama"]
    rows = json.loads(written(folder)["aliases.json"])["aliases"]
    assert [one["alias"] for one in rows] == ["a-llama", "tiny", "tiny-llama"]
    assert hub.requests("hub") == []
    assert "index.json" in written(folder)


def test_same_again_writes_nothing(run: Command, hub: LoopbackHub, folder: Path) -> None:
    hub.add_repo(REPO, files(*LABELS), sha=COMMIT)
    succeeds(run("catalog", "add", REPO, "--write"))
    before = written(folder)
    hub.add_repo(REPO, {**files(*LABELS), "README.md": b"new"}, sha="d4" * 20)
    done = succeeds(run("catalog", "add", REPO, "--write"))
    assert done.stdout == f"{REPO}: nothing new\n"
    assert written(folder) == before


def test_revision_is_what_is_listed(run: Command, hub: LoopbackHub, folder: Path) -> None:
    hub.add_repo(REPO, files("Q4_K_M"), sha=COMMIT, revision="v1")
    hub.add_repo(REPO, files("Q8_0"), sha="d4" * 20)
    succeeds(run("catalog", "add", f"{REPO}@v1", "--write"))
    assert set(rows_of(folder)) == {"Q4_K_M"}
    succeeds(run("catalog", "add", REPO, "--write"))
    assert set(rows_of(folder)) == {"Q8_0"}


def test_what_a_person_wrote_stays(run: Command, hub: LoopbackHub, folder: Path) -> None:
    hub.add_repo(OTHER, files("Q8_0"), license="mit")
    succeeds(run("catalog", "add", OTHER, "--write"))
    document = get(folder, OTHER)
    assert document["title"] == "Tiny Llama"
    assert document["base_model"] == "someone/Tiny-Llama"
    assert document["license"] == "mit"
    assert document["shape"]["architecture"] == "llama"


def test_companions_and_parts_are_left_out(run: Command, hub: LoopbackHub, folder: Path) -> None:
    raw = {f"x.Q5_K_M.gguf.part{n}of2": b"part" for n in (1, 2)}
    more = {"mmproj-F16.gguf": b"x", "imatrix.dat": b"x", "nameless.gguf": b"x", **raw}
    hub.add_repo(REPO, {**files("Q8_0"), **more})
    done = succeeds(run("catalog", "add", REPO, "--write"))
    assert f"! {REPO}  Q5_K_M is cut into raw byte parts: left out" in done.stdout
    assert set(rows_of(folder)) == {"Q8_0"}


def test_shape_that_breaks_a_rule_is_left_out_and_said_so(
    run: Command, hub: LoopbackHub, folder: Path
) -> None:
    hub.add_repo(REPO, {named("Q8_0"): tiny_gguf(4096)})
    done = succeeds(run("catalog", "add", REPO, "--write"))
    assert f"! {REPO}  the shape " in done.stdout
    assert "shape" not in get(folder)
    assert "shape" not in get(folder)["sources"]
    assert succeeds(run("catalog", "check")).stdout.endswith("no fault\n")


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ([f"{REPO}:Q8_0"], (2, "names more than a repo")),
        (["./somewhere"], (2, "names more than a repo")),
        (["nobody/Nothing-GGUF"], (3, "the Hub has no repo nobody/Nothing-GGUF")),
        (["unheard-of"], (3, "the catalog has no model 'unheard-of'")),
        (["../../etc/passwd"], (2, "names more than a repo")),
        ([REPO, "--alias", "x"], (2, "--alias is for what is written")),
        ([REPO, "--write", "--alias", "Q4_K_M"], (2, "'Q4_K_M' cannot be an alias")),
        ([REPO, "--write", "--alias", "tiny"], (2, f"tiny is an alias of {OTHER}")),
    ],
)
def test_add_that_cannot_be_is_refused_and_writes_nothing(
    words: list[str], refusal: tuple[int, str], run: Command, hub: LoopbackHub, folder: Path
) -> None:
    hub.add_repo(REPO, files("Q8_0"))
    before = written(folder)
    fails(run("catalog", "add", *words), *refusal)
    assert written(folder) == before


def test_repo_without_a_model_is_not_found(run: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {"README.md": b"x"})
    fails(run("catalog", "add", REPO), 3, "holds no GGUF model")


def test_hub_that_is_away_is_an_error_in_json_too(run: Command, hub: LoopbackHub) -> None:
    hub.add_fault(faults.status(503))
    done = run("catalog", "add", REPO, "--retries", "0", "--json")
    assert (done.status, done.json["error"]["code"]) == (5, "hub_unavailable")
    assert done.json["command"] == "catalog"


def test_document_has_the_whole_entry(run: Command, hub: LoopbackHub, folder: Path) -> None:
    hub.add_repo(REPO, files("Q8_0"))
    shown = succeeds(run("catalog", "add", REPO, "--json")).json
    assert shown["written"] is None
    succeeds(run("catalog", "add", REPO, "--write"))
    assert shown["entry"] == get(folder)


def test_catalog_that_cannot_be_written_is_a_disk_error(
    run: Command, hub: LoopbackHub, folder: Path
) -> None:
    hub.add_repo(REPO, files("Q8_0"))
    (folder / "models" / "someone").rename(folder / "models" / "kept")
    (folder / "models" / "someone").write_text("a file in the way", "utf-8")
    done = run("catalog", "add", REPO, "--write")
    fails(done, 8, "cannot write the catalog file")
    assert "QUANTPICK_CATALOG" in done.stderr


# import


def import_card(run: Command, text: str, repo: str, *words: str) -> Result:
    (run.cwd / "CARD.md").write_text(text, "utf-8")
    return run("catalog", "import", "CARD.md", "--repo", repo, *words)


def test_card_becomes_an_entry_with_rounded_sizes(
    run: Command, hub: LoopbackHub, folder: Path
) -> None:
    done = succeeds(import_card(run, BARTOWSKI, BARTOWSKI_REPO, "--write"))
    for label in ("F32", "Q8_0"):
        note = f"{label} is split, and the card does not name its shards: left out"
        assert f"! {BARTOWSKI_REPO}  {note}" in done.stdout
    document, found = get(folder, BARTOWSKI_REPO), rows_of(folder, BARTOWSKI_REPO)
    assert list(found) == ["Q6_K_L", "Q4_K_M", "IQ4_XS", "Q3_K_S", "Q2_K"]
    q4 = found["Q4_K_M"]
    assert (q4["bytes"], q4["rounded_to"], q4["recommended"]) == (42_520_000_000, 10**7, True)
    assert q4["paths"] == ["Tiny-Llama-70B-Q4_K_M.gguf"]
    assert (found["Q6_K_L"]["output_type"], found["Q3_K_S"]["recommended"]) == ("Q8_0", False)
    assert document["sources"] == {"card": "model card of this repo; sizes as it rounds them"}
    assert (document["license"], document["llama_cpp"]) == ("llama3.1", "b3472")
    assert document["prompt_format"].endswith("<|user|>{prompt}<|end|>\n")
    assert hub.requests("hub") == []
    assert succeeds(run("catalog", "check")).stdout.endswith("no fault\n")
    shown = run("list", BARTOWSKI_REPO, "--json").json["files"]
    assert {one["rounded_to"] for one in shown} == {10**7}
    dropped = BARTOWSKI.replace("The default, *recommended*", "*not recommended*")
    told = succeeds(import_card(run, dropped, BARTOWSKI_REPO)).stdout
    assert "Q4_K_M  the card's words: recommended True -> recommended False" in told


def test_rows_that_cannot_be_used_are_reported(run: Command, folder: Path) -> None:
    done = succeeds(import_card(run, MRADERMACHER, MRADERMACHER_REPO, "--write"))
    reported = "PART 1 PART 2: left out, it is cut into raw byte parts"
    assert f"! {MRADERMACHER_REPO}  {reported}" in done.stdout
    found = rows_of(folder, MRADERMACHER_REPO)
    assert list(found) == ["i1-Q5_K_M", "i1-Q4_K_M", "i1-IQ1_S"]
    assert len(found["i1-Q5_K_M"]["paths"]) == 2
    assert succeeds(run("catalog", "check")).stdout.endswith("no fault\n")


def card(*rows: str) -> str:
    return "\n".join(["| Filename | Quant type | File Size | Split |", "|-|-|-|-|", *rows])


def test_what_is_known_better_stays_and_what_is_known_worse_goes(
    run: Command, folder: Path
) -> None:
    shards = [f"d/x-F16-0000{n}-of-00002.gguf" for n in (1, 2)]
    known = entry(
        row("F16", 16_100_000_000, rounded_to=10**8, paths=shards),
        row("Q8_0", 8_540_770_000, rounded_to=10**4),
        row("Q4_K_M", 4_920_739_232),
        row("Q2_K", 3_000_000_000),
    )
    new_catalog(folder.parent / "own", {REPO: known})
    own = Command(run.cwd, {**run.env, "QUANTPICK_CATALOG": str(folder.parent / "own")})
    text = card(
        "| d/x-F16 | F16 | 16.07GB | true |",
        f"| {named('Q8_0')} | Q8_0 | 8.54GB | |",
        f"| {named('Q4_K_M')} | Q4_K_M | 4.92GB | |",
        f"| {named('Q2_K')} | Q2_K | 3.18GB | |",
    )
    done = succeeds(import_card(own, text, REPO, "--write"))
    found = rows_of(folder.parent / "own")
    assert (found["F16"]["bytes"], found["F16"]["paths"]) == (16_070_000_000, shards)
    assert found["Q8_0"]["bytes"] == 8_540_770_000
    assert found["Q4_K_M"]["bytes"] == 4_920_739_232
    assert found["Q2_K"]["bytes"] == 3_000_000_000
    kept = "Q2_K has 3.18 GB in the card and 3.00 GB in the catalog: kept as it was"
    assert f"! {REPO}  {kept}" in done.stdout
    assert "Q4_K_M" not in done.stdout


def test_shape_comes_from_another_repo_of_the_same_base_model(run: Command, folder: Path) -> None:
    facts = EntryFacts(
        title="Kin",
        base_model="someone/Tiny",
        base_gated=None,
        license=None,
        quantizer="kin",
        llama_cpp=None,
        imatrix=None,
        prompt_format=None,
        shape=SHAPE._replace(parameters=70_000_000_000),
        sources={"card": "x"},
    )
    kin = EntryFile("Q8_0", ("k-Q8_0.gguf",), 75 * 10**9, 0, (), "card", "2025-01-31")
    other = facts._replace(base_model="a/Other", shape=SHAPE._replace(parameters=1))
    entries = {"a/Other-GGUF": entry_document(other, [kin])}
    entries["kin/Kin-GGUF"] = entry_document(facts, [kin])
    own = new_catalog(folder.parent / "own", entries)
    run = Command(run.cwd, {**run.env, "QUANTPICK_CATALOG": str(own)})
    succeeds(import_card(run, MRADERMACHER, MRADERMACHER_REPO, "--write"))
    document = get(own, MRADERMACHER_REPO)
    assert document["shape"] == get(own, "kin/Kin-GGUF")["shape"]
    assert "kin/Kin-GGUF" in document["sources"]["shape"]


@pytest.mark.parametrize(
    ("text", "repo", "refusal"),
    [
        ("no table", REPO, (3, "has no table of quants")),
        (BARTOWSKI, "../../etc", (2, "is not the name of a repo")),
        (BARTOWSKI, "a/../b", (2, "is not the name of a repo")),
        ("|" * 4_000_001, REPO, (2, "no card has")),
    ],
    ids=["no table", "a path", "dots", "too long"],
)
def test_card_that_cannot_be_is_refused(
    text: str, repo: str, refusal: tuple[int, str], run: Command, folder: Path
) -> None:
    before = written(folder)
    fails(import_card(run, text, repo, "--write"), *refusal)
    assert written(folder) == before


def test_card_that_is_not_there_is_refused(run: Command) -> None:
    done = run("catalog", "import", "NONE.md", "--repo", REPO)
    fails(done, 2, "cannot read NONE.md")


def test_hostile_card_writes_no_file_elsewhere(run: Command, folder: Path) -> None:
    text = "---\nlicense: \x1b[31m\nbase_model: ../../x\n---\n" + card(
        "| ../../evil-Q4_K_M.gguf | Q4_K_M | 4GB | |",
        "| <script>x</script>\x1b[2J-Q5_K_M.gguf | Q5_K_M | 5GB | |",
        f"| {named('Q8_0')} | Q8_0 | 8GB | |",
    )
    done = succeeds(import_card(run, text, REPO, "--write"))
    assert "\x1b" not in done.stdout + done.stderr
    assert set(rows_of(folder)) == {"Q8_0"}
    document = json.dumps(get(folder))
    assert "\\u001b" not in document
    assert "base_model" not in document


# The group


def test_group_tells_its_commands(quantpick: Command) -> None:
    done = quantpick("catalog", "--help")
    assert done.status == 0
    told = done.stdout.partition("Commands:")[2].split("\n  ")
    names = [line.split()[0] for line in told if line.strip()]
    assert names == ["add", "import", "refresh", "check"]


@pytest.mark.parametrize("name", ["add", "import", "refresh", "check"])
def test_each_command_has_help(name: str, quantpick: Command) -> None:
    done = quantpick("catalog", name, "--help")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: quantpick catalog {name} ")
    assert "--json" in done.stdout


def test_group_alone_is_a_usage_error(quantpick: Command) -> None:
    done = quantpick("catalog")
    assert done.status == 2
    assert "quantpick catalog --help" in done.stderr
