"""Which model at all: the shortlist is what judging every quant of every model would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantpick.domain.host import Backend, Cpu, Device, Host, MemoryKind, Ram
from quantpick.domain.need import Need, Objective
from quantpick.domain.recommend import recommend, rules
from quantpick.domain.shortlist import Shelf, shortlist
from quantpick.domain.wish import Wish
from quantpick.sources import catalog, index, rows

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.model import Model
    from quantpick.domain.verdict import Recommendation
    from tests.support.command import Command

GIB = 2**30
REFERENCE = catalog.load_reference()
WHOLE = {repo_id: catalog.load_model(repo_id) for repo_id in catalog.repo_ids()}
SHELF = Shelf(index.load_index(), WHOLE.__getitem__)

#: Every fourth model, so that judging all of their quants takes no longer than it has to.
SOME = {repo_id: WHOLE[repo_id] for repo_id in sorted(WHOLE)[::4]}
SOME_ONLY = Shelf(tuple(m for m in SHELF.models if m.repo_id in SOME), WHOLE.__getitem__)


# The index


def test_the_index_is_made_from_the_models() -> None:
    assert index.index_path().read_text("utf-8") == index.build_index()


def test_the_index_tells_what_the_models_own_files_tell() -> None:
    listed = {model.repo_id: model for model in index.load_index()}
    assert listed.keys() == WHOLE.keys()
    for repo_id, whole in WHOLE.items():
        brief = listed[repo_id]
        assert (brief.shape, brief.title, brief.license) == (
            whole.shape,
            whole.title,
            whole.license,
        )
        assert [(f.label, f.file_bytes, f.exact, f.split) for f in brief.files] == [
            (f.label, f.file_bytes, f.exact, f.split) for f in whole.files
        ]


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "models": 7}',
        '{"schema": 1}',
        '{"schema": 1, "models": [{"repo_id": "a/b"}]}',
        '{"schema": 1, "models": [{"repo_id": "a/b", "aliases": [], "files": [[]]}]}',
        '{"schema": 1, "models": [{"repo_id": "a/b", "aliases": [], "files": [], "shape": 1}]}',
    ],
)
def test_a_broken_index_is_an_error(text: str, quantpick: Command, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    run = quantpick("recommend", "--json", QUANTPICK_CATALOG=str(tmp_path))
    assert (run.status, run.json["error"]["code"]) == (7, "integrity")
    assert "index.json" in run.json["error"]["message"]


def test_a_catalog_without_an_index_is_read_model_by_model(
    quantpick: Command, tmp_path: Path
) -> None:
    folder = rows.catalog_dir()
    for name in ("models", "reference", "aliases.json"):
        (tmp_path / name).symlink_to(folder / name)
    asked = ["recommend", "--vram", "24GiB", "--backend", "cuda", "--ram", "64GiB", "--json"]
    with_index, without = quantpick(*asked), quantpick(*asked, QUANTPICK_CATALOG=str(tmp_path))
    assert with_index.json["verdicts"] == without.json["verdicts"]


# The order


def every_pick(host: Host, need: Need) -> tuple[list[Recommendation], Objective]:
    """Judge every quant of every model, and return the answers in the stated order."""
    for rule in rules(need.objective, host):
        answers = [recommend(model, host, need, REFERENCE, (rule,)) for model in SOME.values()]
        fitting = [answer for answer in answers if answer.pick]
        if fitting:
            break
    return sorted(fitting, key=stated_order), rule.objective


def stated_order(answer: Recommendation) -> tuple[int, int, int, str]:
    """Four bits and more, three, fewer; then the larger model; then the repo with more quants."""
    assert answer.model is not None
    assert answer.pick is not None
    info = REFERENCE.info(answer.pick.file.label)
    bits = info.bits if info else 0
    level = 0 if bits >= 4 else 1 if bits == 3 else 2
    model = answer.model
    return level, -model.parameters, -len(model.files), model.repo_id


hosts = st.builds(
    lambda ram, vrams, backend, kind: Host(
        Ram(ram * GIB, None, "test"),
        Cpu(None, None),
        tuple(Device("GPU", backend, kind, v * GIB, v * GIB, None, "test") for v in vrams),
    ),
    st.sampled_from([8, 16, 32, 64, 128, 512]),
    st.lists(st.sampled_from([4, 6, 8, 12, 16, 24, 48, 80]), max_size=2),
    st.sampled_from([Backend.CUDA, Backend.ROCM, Backend.VULKAN, Backend.SYCL]),
    st.just(MemoryKind.DEDICATED),
)


@given(hosts, st.sampled_from(Objective), st.sampled_from([2048, 8192, 65536]))
@settings(max_examples=12)
def test_the_shortlist_is_the_head_of_all_picks_in_order(
    host: Host, objective: Objective, ctx_size: int
) -> None:
    need = Need(objective=objective, ctx_size=ctx_size)
    expected, applied = every_pick(host, need)
    answer = shortlist(SOME_ONLY, host, need, REFERENCE, Wish(top=10**6, every_repo=True))
    picks = [(v.repo_id, v.file.label) for v in answer.verdicts if v.fits]
    assert picks == [(a.pick.repo_id, a.pick.file.label) for a in expected if a.pick]
    assert answer.rule.objective is applied or not expected
    assert (answer.pick is None) == (not expected)
    assert answer.pick is not None or answer.nearest is not None


def test_repos_of_one_model_show_once_and_the_first_to_fit_stands_for_all() -> None:
    host = Host(Ram(1024 * GIB, None, "test"), Cpu(None, None, ()))
    answer = shortlist(SHELF, host, Need(), REFERENCE, Wish(top=10**6))
    names = [name_of(WHOLE[verdict.repo_id]) for verdict in answer.verdicts]
    assert len(names) == len(set(names))
    assert set(names) == {name_of(model) for model in WHOLE.values()}


def name_of(model: Model) -> str:
    """Return what repos of one model have in common."""
    name = (model.base_model or model.title or model.repo_id).lower()
    return name.replace("/meta-llama-3.1", "/llama-3.1")


def test_a_model_whose_base_was_renamed_shows_once(quantpick: Command) -> None:
    machine = ("--vram", "8GiB", "--ram", "16GiB", "--backend", "cuda")
    answer = quantpick("recommend", *machine, "--top", "99", "--json").json
    titles = [WHOLE[verdict["repo_id"]].title for verdict in answer["verdicts"]]
    assert titles.count("Llama 3.1 8B Instruct") == 1


def test_top_shows_so_many() -> None:
    host = Host(Ram(256 * GIB, None, "test"), Cpu(None, None, ()))
    all_of_them = shortlist(SHELF, host, Need(), REFERENCE, Wish(top=10**6)).verdicts
    for top in (1, 3, 10):
        answer = shortlist(SHELF, host, Need(), REFERENCE, Wish(top=top))
        assert answer.verdicts == all_of_them[:top]


def test_nothing_fits_names_the_nearest(quantpick: Command) -> None:
    run = quantpick("recommend", "--backend", "cpu", "--ram", "0.2GiB", "--json")
    assert run.status == 4
    assert not run.json["nearest"]["fits"]
    assert run.json["nearest"]["repo_id"] in run.json["error"]["hints"][0]


def test_a_model_trained_for_less_than_the_context_is_marked(quantpick: Command) -> None:
    machine = ["--gpu", "2x3090", "--ram", "64GiB", "--top", "40"]
    asked = ["recommend", *machine, "--ctx-size", "65536"]
    verdicts = quantpick(*asked, "--json").json["verdicts"]
    marked = 0
    for verdict in verdicts:
        shape = WHOLE[verdict["repo_id"]].shape
        less = shape is not None and shape.context_length < 65536
        assert less == ("beyond_training" in {reason["code"] for reason in verdict["reasons"]})
        marked += less
    assert 0 < marked < len(verdicts)
    assert quantpick(*asked).stdout.count(", trained for ") == marked


@pytest.mark.parametrize(
    ("gpu", "shown"),
    [
        ("m4-pro-48", "Apple M4 Pro 36.0 GiB of 48.0 GiB RAM (Metal)"),
        ("4090", "GeForce RTX 4090 24.0 GiB + 64.0 GiB RAM (CUDA)"),
    ],
)
def test_memory_that_a_gpu_shares_is_not_added_to_the_ram(
    quantpick: Command, gpu: str, shown: str
) -> None:
    ram = [] if gpu.startswith("m4") else ["--ram", "64GiB"]
    run = quantpick("recommend", "llama-3.2-1b", "--gpu", gpu, *ram)
    assert run.stdout.splitlines()[0].endswith(f" on {shown}")


# Filters


def picked(quantpick: Command, *words: str) -> list[dict[str, Any]]:
    """Return the verdicts of a recommendation over the catalog."""
    asked = ["recommend", "--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda", "--json"]
    run = quantpick(*asked, *words)
    assert run.status == 0, run.stderr
    verdicts = run.json["verdicts"]
    assert isinstance(verdicts, list)
    return verdicts


def test_size_licence_and_architecture_choose_between_models(quantpick: Command) -> None:
    small = picked(quantpick, "--max-size", "5GB", "--top", "50")
    assert small
    assert all(verdict["file_bytes"] <= 5 * 10**9 for verdict in small)
    free = picked(quantpick, "--license", "apache-2.0", "--top", "50")
    assert free
    assert {WHOLE[v["repo_id"]].license for v in free} == {"apache-2.0"}
    of_kind = picked(quantpick, "--arch", "qwen3", "--top", "50")
    assert of_kind
    shapes = {WHOLE[verdict["repo_id"]].shape for verdict in of_kind}
    assert {shape.architecture for shape in shapes if shape} == {"qwen3"}


@pytest.mark.parametrize("command", ["recommend", "list"])
def test_a_filter_is_read_in_any_case_and_a_wrong_one_is_named(
    quantpick: Command, command: str
) -> None:
    machine = ["--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda"]
    for flag, word, near in (
        ("--license", "MIT", "mit"),
        ("--license", "apache", "apache-2.0"),
        ("--arch", "Qwen3", "qwen3"),
        ("--arch", "qwen", "qwen3"),
    ):
        run = quantpick(command, flag, word, *machine)
        if word.lower() == near:
            assert run.stdout == quantpick(command, flag, near, *machine).stdout
        else:
            assert (run.status, run.stdout) == (3, "")
            assert repr(word) in run.stderr
            assert f"did you mean {near}" in run.stderr or f", {near}" in run.stderr


def test_filters_that_leave_no_model_are_said_to(quantpick: Command) -> None:
    for words in (["--license", "mit", "--arch", "qwen2vl"], ["--max-size", "1MB"]):
        run = quantpick("recommend", *words, "--ram", "64GiB", "--backend", "cpu")
        assert (run.status, run.stdout) == (3, "")
        assert "--max-size" in run.stderr
        assert not listed(quantpick, *words)
        assert not listed(quantpick, *words, "--fits")


def test_a_choice_between_models_goes_with_no_spec(quantpick: Command) -> None:
    for words in (["--top", "3"], ["--max-size", "5GB"], ["--arch", "llama"]):
        run = quantpick("recommend", "llama-3.1-8b", *words)
        assert run.status == 2
        assert "SPEC" in run.stderr


# The list


def listed(quantpick: Command, *words: str) -> list[str]:
    """Return the repos that `quantpick list` shows."""
    run = quantpick("list", "--json", *words)
    assert run.status == 0, run.stderr
    return [model["repo_id"] for model in run.json["models"]]


def test_words_are_looked_for_in_all_names(quantpick: Command) -> None:
    assert set(listed(quantpick)) == set(WHOLE)
    found = listed(quantpick, "LLAMA", "70b")
    assert "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF" in found
    assert all("llama" in repo_id.lower() for repo_id in found)
    # An alias alone is the model, and its quants are shown.
    document = quantpick("list", "llama-3.1-70b", "--json").json
    assert {"model", "files"} <= document.keys()
    run = quantpick("list", "no", "such", "model")
    assert run.status == 3
    assert "no such model" in run.stderr
    assert len(run.stderr) < 1000


def test_a_model_of_unknown_size_is_not_listed_with_none(quantpick: Command) -> None:
    (row,) = (line for line in quantpick("list").stdout.splitlines() if "DeepSeek-V3-0324" in line)
    assert " unknown " in row
    assert " 0.0 B" not in row


def test_the_list_is_filtered_by_what_fits(quantpick: Command) -> None:
    flags = ["--vram", "8GiB", "--ram", "8GiB", "--backend", "cuda"]
    fitting = listed(quantpick, "--fits", *flags)
    assert 0 < len(fitting) < len(WHOLE)
    for repo_id in (fitting[0], fitting[-1]):
        run = quantpick("recommend", repo_id, *flags, "--json")
        assert run.json["pick"] is not None
    tiny = listed(quantpick, "--max-size", "1GB")
    assert 0 < len(tiny) < len(WHOLE)
    run = quantpick("list", "llama-3.1-70b", "--fits")
    assert (run.status, "SPEC" in run.stderr) == (2, True)


def test_the_catalogs_own_readme_quotes_its_counts(quantpick: Command) -> None:
    run = quantpick("catalog", "check", "--stats")
    assert run.status == 0, run.stdout
    counts = [line for line in run.stdout.splitlines() if not line.endswith("no fault")]
    quoted = (rows.catalog_dir() / "README.md").read_text("utf-8").splitlines()
    assert set(counts) <= set(quoted)
