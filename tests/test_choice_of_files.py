"""Which files of a repo a SPEC means, and which are refused: resolved over a real listing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.downloads import GOOD, REPO, refused_in_text, tree
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

Answer = list[str] | str

TINY = tiny_gguf()

#: Plans many downloads in one process: the paths, or the error's exit status and words.
ASK = """
import json, sys, quantpick
from quantpick.errors import QuantpickError

def ask(spec, mmproj):
    try:
        return [file.path for file in quantpick.plan(spec, with_mmproj=mmproj).files]
    except QuantpickError as error:
        return " | ".join([str(error.exit_status), error.message, *error.hints])

print(json.dumps([ask(*question) for question in json.loads(sys.argv[1])]))
"""


def ask(online: Command, questions: Iterable[tuple[str, str | None]]) -> list[Answer]:
    """Return what `download` would fetch for labels or paths of the repo, each with a projector."""
    asked = [(f"{REPO}:{what}", mmproj) for what, mmproj in questions]
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(asked)],
        cwd=online.cwd,
        env=online.environment(),
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    answers = json.loads(done.stdout)
    assert isinstance(answers, list)
    return answers


def plans(online: Command, *specs: str) -> dict[str, Answer]:
    return dict(zip(specs, ask(online, [(spec, None) for spec in specs]), strict=True))


def publish(hub: LoopbackHub, *paths: str) -> None:
    hub.add_repo(REPO, dict.fromkeys([*paths, "README.md", ".gitattributes"], TINY))


def misses(answers: dict[str, Answer], wanted: Mapping[str, Sequence[str]]) -> dict[str, Answer]:
    """Return the refusals that lack a word which they should have, and what is none."""
    assert list(answers) == list(wanted)
    return {
        spec: answer
        for spec, answer in answers.items()
        if isinstance(answer, list) or not all(word in answer for word in wanted[spec])
    }


# Labels


def test_label_is_the_whole_word_and_never_a_part_of_another(
    online: Command, hub: LoopbackHub
) -> None:
    publish(hub, "g-Q6_K_L.gguf", "g-Q4_K_M.gguf", "g-Q4_K_S.gguf", "g-UD-Q5_K_XL.gguf")
    assert plans(online, "q6_k_l", "Q4_K_m", "Q5_K_XL", "ud-q5_k_xl") == {
        "q6_k_l": ["g-Q6_K_L.gguf"],
        "Q4_K_m": ["g-Q4_K_M.gguf"],
        "Q5_K_XL": ["g-UD-Q5_K_XL.gguf"],
        "ud-q5_k_xl": ["g-UD-Q5_K_XL.gguf"],
    }
    wanted = {
        "Q6_K": ["3 | ", "has no quant Q6_K", "did you mean Q6_K_L"],
        "Q4_K": ["3 | ", "has no quant Q4_K ", "Q4_K_M", "Q4_K_S"],
        "q4_k_l": ["3 | ", "has no quant Q4_K_L", "did you mean", "Q4_K_M"],
        "q4km": ["3 | ", "has no quant q4km", "did you mean", "Q4_K_M"],
        "Q4-K-M": ["3 | ", "did you mean", "Q4_K_M"],
        "IQ1_S": ["3 | ", f"run: quantpick list {REPO}"],
    }
    assert misses(plans(online, *wanted), wanted) == {}


def test_dry_run_tells_what_would_be_fetched(online: Command, hub: LoopbackHub) -> None:
    publish(hub, "g-Q6_K.gguf", "g-Q6_K_L.gguf")
    document = online("download", f"{REPO}:q6_k", "--dry-run", "--json").json
    assert (document["label"], document["dry_run"]) == ("Q6_K", True)
    assert [file["path"] for file in document["files"]] == ["g-Q6_K.gguf"]
    assert (tree(online.cwd), hub.requests("cdn")) == (set(), [])


def test_files_without_a_label_are_mentioned_and_can_be_named(
    online: Command, hub: LoopbackHub
) -> None:
    publish(hub, "g-Q4_K_M.gguf", "own mix.gguf", "other.gguf")
    wanted = {"Q8_0": ["2 more files have no label", "own mix.gguf", f"{REPO}:PATH"]}
    assert misses(plans(online, *wanted), wanted) == {}
    assert plans(online, "own mix.gguf") == {"own mix.gguf": ["own mix.gguf"]}


COMPANIONS = [
    "mmproj-g-Q2_K.gguf",
    "g-mmproj-Q3_K_S.gguf",
    "g-DRAFT-0.6B-Q4_0.gguf",
    "mtp-g-Q4_1.gguf",
    "mtp/g-Q5_0.gguf",
    "g-lora-F16.gguf",
    "g-Q5_1-imatrix.gguf",
    "imatrix.dat",
    "ggml-vocab-g-Q6_K.gguf",
]


def test_companion_is_never_taken_for_the_model(online: Command, hub: LoopbackHub) -> None:
    publish(hub, "g-Q8_0.gguf", *COMPANIONS)
    labels = ("Q2_K", "Q3_K_S", "Q4_0", "Q4_1", "Q5_0", "F16", "Q5_1", "Q6_K")
    wanted = {label: ["3 | ", f"has no quant {label}", "Q8_0"] for label in labels}
    assert misses(plans(online, *wanted), wanted) == {}
    assert plans(online, "Q8_0", *COMPANIONS[:3]) == {
        "Q8_0": ["g-Q8_0.gguf"],
        **{path: [path] for path in COMPANIONS[:3]},
    }


def test_what_llama_cpp_cannot_load_is_named_as_such_and_fetched_by_its_path(
    online: Command, hub: LoopbackHub
) -> None:
    tensors = [f"g-SPECIAL_TENSOR-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    publish(hub, "g-IQ4_KS.gguf", "g-Q4_0_4_4.gguf", "g-Q4_K_H.gguf", "g-Q4_K_M.gguf", *tensors)
    wanted = {
        "IQ4_KS": ["3 | IQ4_KS", "is not offered", "fork ik_llama.cpp", "choose another quant"],
        "q4_0_4_4": ["3 | Q4_0_4_4", "is not offered", "llama.cpp dropped this type in b4282"],
        "Q4_K_H": ["3 | Q4_K_H", "is not offered", "author's own", f"{REPO}:g-Q4_K_H.gguf"],
        "Q8_0": ["3 | Q8_0", "is not offered", "one tensor each", f"{REPO}:{tensors[0]}"],
    }
    assert misses(plans(online, *wanted), wanted) == {}
    assert plans(online, "g-IQ4_KS.gguf", "g-Q4_0_4_4.gguf", "g-Q4_K_H.gguf", tensors[1]) == {
        "g-IQ4_KS.gguf": ["g-IQ4_KS.gguf"],
        "g-Q4_0_4_4.gguf": ["g-Q4_0_4_4.gguf"],
        "g-Q4_K_H.gguf": ["g-Q4_K_H.gguf"],
        tensors[1]: tensors,
    }
    refused_in_text(
        online, f"{REPO}:IQ4_KS", status=3, said="is not offered: only the fork", hint="name its"
    )


# Paths


def shards(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def test_two_sets_of_one_label_are_told_apart_by_a_path(online: Command, hub: LoopbackHub) -> None:
    two, three = shards("a/g-Q4_K_M", 2), shards("b/g-Q4_K_M", 3)
    publish(hub, *two, *three, "g-Q4_K_M.gguf")
    wanted = {
        "Q4_K_M": ["3 | ", "matches 3 quants", two[0], three[0], f"download {REPO}:PATH"],
        "a/g-Q4_K_M.gguf": ["3 | ", "has no file", "did you mean", "g-Q4_K_M.gguf"],
        "c/g-Q4_K_M-00001-of-00002.gguf": ["3 | ", "has no file", two[0]],
    }
    assert misses(plans(online, *wanted), wanted) == {}
    assert plans(online, *two, *three, "g-Q4_K_M.gguf") == {
        **dict.fromkeys(two, two),
        **dict.fromkeys(three, three),
        "g-Q4_K_M.gguf": ["g-Q4_K_M.gguf"],
    }


def test_set_with_a_hole_is_refused_by_label_and_by_path(online: Command, hub: LoopbackHub) -> None:
    two, raw = shards("g-Q4_K_M", 3), [f"g-Q2_K.gguf.part{n}of3" for n in (1, 2, 3)]
    publish(hub, two[0], two[2], *raw[1:], "g-Q5_0.gguf-split-b")
    wanted = {
        "Q4_K_M": ["7 | ", "2 of 3 shards"],
        two[2]: ["7 | ", "2 of 3 shards"],
        "Q2_K": ["7 | ", "2 of 3 raw parts"],
        raw[2]: ["7 | ", "2 of 3 raw parts"],
        "Q5_0": ["7 | ", "only 1 raw parts"],
    }
    assert misses(plans(online, *wanted), wanted) == {}


# Raw parts

RAW = {
    "part1of2": ("g-Q2_K.gguf.part1of2", "g-Q2_K.gguf.part2of2"),
    "split-a": ("g-Q2_K.gguf-split-a", "g-Q2_K.gguf-split-b"),
    "chunk": ("g-Q2_K-chunk-001-of-002.gguf", "g-Q2_K-chunk-002-of-002.gguf"),
}


@pytest.mark.parametrize("pieces", RAW.values(), ids=RAW)
def test_raw_parts_are_joined_to_the_file_they_were_cut_from(
    online: Command, hub: LoopbackHub, pieces: tuple[str, str]
) -> None:
    hub.add_repo(REPO, {f"deep/{pieces[1]}": GOOD[9999:], f"deep/{pieces[0]}": GOOD[:9999]})
    result = online("download", f"{REPO}:Q2_K", "--json")
    assert result.status == 0, result.stderr
    (file,) = result.json["files"]
    assert [part["path"] for part in file["parts"]] == [f"deep/{piece}" for piece in pieces]
    assert (file["bytes"], file["verified"]) == (len(GOOD), True)
    models = [path for path in online.cwd.rglob("*Q2_K*") if path.suffix != ".json"]
    assert [path.relative_to(online.cwd).as_posix() for path in models] == ["deep/g-Q2_K.gguf"]
    assert models[0].read_bytes() == GOOD
    assert result.json["commands"]["run"] == "llama-server -m deep/g-Q2_K.gguf"


def test_dry_run_of_raw_parts_names_the_file_that_they_become(
    online: Command, hub: LoopbackHub
) -> None:
    publish(hub, *RAW["part1of2"])
    document = online("download", f"{REPO}:Q2_K", "--dry-run", "--json").json
    assert [file["path"] for file in document["files"]] == ["g-Q2_K.gguf"]
    assert document["commands"]["run"] == "llama-server -m g-Q2_K.gguf"


def test_parts_that_make_up_no_model_are_refused(online: Command, hub: LoopbackHub) -> None:
    first, second = RAW["split-a"]
    hub.add_repo(REPO, {first: GOOD[:9999], second: GOOD[9999:-64]})
    result = online("download", f"{REPO}:Q2_K")
    assert result.status == 7, result.stdout
    assert "g-Q2_K.gguf" not in tree(online.cwd)


# Projectors


def projectors(online: Command, *questions: tuple[str, str]) -> list[Answer]:
    """Return what comes with a model: the projector alone, or a refusal."""
    answers = ask(online, questions)
    return [answer[1:] if isinstance(answer, list) else answer for answer in answers]


def test_projector_is_of_the_type_asked_for_or_the_usual_one(
    online: Command, hub: LoopbackHub
) -> None:
    types = ("BF16", "F32", "Q8_0", "F16")
    publish(hub, "g-Q4_K_M.gguf", "g-F16.gguf", *(f"mmproj-{name}.gguf" for name in types))
    asked = [("Q4_K_M", name) for name in ("auto", "f16", "fp16", "Q8_0", "bf16")]
    *found, unknown = projectors(online, *asked, ("Q4_K_M", "iq2_xs"))
    names = ["F16", "F16", "F16", "Q8_0", "BF16"]
    assert found == [[f"mmproj-{name}.gguf"] for name in names]
    said = ["3 | ", "has no projector iq2_xs", *types]
    assert [word for word in said if word not in unknown] == []


def test_model_without_a_projector_says_so(online: Command, hub: LoopbackHub) -> None:
    publish(hub, "g-Q4_K_M.gguf")
    (answer,) = projectors(online, ("Q4_K_M", "auto"))
    assert "has no projector" in answer
    assert "leave out --with-mmproj" in str(answer)


@pytest.mark.parametrize("name", ["mmproj-model.gguf", "mmproj-g-Q4_0.gguf", "MMPROJ-G-BF16.GGUF"])
def test_only_projector_there_is_is_the_usual_one(
    online: Command, hub: LoopbackHub, name: str
) -> None:
    publish(hub, "g-Q4_K_M.gguf", name)
    assert projectors(online, ("Q4_K_M", "auto")) == [[name]]


def test_projector_is_the_nearest_to_the_model_in_folder_and_name(
    online: Command, hub: LoopbackHub
) -> None:
    publish(
        hub,
        *("small/g-Q4_K_M.gguf", "small/mmproj-F16.gguf"),
        *("large/g-Q8_0.gguf", "large/mmproj-F16.gguf"),
        *("one-4b-Q5_0.gguf", "mmproj-one-4b-F16.gguf"),
        *("one-27b-Q5_1.gguf", "one-27b-mmproj-F16.gguf"),
    )
    assert projectors(
        online, *((label, "auto") for label in ("Q4_K_M", "Q8_0", "Q5_0", "Q5_1"))
    ) == [
        ["small/mmproj-F16.gguf"],
        ["large/mmproj-F16.gguf"],
        ["mmproj-one-4b-F16.gguf"],
        ["one-27b-mmproj-F16.gguf"],
    ]


def test_projector_of_another_model_is_not_taken_for_its_type(
    online: Command, hub: LoopbackHub
) -> None:
    publish(
        hub,
        *("small/g-Q4_K_M.gguf", "small/mmproj-g-BF16.gguf"),
        *("large/h-Q8_0.gguf", "large/mmproj-h-F16.gguf"),
    )
    found = projectors(online, ("Q4_K_M", "auto"), ("Q8_0", "auto"))
    assert found == [["small/mmproj-g-BF16.gguf"], ["large/mmproj-h-F16.gguf"]]


def test_projectors_that_could_both_be_meant_are_listed(online: Command, hub: LoopbackHub) -> None:
    both = ["a/mmproj-F16.gguf", "b/mmproj-F16.gguf"]
    publish(hub, "g-Q4_K_M.gguf", *both)
    (answer,) = projectors(online, ("Q4_K_M", "f16"))
    assert [word for word in ["3 | 2 projectors", *both, "by its path"] if word not in answer] == []


@pytest.mark.parametrize(
    "words",
    [
        ["--with-mmproj", f"{REPO}:Q4_K_M"],
        [f"{REPO}:Q4_K_M", "--with-mmproj"],
        ["--with-mmproj", "--dry-run", f"{REPO}:Q4_K_M"],
        [f"{REPO}:Q4_K_M", "--with-mmproj=f16"],
        ["--with-mmproj", "F16", f"{REPO}:Q4_K_M"],
    ],
    ids=["before a SPEC", "at the end", "before an option", "equals", "with a type"],
)
def test_type_of_the_projector_can_be_left_out(
    online: Command, hub: LoopbackHub, words: list[str]
) -> None:
    publish(hub, "g-Q4_K_M.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf")
    result = online("download", *words, "--dry-run", "--json")
    assert result.status == 0, result.stdout
    names = ["g-Q4_K_M.gguf", "mmproj-F16.gguf"]
    assert [file["path"] for file in result.json["files"]] == names
    assert result.json["include"] == names


def test_projector_lies_beside_the_model_and_only_the_model_is_run(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"g-Q4_K_M.gguf": GOOD, "mmproj-F16.gguf": TINY})
    result = online("download", f"{REPO}:Q4_K_M", "--with-mmproj", "--quiet")
    assert (result.status, result.stdout) == (0, "g-Q4_K_M.gguf\n"), result.stderr
    assert (online.cwd / "mmproj-F16.gguf").read_bytes() == TINY


def test_list_says_what_is_not_offered_and_why(online: Command, hub: LoopbackHub) -> None:
    names = ["g-Q4_K_M.gguf", "g-IQ4_KS.gguf", "g-Q4_0_4_4.gguf", "g-Q4_K_H.gguf"]
    hub.add_repo(REPO, dict.fromkeys(names, TINY))
    rows = {
        row["label"]: row["not_offered"] for row in online("list", REPO, "--json").json["files"]
    }
    assert rows.pop("Q4_K_M") is None
    said = {"IQ4_KS": "ik_llama.cpp", "Q4_0_4_4": "dropped", "Q4_K_H": "author's own"}
    assert {label: said[label] in reason for label, reason in rows.items()} == dict.fromkeys(
        said, True
    )
    assert "Not offered: only the fork" in " ".join(online("list", REPO).stdout.split())


def test_locked_name_with_brackets_is_no_pattern(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {"g[1]-Q2_K.gguf": TINY, "mmproj-g[1]-F16.gguf": TINY})
    assert online("lock", f"{REPO}:Q2_K", "--with-mmproj").status == 0
    (quant,) = online("download", "--locked", "--json").json["quants"]
    assert quant["include"] == ["g[[]1]-Q2_K.gguf", "mmproj-g[[]1]-F16.gguf"]
