"""From a header's key-values to a shape: any header gives a shape or the one error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.cache import estimate_kv_cache
from quantpick.domain.compute import estimate_compute
from quantpick.domain.header import Header, LongArray
from quantpick.domain.memory import Split, estimate_memory
from quantpick.domain.metadata import KNOWN, shape_of
from quantpick.domain.need import Need
from quantpick.domain.weights import weights_of
from quantpick.errors import IntegrityError
from tests.engine.hollow import hollow_header
from tests.engine.models import MODELS

KEYS = [
    "block_count",
    "nextn_predict_layers",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "full_attention_interval",
    "embedding_length_per_layer_input",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.key_length_swa",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.shared_kv_layers",
    "attention.recurrent_layers",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "shortconv.l_cache",
    "wkv.head_size",
    "kda.head_dim",
]

scalars = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 300) | st.floats() | st.booleans()
values = (
    scalars
    | st.text(max_size=5)
    | st.lists(scalars, max_size=8).map(tuple)
    | st.builds(LongArray, st.just("i32"), st.integers(0, 2**40))
)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    architecture = draw(st.sampled_from([*sorted(KNOWN), "newish"]))
    chosen = draw(st.dictionaries(st.sampled_from(KEYS), values))
    # Mostly with what no model can do without, so that the rest is reached.
    chosen = draw(st.sampled_from([{"block_count": 4, "embedding_length": 64}, {}])) | chosen
    metadata = {f"{architecture}.{key}": value for key, value in chosen.items()}
    return Header(3, {"general.architecture": architecture, **metadata}, (), 0, 0)


@given(headers())
def test_any_metadata_is_a_shape_with_an_estimate_or_the_one_error(header: Header) -> None:
    try:
        shape = shape_of(header)
    except IntegrityError:
        return
    assert len(shape.layers) == shape.block_count <= 512
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    memory = estimate_memory(weights, shape, Need(), (), Split())
    assert memory.total >= 0
    assert memory.exact is (shape.architecture in KNOWN)


def test_a_header_without_an_architecture_is_no_language_model() -> None:
    with pytest.raises(IntegrityError, match=r"general\.architecture"):
        shape_of(Header(3, {}, (), 0, 0))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_not_known_is_never_estimated_below_what_is(name: str) -> None:
    header = hollow_header(MODELS[name](), "Q8_0")
    known = shape_of(header)
    old = known.architecture
    metadata = {
        key.replace(f"{old}.", "newish.", 1): value for key, value in header.metadata.items()
    }
    unknown = shape_of(header._replace(metadata={**metadata, "general.architecture": "newish"}))
    assert known.known
    assert not unknown.known
    for ctx_size in (2048, 32_768):
        need = Need(ctx_size=ctx_size)
        assert estimate_kv_cache(unknown, need) >= estimate_kv_cache(known, need)
        assert estimate_compute(unknown, need) >= estimate_compute(known, need)
