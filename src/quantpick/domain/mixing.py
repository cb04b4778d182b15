"""Which type each tensor of a file gets under a label, as llama.cpp's quantizer decides it.

The labels' tables are in `quantpick.domain.mixing_rules`; here they meet the tensors of a file, as
in ``llama_tensor_get_type`` and ``tensor_type_fallback`` (src/llama-quant.cpp, llama.cpp b11540).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.mixing_rules import (
    EIGHT_EXPERTS_OUTPUT,
    FALLBACKS,
    LAYERS_OF_70B,
    RAISED,
    RECIPES,
    Facts,
    Part,
    Step,
    eight_experts,
    part_of,
)
from quantpick.domain.tensors import TYPES_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A tensor by name and dimensions, in ggml's order: the length of a row first.
Slot = tuple[str, tuple[int, ...]]

#: Labels of files that hold one type, in which what is not quantized is too.
_FLOATS = frozenset({"F32", "F16", "BF16"})

#: What llama-quantize takes a K-quant without a size for.
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

#: bartowski's names for another label with embedding and output forced to Q8_0. Unsloth's Q2_K_L of
#: dense models is smaller than that: hold what is told of such a label against the file's size.
_LARGER = {
    "Q2_K_L": "Q2_K",
    "Q3_K_XL": "Q3_K_L",
    "Q4_K_L": "Q4_K_M",
    "Q5_K_L": "Q5_K_M",
    "Q6_K_L": "Q6_K",
}

#: Architectures whose weights were published in MXFP4: every file keeps their experts so, as the
#: quantizer refuses to encode anew what is encoded already.
_BORN_MXFP4 = frozenset({"gpt-oss"})

_ENDS = (Part.EMBEDDING, Part.OUTPUT)
_UNQUANTIZED = (Part.EXACT, Part.KEPT)
_STACKED = frozenset(Part) - {Part.CAREFUL, *_ENDS}

#: Stands for a type that llama.cpp has no stand-in for.
_MISFIT = ""

#: The block of every type divides it.
_LONGEST_BLOCK = 256

#: Dimensions of a matrix; a stack of experts has one more.
_MATRIX = 2

#: From this block length down there is no shorter one to fall back to.
_SHORT_BLOCK = 32


class _Survey(NamedTuple):
    """The tensors of a file as the quantizer sees them, whatever the label.

    ``visited`` has for each part the tensors' indexes and layers in the order in which llama.cpp
    visits them: by layer, then by name. ``odd`` are the indexes of matrices whose rows not every
    block divides.
    """

    parts: tuple[Part, ...]
    visited: Mapping[Part, tuple[tuple[int, int], ...]]
    odd: tuple[int, ...]

    def of(self, *parts: Part) -> list[int]:
        """Return the indexes of the tensors of some parts."""
        return [index for part in parts for index, _ in self.visited.get(part, ())]


class _Mix(NamedTuple):
    """A label of llama.cpp's own and the model that it is mixed for."""

    label: str
    facts: Facts
    block_count: int


def mixed_types(  # noqa: PLR0913 -- the figures of a model, named as in GGUF
    label: str,
    tensors: Sequence[Slot],
    *,
    architecture: str,
    block_count: int,
    head_count: int,
    head_count_kv: int,
    expert_count: int = 0,
    imatrix: bool = True,
    source: Sequence[str] | None = None,
) -> tuple[str, ...] | None:
    """Return the type of each tensor in a file of this label, in the order of ``tensors``.

    None for a label whose mix is not llama.cpp's own, and where llama.cpp cannot make it of these
    tensors. ``block_count`` counts all layers of the file; the head counts are those of its first
    layer, so ``head_count_kv`` may be 0. ``source`` are the types of the same tensors in another
    file of the repo: they tell the types of what the quantizer leaves alone.
    """
    plain = label.removeprefix("i1-")
    own = _LARGER.get(plain, _ALIASES.get(plain, plain))
    if own not in RECIPES and own not in _FLOATS and own != "MXFP4_MOE":
        return None
    survey = _survey(tuple(tensors), architecture)
    if own in _FLOATS:
        types = [own] * len(survey.parts)
    elif own == "MXFP4_MOE":
        types = _mxfp4_moe(survey, tensors, architecture)
    else:
        facts = Facts(
            gqa=head_count // head_count_kv if head_count_kv else 0,
            experts=expert_count,
            falcon=architecture == "falcon",
            raised=_counts_as_70b(architecture, block_count, shared=head_count != head_count_kv),
            imatrix=imatrix or plain != label,
        )
        types = _by_recipe(_Mix(own, facts, block_count), survey, tensors)
    if plain in _LARGER:
        _put(types, dict.fromkeys(survey.of(*_ENDS), "Q8_0"))
    _put(types, {index: _fitting(types[index], tensors[index][1][0]) for index in survey.odd})
    _put(types, _unquantized(own, survey, source, architecture))
    return None if _MISFIT in types else tuple(types)


def _put(types: list[str], changes: Mapping[int, str]) -> None:
    for index, kind in changes.items():
        types[index] = kind


# Tensors


@lru_cache(maxsize=4)
def _survey(tensors: tuple[Slot, ...], architecture: str) -> _Survey:
    """Tell the tensors of a file apart; the labels of a repo are mixed from the same."""
    parts = tuple(_part(name, dims, architecture) for name, dims in tensors)
    groups: dict[Part, list[int]] = {}
    for index, part in enumerate(parts):
        groups.setdefault(part, []).append(index)
    layers = [_layer(name) for name, _ in tensors]
    for group in groups.values():
        group.sort(key=lambda index: (layers[index], tensors[index][0]))
    odd = [
        index
        for index, (_, dims) in enumerate(tensors)
        if dims[0] % _LONGEST_BLOCK and parts[index] not in _UNQUANTIZED
    ]
    visited = {part: tuple((index, layers[index]) for index in at) for part, at in groups.items()}
    return _Survey(parts, visited, tuple(odd))


def _part(name: str, dims: tuple[int, ...], architecture: str) -> Part:
    if len(dims) < _MATRIX or all(size == 1 for size in dims[1:]):
        return Part.EXACT
    return part_of(name[name.find(".", 4) :] if name.startswith("blk.") else name, architecture)


def _layer(name: str) -> int:
    """Layer of ``blk.12.attn_q.weight``, -1 of what is in none."""
    number = name[4 : name.find(".", 4)] if name.startswith("blk.") else ""
    return int(number[:9]) if number.isdecimal() else -1


# A label's recipe


def _counts_as_70b(architecture: str, block_count: int, *, shared: bool) -> bool:
    """Tell a 70B; a llama of as many layers whose heads share no keys is the older 65B."""
    long = block_count == LAYERS_OF_70B.get(architecture)
    return long and (shared or architecture != "llama")


def _by_recipe(mix: _Mix, survey: _Survey, tensors: Sequence[Slot]) -> list[str]:
    choices = {part: _choice(mix, part) for part in survey.visited}
    types = [choices[part][0].type for part in survey.parts]
    for part, steps in choices.items():
        if steps[0].where is not None:
            _put(types, _by_place(mix, survey, part, steps))
    # A tied embedding is the output as well, and is encoded as such.
    outputs = survey.of(Part.OUTPUT) or survey.of(Part.EMBEDDING)
    _put(types, {index: _output(mix, tensors[index][1][0]) for index in outputs})
    return types


def _choice(mix: _Mix, part: Part) -> tuple[Step, ...]:
    """Return the steps that may apply to a part of this model, the last of them anywhere."""
    recipe = RECIPES[mix.label]
    if part is Part.CAREFUL:
        return (Step("Q8_0"),)
    if part is Part.EMBEDDING:
        return (Step(recipe.embedding or recipe.default),)
    if eight_experts(mix.facts) and not recipe.low:
        if part in {Part.VALUE, Part.KEY}:
            return (Step("Q8_0"),)
        if part is Part.ATTENTION_OUTPUT and not mix.facts.falcon:
            return (Step("Q5_K" if mix.label in EIGHT_EXPERTS_OUTPUT else recipe.default),)
    steps = [step for step in recipe.steps.get(part, ()) if not step.when or step.when(mix.facts)]
    steps.append(Step(recipe.default))
    if part is Part.VALUE and mix.facts.raised and not recipe.low:
        steps = [step._replace(type=RAISED.get(step.type, step.type)) for step in steps]
    return tuple(steps)


def _by_place(mix: _Mix, survey: _Survey, part: Part, steps: tuple[Step, ...]) -> dict[int, str]:
    """Choose for each tensor of a part by its place among them.

    llama.cpp counts them as it visits them, and takes values as many as there are but the rest for
    one a layer; only with several a layer, as experts once were, it reads the layer in the name.
    """
    visited = survey.visited[part]
    by_name = mix.facts.experts > 1 and part is not Part.VALUE and not RECIPES[mix.label].low
    count = len(visited) if part is Part.VALUE else mix.block_count
    return {
        index: _at(steps, layer if by_name else place, count)
        for place, (index, layer) in enumerate(visited)
    }


def _at(steps: tuple[Step, ...], place: int, count: int) -> str:
    return next(step.type for step in steps if step.where is None or step.where(place, count))


def _output(mix: _Mix, row: int) -> str:
    recipe = RECIPES[mix.label]
    if mix.facts.falcon or row % TYPES_BY_NAME[recipe.default].elements:
        return "Q8_0"
    return recipe.output


def _mxfp4_moe(survey: _Survey, tensors: Sequence[Slot], architecture: str) -> list[str]:
    """Stacks are experts, and so MXFP4, but for one architecture that stacks more than those."""
    stacks = {Part.UP, Part.GATE, Part.DOWN} if architecture == "bailingmoe3" else _STACKED
    return [
        "MXFP4" if part in stacks and len(dims) > _MATRIX and dims[_MATRIX] > 1 else "Q8_0"
        for part, (_, dims) in zip(survey.parts, tensors, strict=True)
    ]


# What becomes of the wanted types


def _fitting(kind: str, row: int) -> str:
    """Return the type itself if its block divides the row, else its stand-in, at last F16."""
    block = TYPES_BY_NAME[kind].elements
    if row % block == 0:
        return kind
    fallback = FALLBACKS.get(kind)
    if fallback is None:
        return "F16" if block <= _SHORT_BLOCK else _MISFIT
    return fallback if row % TYPES_BY_NAME[fallback].elements == 0 else "F16"


def _unquantized(
    label: str, survey: _Survey, source: Sequence[str] | None, architecture: str
) -> dict[int, str]:
    """Return the types of what is not quantized, which are the same in every file of a repo."""
    if source is None:
        # Most makers convert to BF16, as the weights were published; F16 would be as long.
        kept = dict.fromkeys(survey.of(Part.KEPT), label if label in _FLOATS else "BF16")
        return kept | dict.fromkeys(survey.of(Part.EXACT), "F32")
    kept = {index: source[index] for index in survey.of(*_UNQUANTIZED)}
    if architecture in _BORN_MXFP4:
        kept |= {index: kind for index, kind in enumerate(source) if kind == "MXFP4"}
    return kept
