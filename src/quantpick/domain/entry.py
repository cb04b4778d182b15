"""A catalog file written from facts: which fields it has, in which order, and its computed ones.

The one place that knows the form of ``models/OWNER/REPO.json``; ``catalog/README.md`` describes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.blueprint import blueprint
from quantpick.domain.compatibility import BORN_IN
from quantpick.domain.mixing import mixed_types
from quantpick.domain.shape import FURTHER_FIGURES, layers_of
from quantpick.domain.tensors import Tensor
from quantpick.domain.weights import weights_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from quantpick.domain.blueprint import Slot
    from quantpick.domain.shape import Layer, Shape
    from quantpick.domain.weights import Weights

#: The form of the files written here.
_SCHEMA = 1

#: Bytes of a header for each token of the vocabulary, with merges and template, at most. Where the
#: types are known for sure, 23 (Llama 2) to 65 (gpt-oss) are left for it by files of exact size.
HEADER_PER_TOKEN = 80
#: Bytes by which a size may fall short of the sum: what is padded, and what is told in round steps.
MOST_SHORT = 100_000
_ALIGNMENT = 32

#: The quantizer's name for what the converter writes under another, for weights born so.
_SAME_MIX = {"MXFP4": "MXFP4_MOE"}

#: Llama's vocabulary since version 3. From 3.1 on, told by the longer context, a factor stands for
#: each rotary frequency; the longer versions of Phi 3 and 4 have two such lists.
_LLAMA_3_VOCABULARY = 128_256
_LLAMA_3_CONTEXT = 8192
_PHI_CONTEXT = 16_384


class EntryFile(NamedTuple):
    """What a source tells of one quant: its files, their size together, when it was read.

    ``rounded_to`` is the step of the size, 0 if exact. ``sha256`` has one digest a path or none.
    ``source`` is a key of the entry's sources.
    """

    label: str
    paths: tuple[str, ...]
    file_bytes: int
    rounded_to: int
    sha256: tuple[str, ...]
    source: str
    seen: str
    recommended: bool | None = None
    token_embd_type: str | None = None
    output_type: str | None = None


class EntryFacts(NamedTuple):
    """What is known of a repo beside its files; None is left out of the file."""

    title: str
    base_model: str | None
    base_gated: bool | None
    license: str | None
    quantizer: str
    llama_cpp: int | None
    imatrix: bool | None
    prompt_format: str | None
    shape: Shape | None
    sources: Mapping[str, str]


def entry_document(facts: EntryFacts, files: Iterable[EntryFile]) -> dict[str, Any]:
    """Return the whole catalog file of a repo, its rows the largest first."""
    ordered = sorted(files, key=lambda file: (-file.file_bytes, file.label))
    document = {
        "schema": _SCHEMA,
        "title": facts.title,
        "base_model": facts.base_model,
        "base_gated": facts.base_gated,
        "license": facts.license,
        "quantizer": facts.quantizer,
        "llama_cpp": None if facts.llama_cpp is None else f"b{facts.llama_cpp}",
        "imatrix": facts.imatrix,
        "prompt_format": facts.prompt_format,
        "shape": None if facts.shape is None else _shape_fields(facts.shape),
        "sources": dict(facts.sources),
    }
    return _stated(document) | {"files": [_row(facts, file) for file in ordered]}


def _stated(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _row(facts: EntryFacts, file: EntryFile) -> dict[str, Any]:
    weights = computed_weights(facts, file)
    fields = {
        "label": file.label,
        "bytes": file.file_bytes,
        "rounded_to": file.rounded_to or None,
        "paths": list(file.paths),
        "sha256": list(file.sha256) or None,
        "recommended": file.recommended,
        "token_embd_type": file.token_embd_type,
        "output_type": file.output_type,
        "source": file.source,
        "seen": file.seen,
        "weights": None if weights is None else _weights_fields(weights),
    }
    return _stated(fields)


# The shape


def _shape_fields(shape: Shape) -> dict[str, Any]:
    fields = {
        "architecture": shape.architecture,
        "parameters": shape.parameters,
        "block_count": shape.block_count,
        "head_count": shape.head_count,
        "head_count_kv": shape.head_count_kv,
        "key_length": shape.key_length,
        "value_length": shape.value_length,
        "embedding_length": shape.embedding_length,
        # Unknown, and on no layer, in some models whose layers all have experts.
        "feed_forward_length": shape.feed_forward_length or None,
        "vocab_size": shape.vocab_size,
        "context_length": shape.context_length,
        "sliding_window": shape.sliding_window,
        "sliding_window_pattern": shape.sliding_window_pattern,
        "tied": True if shape.tied else None,
        **{name: getattr(shape, name) or None for name in FURTHER_FIGURES},
        "known": None if shape.known else False,
    }
    return _stated(fields) | _layer_fields(shape)


def _layer_fields(shape: Shape) -> dict[str, Any]:
    """Return the layers by kind, where they do not follow from the other figures."""
    if not shape.layers or shape.layers == layers_of(shape._replace(layers=())):
        return {}
    kinds, order = _kinds(shape.layers)
    return {"layers": [_stated_layer(layer) for layer in kinds], "layer_kinds": order}


def _stated_layer(layer: Layer) -> dict[str, Any]:
    return {name: value for name, value in layer._asdict().items() if value}


def _kinds(layers: tuple[Any, ...]) -> tuple[list[Any], str]:
    """Return the different layers in order of appearance, and one digit a layer."""
    kinds = list(dict.fromkeys(layers))
    return kinds, "".join(str(kinds.index(layer)) for layer in layers)


# Where the bytes go


def computed_weights(facts: EntryFacts, file: EntryFile) -> Weights | None:
    """Return where a file's bytes go, None where its types are unknown.

    They follow from the shape and the label, and count as known if their sum is the file's size.
    Where nobody says whether an importance matrix was used, both ways to mix are tried.
    """
    slots = None if facts.shape is None else _slots(facts.shape)
    if facts.shape is None or slots is None:
        return None
    for imatrix in (True, False) if facts.imatrix is None else (facts.imatrix,):
        tensors = _mixed(facts.shape, slots, file.label, imatrix=imatrix)
        if tensors is not None and _agrees(tensors, file, facts.shape.vocab_size):
            return weights_of(tensors, facts.shape.block_count)
    return None


def _agrees(tensors: list[Tensor], file: EntryFile, vocab_size: int) -> bool:
    """Whether a file's size is that of its tensors and a header, as far as it was rounded."""
    data = sum(-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors)
    slack = max(HEADER_PER_TOKEN * vocab_size, file.file_bytes // 1000) + file.rounded_to
    return -file.rounded_to - MOST_SHORT <= file.file_bytes - data <= slack


def _mixed(
    shape: Shape, slots: tuple[Slot, ...], label: str, *, imatrix: bool
) -> list[Tensor] | None:
    born = BORN_IN.get(shape.architecture)
    types = mixed_types(
        _SAME_MIX.get(label, label) if born else label,
        slots,
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        expert_count=shape.expert_count,
        imatrix=imatrix,
        source=_born_types(slots, born) if born else None,
    )
    if types is None:
        return None
    return [Tensor(name, dims, kind) for (name, dims), kind in zip(slots, types, strict=True)]


def _born_types(slots: tuple[Slot, ...], experts: str) -> tuple[str, ...]:
    """Return the types of the file that the others are made from, where it is not all one type."""
    return tuple(experts if "_exps.weight" in name else "F32" for name, _ in slots)


def _slots(shape: Shape) -> tuple[Slot, ...] | None:
    """Return the tensors of a model, None where the figures do not tell them all."""
    if shape.idle_blocks or not shape.known:
        return None
    return blueprint(shape, rope_freqs=_stretched(shape))


def _stretched(shape: Shape) -> bool:
    """Whether the rotary frequencies have factors, as the longer versions of some models do."""
    if shape.architecture == "phi3":
        return shape.context_length > _PHI_CONTEXT
    return shape.vocab_size == _LLAMA_3_VOCABULARY and shape.context_length > _LLAMA_3_CONTEXT


def _weights_fields(weights: Weights) -> dict[str, Any]:
    kinds, order = _kinds(tuple((layer.dense, layer.experts) for layer in weights.layers))
    fields = {
        "embedding": weights.embedding,
        "output": weights.output,
        "layer_bytes": [dense for dense, _ in kinds],
        "expert_bytes": [experts for _, experts in kinds] if weights.routed else None,
        "layer_kinds": order,
        "largest": _largest(layer.largest for layer in weights.layers),
        "largest_expert": _largest(layer.largest_expert for layer in weights.layers),
        "matrices": dict(weights.matrices),
        "tied": weights.tied or None,
    }
    return _stated(fields)


def _largest(sizes: Iterable[int]) -> int | None:
    return max(sizes, default=0) or None
