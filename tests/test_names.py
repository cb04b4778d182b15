"""Reading names: quant labels and shards in file names, SPECs, sizes, and which paths are safe."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantpick
from quantpick.domain.listing import Listing, RemoteFile, find_quant, quant_sets
from quantpick.domain.names import unsafe_path
from quantpick.domain.plan import include_patterns, plan_download
from quantpick.domain.quant import Family, canonical_label, family_of
from quantpick.domain.spec import Spec, parse_spec
from quantpick.domain.units import format_gb, format_gib, parse_build, parse_size
from quantpick.errors import NotFoundError, QuantpickError, UsageError

#: Paths as quantizers name them: label, kind, shard index and count.
NAMES = {
    "NousCoder-14B.q3_k_l.gguf": ("Q3_K_L", "model", None, None),
    "Qwen_Qwen3-4B_Q2_K_L.gguf": ("Q2_K_L", "model", None, None),
    "gemma-4-E2B_q4_0-it.gguf": ("Q4_0", "model", None, None),
    "Q8_0.gguf": ("Q8_0", "model", None, None),
    "gguf/x-UD-Q4_K_XL.gguf": ("UD-Q4_K_XL", "model", None, None),
    "X.i1-IQ3_XS.gguf": ("i1-IQ3_XS", "model", None, None),
    "x.F16.Q4_K_M.gguf": ("Q4_K_M", "model", None, None),
    "Mixtral-8x22B-v0.1.fp16-00001-of-00007.gguf": ("F16", "model", 1, 7),
    "grok-1-IQ3_S-split-00006-of-00009.gguf": ("IQ3_S", "model", 6, 9),
    "x-bf16.split-00003-of-00004.gguf": ("BF16", "model", 3, 4),
    "X.Q4_K_M_split/X.Q4_K_M-00001-of-00003.gguf": ("Q4_K_M", "model", 1, 3),
    "x-f32.gguf/x-f32-00002-of-00003.gguf": ("F32", "model", 2, 3),
    "Q5_K_S/00001.gguf": ("Q5_K_S", "model", None, None),
    "Llama-3-70Bx2-MOE.IQ3_S.gguf.part1of2": ("IQ3_S", "model", 1, 2),
    "DiffuCoder-7B-Instruct-bf16_q4_k.gguf": ("BF16_Q4_K", "model", None, None),
    "BlackSheep.i1-Q4_0_4_8.gguf": ("i1-Q4_0_4_8", "model", None, None),
    "DeepSeek-V3-00007-of-00030.gguf": (None, "model", 7, 30),
    "x-ad-Q2_MA.gguf": (None, "model", None, None),
    "x-jp-imatrix.IQ3_XS.gguf": ("IQ3_XS", "model", None, None),
    "FinGPT-MT-Llama-3-8B-LoRA-Q2_K.gguf": ("Q2_K", "model", None, None),
    "mmproj-F16.gguf": ("F16", "mmproj", None, None),
    "llava-v1.5-7b-mmproj-Q4_0.gguf": ("Q4_0", "mmproj", None, None),
    "x-Q8_0-imatrix.gguf": (None, "imatrix", None, None),
    "imatrix.dat": (None, "imatrix", None, None),
    "x.imatrix": (None, "imatrix", None, None),
    "mtp-Qwen3.8-27B-Q4_0.gguf": ("Q4_0", "mtp", None, None),
    "DeepSeek-R1-DRAFT-0.6B-128k-Q4_0.gguf": ("Q4_0", "draft", None, None),
    "my-style-lora.gguf": (None, "lora", None, None),
    "README.md": (None, "other", None, None),
}


@pytest.mark.parametrize("path", NAMES)
def test_file_name_is_read(path: str) -> None:
    name = quantpick.parse_filename(path)
    assert (name.label, name.kind, name.shard_index, name.shard_count) == NAMES[path]


@given(st.text())
def test_any_file_name_is_read_without_error(path: str) -> None:
    name = quantpick.parse_filename(path)
    assert name.label is None or canonical_label(name.label) == name.label


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("Q4_K_M", Family.K),
        ("UD-IQ2_M", Family.I),
        ("IQ4_NL", Family.I),
        ("Q8_0", Family.LEGACY),
        ("Q4_0_8_8", Family.LEGACY),
        ("BF16", Family.FLOAT),
        ("BF16_Q4_K", Family.K),
        ("TQ1_0", Family.TERNARY),
        ("MXFP4_MOE", Family.FP4),
        ("IQ4_KSS", Family.FORK),
        ("Q8_0_R8", Family.FORK),
        ("Q4_K_H", Family.UNKNOWN),
        ("IQ3_XSR", Family.UNKNOWN),
        ("APEX", Family.UNKNOWN),
    ],
)
def test_family_of_a_label(label: str, family: Family) -> None:
    assert family_of(label) is family


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("Q4_K_M", Spec(label="Q4_K_M")),
        ("q4_k_x", Spec(label="q4_k_x")),
        ("llama-3.1-70b", Spec("llama-3.1-70b")),
        ("qwen3-14b", Spec("qwen3-14b")),
        ("qwen3-14b:Q8_0", Spec("qwen3-14b", None, "Q8_0")),
        ("owner/repo", Spec("owner/repo")),
        ("owner/repo@v1:auto", Spec("owner/repo", "v1", "auto")),
        ("owner/repo@refs/pr/1", Spec("owner/repo", "refs/pr/1")),
        ("./models", Spec(path="./models")),
        ("../models:Q4_K_M", Spec(path="../models", label="Q4_K_M")),
        ("~/a:b.gguf", Spec(path="~/a:b.gguf")),
        ("model.gguf", Spec(path="model.gguf")),
        ("C:\\models", Spec(path="C:\\models")),
    ],
)
def test_spec_is_read(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    "text", ["", ":", "a/b/c", "a/..", "owner/repo:", "a b", "o/r@../x", "o/r:\x1b[31m"]
)
def test_unreadable_spec_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert caught.value.hints


@given(st.text(max_size=40))
def test_any_spec_is_read_or_refused(text: str) -> None:
    try:
        spec = parse_spec(text)
    except UsageError:
        return
    for part in (spec.repo, spec.revision, spec.label):
        assert part is None or part.isprintable()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24", 24 * 2**30),
        ("24GiB", 24 * 2**30),
        ("24 gib", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("24576MiB", 24 * 2**30),
    ],
)
def test_size_means_what_it_says(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "24G", "GB", "-1GB", "0", "1e3GB", "24 giga", "٢٤GB"])
def test_unclear_size_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert "24GiB" in caught.value.hints[0]


def test_gb_and_gib_are_not_mixed_up() -> None:
    assert format_gb(42_520_000_000) == "42.52 GB"
    assert format_gib(24 * 2**30) == "24.0 GiB"
    assert parse_build("b3472") == parse_build("3472") == 3472


HOSTILE = [
    "../../x.gguf",
    "a/../../x.gguf",
    "/abs/x.gguf",
    "C:/x.gguf",
    "a\\b.gguf",
    "a//b.gguf",
    "./x.gguf",
    "x\x1b[2J.gguf",
    "x\n.gguf",
    "x\u202e.gguf",
    "",
    "a/b ",
    "a/b.",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_path_is_unsafe(path: str) -> None:
    assert unsafe_path(path)


@pytest.mark.parametrize("path", ["x.gguf", "UD-Q4_K_XL/x y.gguf", "Ünï/模型-Q8_0.gguf"])
def test_ordinary_path_is_safe(path: str) -> None:
    assert not unsafe_path(path)


def listing(*paths: str) -> Listing:
    files = tuple(RemoteFile(path, index + 1, "0" * 64) for index, path in enumerate(paths))
    return Listing("owner/repo", "0" * 40, files)


def test_label_matches_whole_labels_only() -> None:
    repo = listing("x-Q6_K_L.gguf", "x-Q6_K.gguf", "mmproj-Q6_K.gguf", "x-Q6_K-imatrix.gguf")
    assert [file.path for file in find_quant(repo, "q6_k").files] == ["x-Q6_K.gguf"]


def test_prefix_of_the_mixer_may_be_left_out() -> None:
    repo = listing("x-UD-Q4_K_XL.gguf", "x-Q4_K_M.gguf")
    assert find_quant(repo, "Q4_K_XL").label == "UD-Q4_K_XL"


def test_a_mixed_label_in_two_places_is_an_error_and_not_the_first_of_them() -> None:
    repo = listing("a/x-UD-Q4_K_XL.gguf", "b/x-UD-Q4_K_XL.gguf")
    with pytest.raises(NotFoundError) as caught:
        find_quant(repo, "Q4_K_XL")
    assert "a/x-UD-Q4_K_XL.gguf, b/x-UD-Q4_K_XL.gguf" in caught.value.message


def test_shards_are_put_in_order() -> None:
    names = [f"x-Q8_0-0000{n}-of-00003.gguf" for n in (2, 3, 1)]
    assert [file.path for file in find_quant(listing(*names), "Q8_0").files] == sorted(names)


@given(st.lists(st.text("ab/*?[]Q8_0-.gf", min_size=1), unique=True))
def test_include_patterns_match_the_quant_and_nothing_else(paths: list[str]) -> None:
    repo = listing(*(f"{path}-Q8_0.gguf" for path in paths))
    for quants in quant_sets(repo).values():
        for quant in quants:
            listed = [file.path for file in repo.files]
            patterns = include_patterns(quant, listed)
            matched = {p for p in listed for pattern in patterns if fnmatchcase(p, pattern)}
            assert matched == {file.path for file in quant.files}


def test_folder_of_shards_needs_one_pattern() -> None:
    repo = listing(*(f"X-Q8_0/X-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)), "X-Q4_0.gguf")
    assert plan_download(repo, find_quant(repo, "Q8_0")).include == ("X-Q8_0/*",)


def test_every_refusal_says_what_to_do_next() -> None:
    for paths in (
        ["README.md"],
        ["x-Q8_0-00001-of-00002.gguf"],
        ["../x-Q8_0.gguf"],
        ["x-Q4_0.gguf"],
    ):
        with pytest.raises(QuantpickError) as caught:
            find_quant(listing(*paths), "Q8_0")
        assert caught.value.hints
