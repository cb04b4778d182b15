"""What a header says of a model, read from its key-values and its tensor table as they are."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.header import LongArray
from quantpick.domain.plan import targets_of

if TYPE_CHECKING:
    from quantpick.domain.header import Header, Value
    from quantpick.domain.listing import Listing, QuantSet

#: Labels of ``general.file_type``: llama.cpp's enum llama_ftype (llama.h), without what it dropped.
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}

_CHAT_TEMPLATE = "tokenizer.chat_template"


class Inspection(NamedTuple):
    """A header and where it comes from; the fields of the Hub are None for a local file."""

    source: str
    header: Header
    repo_id: str | None = None
    revision: str | None = None
    label: str | None = None
    paths: tuple[str, ...] = ()


class TypeUse(NamedTuple):
    """The tensors of one type: how many, their elements and their bytes without padding."""

    type: str
    tensors: int
    elements: int
    bytes: int

    @property
    def bpw(self) -> float | None:
        """Bits per weight, None without a weight."""
        return 8 * self.bytes / self.elements if self.elements else None


class Summary(NamedTuple):
    """The facts of a header; None is what it does not say.

    ``output_type`` is None where ``tied`` says that the output is the embedding once more.
    ``types`` has the most bytes first, ``total`` is their sum. A chat template that is too long to
    be kept has a length alone.
    """

    architecture: str | None
    name: str | None
    types: tuple[TypeUse, ...]
    total: TypeUse
    token_embd_type: str | None
    output_type: str | None
    tied: bool
    file_type: int | None
    file_type_label: str | None
    context_length: int | None
    block_count: int | None
    tokenizer_model: str | None
    vocab_size: int | None
    chat_template: str | None
    chat_template_length: int | None
    quantized_by: str | None
    license: dict[str, str]


def inspect_listed(listing: Listing, quant: QuantSet, header: Header) -> Inspection:
    """Return the inspection of a quant on the Hub."""
    return Inspection(
        source=f"{listing.repo_id}:{quant.label}",
        header=header,
        repo_id=listing.repo_id,
        revision=listing.revision,
        label=quant.label,
        paths=tuple(target.path for target in targets_of(quant.files)),
    )


def summary(header: Header) -> Summary:
    """Return the facts that a header holds; a key of an unexpected type counts as not there."""
    metadata, types = header.metadata, types_of(header)
    architecture = _text(metadata.get("general.architecture"))
    named = {tensor.name: tensor.type for tensor in header.tensors}
    embedding, output = named.get("token_embd.weight"), named.get("output.weight")
    file_type = _number(metadata.get("general.file_type"))
    return Summary(
        architecture=architecture,
        name=_text(metadata.get("general.name")),
        types=types,
        total=_sum("all", types),
        token_embd_type=embedding,
        output_type=output,
        tied=embedding is not None and output is None,
        file_type=file_type,
        file_type_label=None if file_type is None else FILE_TYPES.get(file_type),
        context_length=_number(metadata.get(f"{architecture}.context_length")),
        block_count=_number(metadata.get(f"{architecture}.block_count")),
        tokenizer_model=_text(metadata.get("tokenizer.ggml.model")),
        vocab_size=_length(metadata.get("tokenizer.ggml.tokens")),
        chat_template=_text(metadata.get(_CHAT_TEMPLATE)),
        chat_template_length=_length(metadata.get(_CHAT_TEMPLATE)),
        quantized_by=_text(metadata.get("general.quantized_by")),
        license={
            key: value
            for key, value in metadata.items()
            if key.startswith("general.license") and isinstance(value, str)
        },
    )


def types_of(header: Header) -> tuple[TypeUse, ...]:
    """Return what each type is used for, the one with the most bytes first."""
    uses: dict[str, TypeUse] = {}
    for tensor in header.tensors:
        one = TypeUse(tensor.type, 1, prod(tensor.dims), tensor.nbytes)
        uses[tensor.type] = _sum(tensor.type, [uses.get(tensor.type, _none(tensor.type)), one])
    return tuple(sorted(uses.values(), key=lambda use: (-use.bytes, use.type)))


def _none(name: str) -> TypeUse:
    return TypeUse(name, 0, 0, 0)


def _sum(name: str, uses: tuple[TypeUse, ...] | list[TypeUse]) -> TypeUse:
    return TypeUse(
        name,
        sum(use.tensors for use in uses),
        sum(use.elements for use in uses),
        sum(use.bytes for use in uses),
    )


def _text(value: Value | None) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Value | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _length(value: Value | None) -> int | None:
    if isinstance(value, LongArray):
        return value.length
    return len(value) if isinstance(value, tuple | str) else None
