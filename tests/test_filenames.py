"""Names that the parser was not written from: each row of a survey, traps, and all that may come.

The rows of ``data/filenames.csv`` were collected from catalogues and stored pages of the Hub; the
column ``source`` tells from which.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import quantpick
from quantpick.domain.quant import Family, canonical_label, family_of

with (Path(__file__).parent / "data" / "filenames.csv").open(encoding="utf-8", newline="") as _file:
    ROWS = {f"{row['repo']}/{row['path']}": row for row in csv.DictReader(_file)}


class Expected(NamedTuple):
    """What a name says; by default a whole model without a label."""

    label: str | None = None
    kind: str = "model"
    number: int | None = None
    total: int | None = None
    raw: bool = False


def read(path: str) -> Expected:
    return Expected(*quantpick.parse_filename(path))


def whole(text: str) -> int | None:
    return int(text) if text else None


def test_the_survey_is_whole() -> None:
    assert len(ROWS) == 276
    assert all(row["source"] for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_surveyed_name_is_read(name: str) -> None:
    row = ROWS[name]
    found = read(row["path"])
    index, count = whole(row["shard_index"]), whole(row["shard_count"])
    raw = row["path"].rpartition(".")[2].startswith("part")
    assert found == Expected(row["label"] or None, row["kind"], index, count, raw)


MODELS = {
    "X-Q4_K_M.GGUF": "Q4_K_M",
    "X.q4_k_m.Gguf": "Q4_K_M",
    # An importance matrix was used, which the name says in many ways.
    "X.Q4_0.imatrix.gguf": "Q4_0",
    "X-imat-Q6_K.gguf": "Q6_K",
    "X-IQ3_M-imat.gguf": "IQ3_M",
    "zeta-2.1-iq4_xs-imat.gguf": "IQ4_XS",
    "WizardLM-2-8x22B-imatrix-Q6_K.gguf": "Q6_K",
    "miqu-iMat-c512-Q2_K.gguf": "Q2_K",
    # Words of companions inside the name of a model.
    "GLM-4.5-Air-MTP-Q4_K_M.gguf": "Q4_K_M",
    "Qwen3.6-27B-IQ4_XS-mtp.gguf": "IQ4_XS",
    "model-neo-mtp-iq4_xs.gguf": "IQ4_XS",
    "X-noMTP-Q8_0.gguf": "Q8_0",
    "Eagle-7B-Instruct-Q4_K_M.gguf": "Q4_K_M",
    "DeepSeek-V4-Flash-Q2_K.gguf": "Q2_K",
    "OverDraftsman-7B-Q4_0.gguf": "Q4_0",
    "lorablatedstock-12b-q8_0.gguf": "Q8_0",
    "my-llama-lora-q8_0.gguf": "Q8_0",
    "my-llama-lora.f16.gguf": "F16",
    "X-LoRA-f16.gguf": "F16",
    "LoRA-x.Q8_0.gguf": "Q8_0",
    "WavTokenizer-Large-75-F16.gguf": "F16",
    # Labels.
    "X-q4km.gguf": None,
    "X-iq4xs.gguf": None,
    "X-Q4-K-M.gguf": None,
    "X-Q4_K-M.gguf": None,
    "X-FP8.gguf": None,
    "X-PTQ1_0.gguf": None,
    "X-Q3_K_L-Q8.gguf": None,
    "X-smol-IQ2_KL.gguf": "IQ2_KL",
    "X-mxfp4.gguf": "MXFP4",
    "X-MXFP4_MOE_BF16.gguf": "MXFP4_MOE_BF16",
    "X-Q1_0_g128.gguf": "Q1_0",
    "X-F16_Q8_0.gguf": "F16_Q8_0",
    "X-Q4_K_H-v2.gguf": "Q4_K_H",
    "X-Q5_K_XXL.gguf": "Q5_K_XXL",
    "X-Q8_K_R16.gguf": "Q8_K_R16",
    "X-fp32.gguf": "F32",
    "X-BF16-Q4_K_M.gguf": "Q4_K_M",
    "X.Q6_K-GGUF.gguf": "Q6_K",
    "模型Q8_0.gguf": "Q8_0",
    "Q5_K_M/X-Q4_K_M.gguf": "Q4_K_M",
    "Q4_K_M/X-Q4_K-M.gguf": "Q4_K_M",
    "Q8_0/X-APEX-Balanced.gguf": "Q8_0",
    "Q8_0/deeper/X.gguf": None,
    "X-20250817.gguf": None,
    "..gguf": None,
    ".gguf": None,
    "../Q8_0.gguf": "Q8_0",
}

OTHERS = {
    "imatrix.gguf": Expected(None, "imatrix"),
    "X-imatrix.gguf": Expected(None, "imatrix"),
    "X-IQ4_XS-imatrix.gguf": Expected(None, "imatrix"),
    "X-bf16.imatrix.gguf": Expected(None, "imatrix"),
    "X.F16.imatrix.gguf": Expected(None, "imatrix"),
    "X-imatrix-calibration.gguf": Expected(None, "imatrix"),
    "imatrix-X-Q8_0.gguf": Expected(None, "imatrix"),
    "imatrix_unsloth.gguf": Expected(None, "imatrix"),
    "imatrix_unsloth.dat": Expected(None, "imatrix"),
    "imatrix_unsloth.gguf_file": Expected(None, "imatrix"),
    "X.imatrix": Expected(None, "imatrix"),
    "X-imatrix.dat": Expected(None, "imatrix"),
    "X.imat.dat": Expected(None, "imatrix"),
    "climate.dat": Expected(None, "other"),
    "imatrix.log": Expected(None, "other"),
    "mmproj-model-f16.gguf": Expected("F16", "mmproj"),
    "X-mmproj-f16.gguf": Expected("F16", "mmproj"),
    "X.mmproj-Q8_0.gguf": Expected("Q8_0", "mmproj"),
    "X-mmprojector.gguf": Expected(None, "mmproj"),
    "vision-projector.gguf": Expected(None, "mmproj"),
    "mmproj/X-f16.gguf": Expected("F16", "mmproj"),
    "openai_clip-vit-large-patch14-336.gguf": Expected(None, "mmproj"),
    "X-draft.gguf": Expected(None, "draft"),
    "X.draft.Q8_0.gguf": Expected("Q8_0", "draft"),
    "draft/X-Q4_0.gguf": Expected("Q4_0", "draft"),
    "X-DFlash-q8_0.gguf": Expected("Q8_0", "draft"),
    "dspark-X-Q4_K_M.gguf": Expected("Q4_K_M", "draft"),
    "eagle3-X-Q4_K_M.gguf": Expected("Q4_K_M", "draft"),
    "X_eagle3.Q8_0.gguf": Expected("Q8_0", "draft"),
    "X-EAGLE-3-Q8_0.gguf": Expected("Q8_0", "draft"),
    "mtp-X.gguf": Expected(None, "mtp"),
    "MTP/gemma-4-26B-A4B-it-Q8_0-MTP.gguf": Expected("Q8_0", "mtp"),
    "X-MTP-head-Q8_0.gguf": Expected("Q8_0", "mtp"),
    "X-lora.gguf": Expected(None, "lora"),
    "X-F16-LoRA.gguf": Expected("F16", "lora"),
    "X-lora-f16.gguf": Expected("F16", "lora"),
    "X_lora_bf16.gguf": Expected("BF16", "lora"),
    "lora-X.gguf": Expected(None, "lora"),
    "X-adapter-F16.gguf": Expected("F16", "lora"),
    "adapter_model.gguf": Expected(None, "lora"),
    "ggml-adapter-model.gguf": Expected(None, "lora"),
    "lora/X-q8_0.gguf": Expected("Q8_0", "lora"),
    "ggml-vocab-llama-bpe.gguf": Expected(None, "other"),
    "X-v1.0-vocab.gguf": Expected(None, "other"),
    "tokenizer.gguf": Expected(None, "other"),
    "X-Q8_0.gguf.json": Expected(None, "other"),
    "X-Q8_0.gguf.sha256": Expected(None, "other"),
    "X-Q8_0.gguf.part": Expected(None, "other"),
    "X-Q8_0.gguf.partial": Expected(None, "other"),
    "X-Q8_0.gguf.gz": Expected(None, "other"),
    "X-Q8_0.gguf ": Expected(None, "other"),
    "._X-Q8_0.gguf": Expected(None, "other"),
    "": Expected(None, "other"),
}

PIECES = {
    "X-Q8_0-00002-of-00003.gguf": Expected("Q8_0", "model", 2, 3),
    "X-Q8_0-00002-OF-00003.GGUF": Expected("Q8_0", "model", 2, 3),
    "X-Q8_0-1-of-2.gguf": Expected("Q8_0", "model", 1, 2),
    "X-Q8_0_00001_of_00002.gguf": Expected("Q8_0", "model", 1, 2),
    "X-Q4_K_M.gguf-00001-of-00006.gguf": Expected("Q4_K_M", "model", 1, 6),
    "Q8_0/00001-of-00002.gguf": Expected("Q8_0", "model", 1, 2),
    "mmproj-X-F16-00001-of-00002.gguf": Expected("F16", "mmproj", 1, 2),
    "X-Q8_0-00003.gguf": Expected("Q8_0", "model", 3),
    "X-Q8_0-split-00003.gguf": Expected("Q8_0", "model", 3),
    # No engine loads a shard 0, or a ninth of three: such a file is nothing that can be offered.
    "X-Q8_0-00000-of-00003.gguf": Expected(None, "other"),
    "X-Q8_0-00009-of-00003.gguf": Expected(None, "other"),
    "X-Q8_0-00000.gguf": Expected(None, "other"),
    f"X-Q8_0-1-of-{'9' * 5000}.gguf": Expected(None, "other"),
    # Other digits are none: the rest of the name still is.
    "X-Q8_0-\u0660\u0661-of-\u0660\u0662.gguf": Expected("Q8_0"),
    "X.Q8_0.gguf.part1of2": Expected("Q8_0", "model", 1, 2, raw=True),
    "X.Q8_0.GGUF.PART2OF2": Expected("Q8_0", "model", 2, 2, raw=True),
    "X.Q8_0.gguf.part3of2": Expected(None, "other"),
    "X-MXFP4-chunk-001-of-018.gguf": Expected("MXFP4", "model", 1, 18, raw=True),
    "X.Q8_0.part1of2.gguf": Expected("Q8_0", "model", 1, 2, raw=True),
    "X.Q6_K.gguf-split-a": Expected("Q6_K", "model", 1, raw=True),
    "X.Q6_K.gguf-split-b": Expected("Q6_K", "model", 2, raw=True),
    "X.Q6_K.gguf-split-aa": Expected("Q6_K", "model", 1, raw=True),
    "X.Q6_K.gguf-split-ba": Expected("Q6_K", "model", 27, raw=True),
    "X.Q6_K.gguf.part-ac": Expected("Q6_K", "model", 3, raw=True),
    "X.Q6_K.gguf.partab": Expected("Q6_K", "model", 2, raw=True),
    "X.Q6_K.gguf.part-02": Expected("Q6_K", "model", 2, raw=True),
    "X.Q6_K.gguf.part-000": Expected("Q6_K", "model", raw=True),
    "X.Q6_K.gguf.b": Expected("Q6_K", "model", 2, raw=True),
    "X.Q6_K.gguf.002": Expected("Q6_K", "model", 2, raw=True),
}


@pytest.mark.parametrize("path", MODELS)
def test_whole_model_is_told_from_what_is_like_it(path: str) -> None:
    assert read(path) == Expected(MODELS[path])


@pytest.mark.parametrize("path", OTHERS)
def test_companion_is_no_model(path: str) -> None:
    assert read(path) == OTHERS[path]


@pytest.mark.parametrize("path", PIECES)
def test_piece_is_no_whole_model(path: str) -> None:
    assert read(path) == PIECES[path]


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("MXFP4_MOE_BF16", Family.FP4),
        ("UD-IQ4_NL_XL", Family.I),
        ("Q8_0_P", Family.UNKNOWN),
        ("Q8_K_R16", Family.FORK),
        ("AD-Q4_0", Family.LEGACY),
    ],
)
def test_family_of_a_rare_label(label: str, family: Family) -> None:
    assert family_of(label) is family


# Laws


_PLAIN_LABELS = {row["label"] for row in ROWS.values() if row["label"]} | {
    label for label in MODELS.values() if label
}
LABELS = st.sampled_from(sorted(_PLAIN_LABELS | {"Q6_K_L", "TQ2_0", "Q5_1", "IQ2_BN_R4"}))
#: How each companion is named around a label. Adapters are left out: most labels make them models.
FRAMES = {
    "{}": "model",
    "X{sep}{}": "model",
    "X-LoRA{sep}{}": "model",
    "X-imat{sep}{}": "model",
    "mmproj-X{sep}{}": "mmproj",
    "X{sep}{}-mmproj": "mmproj",
    "mtp-X{sep}{}": "mtp",
    "X-DRAFT-1B{sep}{}": "draft",
}


def spelt(label: str, *, lower: bool) -> str:
    return label.lower() if lower else label


@given(
    label=LABELS,
    frame=st.sampled_from(sorted(FRAMES)),
    sep=st.sampled_from("-._"),
    lower=st.booleans(),
    shards=st.tuples(st.integers(1, 99999), st.integers(1, 99999)).map(sorted) | st.none(),
    mark=st.sampled_from(["-", "-split-", ".split-"]),
)
def test_a_name_that_was_made_is_read_back(  # noqa: PLR0913
    *, label: str, frame: str, sep: str, lower: bool, shards: list[int] | None, mark: str
) -> None:
    name = frame.format(spelt(label, lower=lower), sep=sep)
    index, count = shards or (None, None)
    suffix = f"{mark}{index:05}-of-{count:05}" if shards else ""
    assert read(f"a/{name}{suffix}.gguf") == Expected(label, FRAMES[frame], index, count)


@given(label=LABELS, sep=st.sampled_from("-._"), numbers=st.tuples(st.integers(), st.integers()))
def test_a_byte_cut_is_read_back(label: str, sep: str, numbers: tuple[int, int]) -> None:
    index, count = sorted(abs(number) % 999 + 1 for number in numbers)
    found = read(f"X{sep}{label}.gguf.part{index}of{count}")
    assert found == Expected(label, "model", index, count, raw=True)


@given(label=LABELS, other=LABELS, frame=st.sampled_from(["X-{}", "{}", "{}/00001", "a-{}/X"]))
def test_two_labels_are_never_mixed_up(label: str, other: str, frame: str) -> None:
    assume(label != other)
    assert read(frame.format(label) + ".gguf") != read(frame.format(other) + ".gguf")


@given(first=LABELS, second=LABELS, sep=st.sampled_from("-."))
def test_the_last_label_counts_and_the_file_before_its_folder(
    first: str, second: str, sep: str
) -> None:
    assert read(f"X{sep}{first}{sep}{second}.gguf").label == second
    assert read(f"{first}/X{sep}{second}.gguf").label == second


HOSTILE = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                *"-._/0123456789\x00\n\x1b\u202e\u0130\u0663",
                *("..", ".gguf", "part", "split", "-00001", "-of-", "of"),
                *("Q4_K", "_M", "UD-", "F16", "imatrix", "lora", "mtp-", "draft"),
            ]
        )
    ).map("".join),
)


ENDINGS = ["", ".gguf", ".GGUF", ".gguf.part", ".gguf-split-", "-00001-of-00002.gguf"]
ENDINGS += ["-00003-of-00002.gguf", "-00000-of-00002.gguf", ".gguf.part2of2", ".gguf.part3of2"]


@given(path=HOSTILE, ending=st.sampled_from(ENDINGS))
def test_any_name_is_read_and_says_nothing_impossible(path: str, ending: str) -> None:
    found = read(path + ending)
    assert found.label is None or canonical_label(found.label) == found.label
    assert found.number is None or found.number >= 1
    if found.total is not None:
        assert found.number is not None
        assert found.number <= found.total
    if found.kind in {"imatrix", "other"}:
        assert found.label is None


LONG = {
    **dict.fromkeys(["-", "1", "-1", "_Q", "IQ4_XS-", "UD-", "-of-1", ".part1", "\u0130"], "model"),
    "imatrix.": "imatrix",
}


@pytest.mark.parametrize("part", LONG)
def test_a_very_long_name_is_read_to_its_end(part: str) -> None:
    # 100 kB, whose square is too much to be read while the suite runs.
    long = part * (100_000 // len(part))
    label = "Q5_1" if LONG[part] == "model" else None
    assert read(f"{long}-Q5_1.gguf") == Expected(label, LONG[part])
    assert read(f"X-Q5_1.gguf{long}").kind == "other"
    assert read(f"Q5_1-{long}x1.gguf").kind == LONG[part]
