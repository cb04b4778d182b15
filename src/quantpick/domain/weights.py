"""Where the bytes of a file go: the token embedding, the repeating layers, the output layer.

llama.cpp keeps input tensors in RAM always, gives each repeating layer to one device and treats
the output layer as one more (the layer column of ``llm_tensor_infos``, llama-arch.cpp). A tied
output layer is a second copy of the token embedding on its device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.units import MB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.shape import Shape
    from quantpick.domain.tensors import Tensor

#: Bytes of a header at most: vocabulary, merges and chat template are not loaded to a device.
MOST_HEADER = 32 * MB

_INPUT = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
_OUTPUT = frozenset({"output", "output_norm", "token_embd_norm", "altup_proj", "altup_unembd_proj"})


class LayerWeights(NamedTuple):
    """Bytes of one repeating layer: its routed experts, and all else.

    ``largest`` and ``largest_expert`` are the largest single tensors of the two.
    """

    dense: int = 0
    experts: int = 0
    largest: int = 0
    largest_expert: int = 0

    @property
    def total(self) -> int:
        """Bytes of the layer."""
        return self.dense + self.experts


class Weights(NamedTuple):
    """Bytes of a model's tensors by where they go.

    ``embedding`` is what stays in RAM, ``output`` the output layer with, where it is tied, its
    copy of the token embedding (``tied`` bytes of it). ``matrices`` sums the loaded matrices by
    type, without the token embedding: those that the CPU may repack. ``routed`` marks layers with
    routed experts. ``exact`` is False where the types inside the file are not known and the bytes
    were shared out by estimate.
    """

    embedding: int
    output: int
    layers: tuple[LayerWeights, ...]
    tied: int = 0
    matrices: tuple[tuple[str, int], ...] = ()
    routed: bool = False
    exact: bool = True

    @property
    def loaded(self) -> int:
        """Bytes of all tensors that are loaded, each once."""
        return self.embedding + self.output - self.tied + sum(layer.total for layer in self.layers)


def weights_of(tensors: Iterable[Tensor], block_count: int, idle_blocks: int = 0) -> Weights:
    """Sort a tensor table by where llama.cpp puts each tensor.

    The last ``idle_blocks`` (multi-token prediction) are not loaded by default.
    """
    layers = [[0, 0, 0, 0] for _ in range(block_count)]
    embedding = output = token_embd = 0
    token_type, has_output = "", False
    matrices: dict[str, int] = {}
    for tensor in tensors:
        size = tensor.nbytes
        stem, _, rest = tensor.name.partition(".")
        if stem in _INPUT:
            embedding += size
            if stem == "token_embd":
                token_embd, token_type = size, tensor.type
            continue
        block = _block(rest) if stem == "blk" else 0
        if stem in _OUTPUT:
            output += size
            has_output = has_output or tensor.name == "output.weight"
        elif block >= block_count - idle_blocks:
            continue
        else:
            _add(layers[block], size, expert="_exps." in rest or "_chexps." in rest)
        if len(tensor.dims) > 1:
            matrices[tensor.type] = matrices.get(tensor.type, 0) + size
    tied = 0 if has_output else token_embd
    if tied:
        matrices[token_type] = matrices.get(token_type, 0) + tied
    return Weights(
        embedding=embedding,
        output=output + tied,
        layers=tuple(LayerWeights(*layer) for layer in layers),
        tied=tied,
        matrices=tuple(sorted(matrices.items())),
        routed=any(experts for _, experts, _, _ in layers),
    )


def _block(rest: str) -> int:
    number = rest.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _add(layer: list[int], size: int, *, expert: bool) -> None:
    """Count a tensor of a layer: its bytes, and whether it is the largest of its kind."""
    layer[expert] += size
    layer[2 + expert] = max(layer[2 + expert], size)


def spread_weights(file_bytes: int, shape: Shape | None) -> Weights:
    """Share a file's bytes out where the types inside are not known: a bound, not a reading.

    Every number counts the same, and the token embedding is left with the layers, so that a device
    is never said to need less than it does. Without a shape there is one layer, the whole file.
    """
    if shape is None:
        return Weights(0, 0, (LayerWeights(dense=file_bytes),), exact=False)
    numbers = shape.vocab_size * shape.embedding_length
    head = min(file_bytes // 2, file_bytes * numbers // max(shape.parameters, 1))
    layer = (file_bytes - head) // shape.block_count
    rest = file_bytes - head - layer * shape.block_count
    layers = (LayerWeights(layer, largest=layer // 3),) * shape.block_count
    return Weights(0, head + rest, layers, exact=False)
