"""One header tells where the bytes of a repo's other quants go, and which caches a model takes."""

from __future__ import annotations

import pytest

from quantpick.domain.compatibility import cache_refusal
from quantpick.domain.host import Backend
from quantpick.domain.metadata import shape_of
from quantpick.domain.mixing import mixed_types
from quantpick.domain.need import CacheType, Need
from quantpick.domain.predict import predict_weights
from quantpick.domain.tensors import Tensor
from quantpick.domain.verdict import ReasonCode
from quantpick.domain.weights import weights_of
from tests.engine.hollow import hollow_header
from tests.engine.models import MODELS

HEADER = hollow_header(MODELS["llama-3.1-8b"](), "Q8_0")
SHAPE = shape_of(HEADER)


def tensors_of(label: str, *, imatrix: bool) -> list[Tensor]:
    slots = tuple((tensor.name, tensor.dims) for tensor in HEADER.tensors)
    types = mixed_types(
        label,
        slots,
        architecture="llama",
        block_count=32,
        head_count=32,
        head_count_kv=8,
        imatrix=imatrix,
    )
    assert types is not None
    return [Tensor(name, dims, kind) for (name, dims), kind in zip(slots, types, strict=True)]


@pytest.mark.parametrize("imatrix", [True, False])
def test_the_size_tells_whether_an_importance_matrix_was_used(*, imatrix: bool) -> None:
    tensors = tensors_of("IQ4_XS", imatrix=imatrix)
    other = tensors_of("IQ4_XS", imatrix=not imatrix)
    size = sum(tensor.nbytes for tensor in tensors) + HEADER.header_bytes
    assert abs(size - sum(tensor.nbytes for tensor in other)) > 0.005 * size
    assert predict_weights(HEADER, SHAPE, "IQ4_XS", size) == weights_of(tensors, 32)


@pytest.mark.parametrize("label", ["UD-Q4_K_XL", "IQ4_KS"])
def test_a_mix_of_its_makers_own_is_not_predicted(label: str) -> None:
    assert predict_weights(HEADER, SHAPE, label, 5 * 10**9) is None


@pytest.mark.parametrize(("width", "kind", "refused"), [(80, "q8_0", True), (80, "f16", False)])
def test_a_quantized_cache_wants_heads_of_whole_blocks(
    width: int, kind: str, *, refused: bool
) -> None:
    shape = SHAPE._replace(key_length=width, value_length=width)
    need = Need(type_k=CacheType(kind), type_v=CacheType(kind))
    reason = cache_refusal(shape, need, Backend.CUDA)
    assert (reason is not None and reason.code is ReasonCode.CACHE_REFUSED) is refused
