"""Hollow models are the published ones: their parameters, and one real file tensor by tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quantpick.gguf_header import read_file
from tests.engine.hollow import hollow_header, write_hollow
from tests.engine.models import MODELS

if TYPE_CHECKING:
    from pathlib import Path

#: Weights as the Hugging Face Hub counts them in the safetensors of each original repo.
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "phi-4": 14_659_507_200,
    "phi-3.5-mini": 3_821_079_552,
    "glm-4-9b-0414": 9_400_279_040,
    "granite-3.3-8b": 8_170_864_640,
    "olmo-2-7b": 7_298_617_344,
    "command-r-35b": 34_980_831_232,
    "starcoder2-7b": 7_173_923_840,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-270m": 268_098_176,
    "command-r7b": 8_028_033_024,
    # Without its vision tower: Mistral-Small-24B-Instruct-2501, of the same text model.
    "mistral-small-3.1-24b": 23_572_403_200,
}

#: Converters add tables of factors for rotary positions: one number each two of a head's width.
_MOST_FACTORS = 256


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_its_published_parameters(name: str) -> None:
    assert 0 <= MODELS[name]().parameters - PUBLISHED[name] <= _MOST_FACTORS


def test_a_hollow_model_has_the_tensors_of_the_real_one(gemma: Path) -> None:
    real, hollow = read_file(gemma), hollow_header(MODELS["gemma-3-270m"](), "Q4_K_M")
    assert sorted(hollow.tensors) == sorted(real.tensors)


def test_a_70b_takes_no_room(tmp_path: Path) -> None:
    blueprint = MODELS["llama-3.1-70b"]()
    path = write_hollow(blueprint, "Q4_K_M", tmp_path)
    expected = hollow_header(blueprint, "Q4_K_M")
    assert read_file(path)[2:] == expected[2:]
    assert path.stat().st_size == expected.file_bytes == 42_515_909_248
    if hasattr(path.stat(), "st_blocks"):
        assert path.stat().st_blocks * 512 < 8 << 20


def test_a_model_goes_by_its_own_name() -> None:
    assert {name: blueprint().name for name, blueprint in MODELS.items()} == {
        name: name for name in MODELS
    }
