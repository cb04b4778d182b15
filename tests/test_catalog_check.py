"""``quantpick catalog check``: each broken property is named with its file and row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.api.audit import check_catalog
from quantpick.domain.catalog_check import Fault, check_entry
from quantpick.domain.catalog_stats import Tally
from quantpick.domain.entry import EntryFacts, EntryFile, entry_document
from quantpick.sources import catalog, rows
from quantpick.sources.catalog_format import dump_table
from tests.support.catalogs import (
    MAKER,
    NAME,
    REPO,
    SHAPE,
    entry,
    get,
    named,
    new_catalog,
    put,
    row,
    sha256,
    tiny_llama,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Command

FILE = f"models/{REPO}.json"
LABELS = ("Q8_0", "Q5_K_M", "Q4_K_M", "Q2_K")


def sound() -> dict[str, Any]:
    """Return an entry without a fault; its third row is the Q4_K_M."""
    facts = EntryFacts(
        title="Tiny Llama",
        base_model="someone/Tiny-Llama",
        base_gated=False,
        license="apache-2.0",
        quantizer=MAKER,
        llama_cpp=3472,
        imatrix=True,
        prompt_format="{system_prompt}{prompt}",
        shape=SHAPE._replace(parameters=1_443_072),
        sources={"card": "the card"},
    )
    files = (
        EntryFile(
            label=label,
            paths=(named(label),),
            file_bytes=len(tiny_llama(label)),
            rounded_to=0,
            sha256=(sha256(tiny_llama(label)),),
            source="card",
            seen="2025-01-31",
        )
        for label in LABELS
    )
    return entry_document(facts, files)


def faults_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setenv(rows.CATALOG_VARIABLE, str(folder))
    return [(fault.where, fault.what) for fault in check_catalog(Tally())]


def test_sound_catalog_has_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "weights" in sound()["files"][2]
    assert faults_of(new_catalog(tmp_path / "c", {REPO: sound()}), monkeypatch) == []


def of_row(**fields: Any) -> Callable[[dict[str, Any]], object]:  # noqa: ANN401 -- any field
    return lambda document: document["files"][2].update(fields)


def of_entry(**fields: Any) -> Callable[[dict[str, Any]], object]:  # noqa: ANN401 -- any field
    return lambda document: document.update(fields)


def of_shape(**fields: Any) -> Callable[[dict[str, Any]], object]:  # noqa: ANN401 -- any field
    return lambda document: document["shape"].update(fields)


def of_weights(**fields: Any) -> Callable[[dict[str, Any]], object]:  # noqa: ANN401 -- any field
    return lambda document: document["files"][2]["weights"].update(fields)


def without(*path: str | int) -> Callable[[dict[str, Any]], object]:
    def edit(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return edit


def split(*numbers: str) -> list[str]:
    return [f"{NAME}-Q4_K_M-{number}.gguf" for number in numbers]


ROW, TOP, SHAPED = f"{FILE}, files row 3", FILE, f"{FILE}, shape"
Q4 = len(tiny_llama("Q4_K_M"))
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "schema": (of_entry(schema=2), TOP, "schema is not 1"),
    "no title": (without("title"), TOP, "title is missing"),
    "a word for a flag": (of_entry(imatrix="yes"), TOP, "imatrix is not true or false"),
    "a release": (of_entry(llama_cpp="3472"), TOP, "llama_cpp is not a release such as b3472"),
    "a prompt": (of_entry(prompt_format="hi"), TOP, "prompt_format is not a text with {prompt}"),
    "a mistyped field": (of_entry(licence="mit"), TOP, "'licence' is no field that is known"),
    "no files": (of_entry(files=[]), TOP, "files is not a list that is not empty"),
    "an empty source": (of_entry(sources={"card": " "}), TOP, "sources is not texts by name"),
    "a shape's figure": (of_shape(block_count=0), SHAPED, "block_count is not a whole number"),
    "too many layers": (of_shape(block_count=10**15), SHAPED, "block_count is not a whole number"),
    "no figure": (without("shape", "head_count"), SHAPED, "head_count is missing"),
    "a figure's name": (of_shape(heads=4), SHAPED, "'heads' is no field that is known"),
    "no width": (without("shape", "feed_forward_length"), SHAPED, "feed_forward_length is missing"),
    "half a window": (of_shape(sliding_window=512), SHAPED, "sliding_window_pattern is missing"),
    "too few layers": (
        of_shape(layers=[{"key_width": 64}], layer_kinds="0"),
        SHAPED,
        "layer_kinds is not one of its layers for each block",
    ),
    "a layer of no kind": (
        of_shape(layers=[{"key_width": 64}], layer_kinds="01"),
        SHAPED,
        "layer_kinds is not one of its layers for each block",
    ),
    "a layer's figure": (
        of_shape(layers=[{"key": 64}], layer_kinds="00"),
        f"{SHAPED}, layers",
        "'key' is no field that is known",
    ),
    "a label": (of_row(label="Q9_K"), ROW, "label is not a quant label as llama.cpp spells it"),
    "a label's case": (of_row(label="q4_k_m"), ROW, "label is not a quant label"),
    "a label twice": (of_row(label="Q8_0"), ROW, "the label Q8_0 appears twice"),
    "a size as text": (of_row(bytes="1"), ROW, "bytes is not a whole number above zero"),
    "a size of true": (of_row(bytes=True), ROW, "bytes is not a whole number above zero"),
    "a step": (of_row(rounded_to=0), ROW, "rounded_to is not a whole number above zero"),
    "a large step": (of_row(rounded_to=10**9), ROW, "rounded_to is above its size"),
    "no path": (of_row(paths=[]), ROW, "paths is not a list of texts"),
    "a path that leaves": (
        of_row(paths=["../x-Q4_K_M.gguf"]),
        ROW,
        "a path is not safe to write",
    ),
    "another label's path": (
        of_row(paths=["x-Q6_K.gguf"]),
        ROW,
        "x-Q6_K.gguf is named as Q6_K, not as Q4_K_M",
    ),
    "a projector": (
        of_row(paths=["mmproj-Q4_K_M.gguf"]),
        ROW,
        "a path is not named as a model",
    ),
    "another row's path": (of_row(paths=[named("Q8_0")]), ROW, f"{named('Q8_0')} is in another"),
    "half a set": (
        of_row(paths=split("00001-of-00002")),
        ROW,
        "the shards are not complete and in order",
    ),
    "a set out of order": (
        of_row(paths=split("00002-of-00002", "00001-of-00002"), sha256=["0" * 64] * 2),
        ROW,
        "the shards are not complete and in order",
    ),
    "a digest": (of_row(sha256=["00"]), ROW, "sha256 is not a list of sha256 digests"),
    "a digest too many": (
        of_row(sha256=["0" * 64] * 2),
        ROW,
        "sha256 has 2 digests for 1 paths",
    ),
    "no source": (without("files", 2, "source"), ROW, "source is missing"),
    "an unknown source": (
        of_row(source="hearsay"),
        ROW,
        "its source is not among the file's sources",
    ),
    "a day": (of_row(seen="2025-02-31st"), ROW, "seen is not a day such as 2025-08-27"),
    "a type": (of_row(output_type="Q4_K_M"), ROW, "output_type is not a tensor type"),
    "a row's field": (of_row(recomended=True), ROW, "'recomended' is no field that is known"),
    "too few bits": (of_row(bytes=Q4 // 2), ROW, "2.49 bits a weight, where Q4_K_M has"),
    "too many bits": (of_row(bytes=10**9), ROW, "5543.73 bits a weight, where Q4_K_M has"),
    "sums": (of_row(bytes=Q4 - 200_000), ROW, "weights add up to"),
    "a sum of parts": (of_weights(layer_bytes=[10**9, 10**9]), ROW, "weights add up to"),
    "no parts": (of_weights(layer_bytes=None), ROW, "weights cannot be added up"),
    "weights of another mix": (of_weights(largest=1), ROW, "its weights are not what the shape"),
    "weights left out": (without("files", 2, "weights"), ROW, "its weights are not what the shape"),
    "sizes out of order": (
        lambda document: document["files"][1].update(bytes=Q4 - 50_000),
        f"{FILE}, files",
        "Q4_K_M is larger than Q5_K_M",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_property_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, where, what = BROKEN[name]
    document = sound()
    edit(document)
    folder = new_catalog(tmp_path / "c", {REPO: document})
    found = faults_of(folder, monkeypatch)
    assert [fault for fault in found if fault[0] == where and fault[1].startswith(what)], found


def test_label_that_the_reference_does_not_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = row("Q4_K_H", 10**6, paths=["x-Q4_K_H.gguf"])
    folder = new_catalog(tmp_path / "c", {REPO: entry(strange)})
    assert faults_of(folder, monkeypatch) == [
        (f"{FILE}, files row 1", "Q4_K_H is not in reference/quants.json")
    ]


def test_all_faults_are_named_at_once(quantpick: Command, tmp_path: Path) -> None:
    first, second = sound(), sound()
    first["files"][0]["bytes"] = "large"
    first["files"][3]["source"] = "hearsay"
    second["title"] = ""
    folder = new_catalog(tmp_path / "c", {REPO: first, "someone/Other-GGUF": second})
    # Of entries that are broken no index can be made, and so none is missed.
    (folder / "index.json").write_text("{}", "utf-8")
    done = quantpick("catalog", "check", QUANTPICK_CATALOG=str(folder))
    assert done.status == 7
    assert done.stdout.splitlines() == [
        "models/someone/Other-GGUF.json: title is not a text",
        f"{FILE}, files row 1: bytes is not a whole number above zero",
        f"{FILE}, files row 4: its source is not among the file's sources",
    ]
    assert "error: the catalog has 3 faults" in done.stderr
    document = quantpick("catalog", "check", "--json", QUANTPICK_CATALOG=str(folder)).json
    assert [(one["where"], one["row"]) for one in document["faults"]][1] == (
        f"{FILE}, files row 1",
        0,
    )
    assert document["error"]["exit_status"] == 7


OTHER_FILES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "an entry in another form": (
        FILE,
        lambda text: json.dumps(json.loads(text)),
        "not in the one form that commands write",
    ),
    "a table in another form": (
        "reference/licenses.json",
        lambda text: json.dumps(json.loads(text)),
        "not in the one form that commands write",
    ),
    "no JSON": (FILE, lambda text: text[:-20], "not a JSON object"),
    "an alias of nothing": (
        "aliases.json",
        lambda text: text.replace(f'"tiny", "repo_id": "{REPO}"', '"tiny", "repo_id": "a/b"'),
        "a/b is not catalogued",
    ),
    "a default of nothing": (
        "aliases.json",
        lambda text: text.replace(f'"default": "{REPO}"', '"default": "a/b"'),
        "the default a/b is not catalogued",
    ),
    "an alias that reads as a label": (
        "aliases.json",
        lambda text: text.replace('"tiny"', '"q4_k_m"'),
        "'q4_k_m' cannot be typed as an alias",
    ),
    "an alias twice": (
        "aliases.json",
        lambda text: dump_table(
            {**json.loads(text), "aliases": json.loads(text)["aliases"] * 2}, "aliases"
        ),
        "the alias tiny appears twice",
    ),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_fault_of_a_whole_file_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, edit, what = OTHER_FILES[name]
    folder = new_catalog(tmp_path / "c", {REPO: sound()})
    text = (folder / file).read_text("utf-8")
    (folder / file).write_text(edit(text), "utf-8")
    found = faults_of(folder, monkeypatch)
    assert [where.partition(",")[0] for where, said in found if said == what] == [file], found


def test_entry_in_a_place_that_no_repo_has_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_catalog(tmp_path / "c", {REPO: sound()})
    text = (folder / FILE).read_text("utf-8")
    (folder / "models" / "stray.json").write_text(text, "utf-8")
    found = faults_of(folder, monkeypatch)
    assert found == [("models/stray.json", "its path is not models/OWNER/REPO.json")]


def test_stale_index_is_named_and_made_anew(quantpick: Command, tmp_path: Path) -> None:
    folder = new_catalog(tmp_path / "c", {REPO: sound()})
    env: dict[str, Any] = {"QUANTPICK_CATALOG": str(folder)}
    assert quantpick("catalog", "check", "--write-index", **env).status == 0
    document = get(folder)
    document["title"] = "Another"
    put(folder, REPO, document)
    done = quantpick("catalog", "check", **env)
    assert (done.status, done.stdout) == (7, "index.json: stale: not what the entries give\n")
    assert "--write-index" in done.stderr
    (folder / "index.json").write_bytes(b"{\xff")
    assert quantpick("catalog", "check", **env).stdout == done.stdout
    assert quantpick("catalog", "check", "--write-index", **env).stdout.endswith("no fault\n")
    assert quantpick("catalog", "check", **env).status == 0


def test_stats_count_what_is_known(quantpick: Command, tmp_path: Path) -> None:
    rounded = entry(row("IQ2_M", 10**6, rounded_to=10**4), row("F16", 10**7))
    folder = new_catalog(tmp_path / "c", {REPO: sound(), "other/Two-GGUF": rounded})
    env: dict[str, Any] = {"QUANTPICK_CATALOG": str(folder)}
    done = quantpick("catalog", "check", "--stats", **env)
    assert done.stdout.splitlines() == [
        "2 repos with 6 quants",
        "exact sizes: 5 of 6 (83 %)",
        "known sha256: 4 of 6 (67 %)",
        "known weights: 4 of 6 (67 %)",
        "known shapes: 1 of 2 (50 %)",
        "repos by quantizer: someone 2",
        "repos by architecture: llama 1, unknown 1",
        "quants by family: K 3, I 1, float 1, legacy 1",
        "2 repos with 6 quants: no fault",
    ]
    stats = quantpick("catalog", "check", "--stats", "--json", **env).json["stats"]
    assert stats["known"]["exact_sizes"] == {"count": 5, "of": 6}
    assert stats["repos_by_quantizer"] == {MAKER: 2}


def test_fault_of_a_row_names_its_place() -> None:
    document = sound()
    document["files"][1]["seen"] = "today"
    found = list(check_entry("x", document, catalog.load_reference()))
    said = "seen is not a day such as 2025-08-27, a month or a year"
    assert found == [Fault("x, files row 2", said, 1)]
