"""From the key-values of a GGUF header to a model's shape, by llama.cpp's own defaults.

Which layers keep what follows each architecture's ``load_arch_hparams`` in src/models/*.cpp and
``llama_model::create_memory`` (llama-model.cpp), read at build b11540.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from quantpick.domain.header import LongArray
from quantpick.domain.shape import MOST_BLOCKS, Layer, Shape
from quantpick.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.domain.header import Header, Value

#: Window pattern where the file gives none: every n-th layer is full. Architectures in the second
#: table have a window of this size unless the file states one; others need the file's key.
_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
}
_DEFAULT_WINDOWS = {"gemma2": 4096, "llama4": 8192}

#: Architectures with the window pattern as an array in the file, and no default.
_PATTERN_IN_FILE = frozenset({"gemma4", "granite-swa", "mimo2", "step35"})

_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
#: Hybrids whose layers without KV heads are the recurrent ones.
_RECURRENT_WITHOUT_HEADS = frozenset(
    {"jamba", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear", "plamo2"}
)
#: Hybrids with attention in every n-th layer.
_RECURRENT_BY_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_NEMOTRON = frozenset({"nemotron_h", "nemotron_h_moe"})

#: Layers from the start that have a cache of their own, where the file does not say.
_OWN_CACHE = {"gemma3n": 20}

#: Architectures with plain attention in every layer.
_PLAIN = frozenset(
    {
        "arcee",
        "command-r",
        "dots1",
        "ernie4_5",
        "ernie4_5-moe",
        "exaone",
        "gemma",
        "glm4",
        "glm4moe",
        "granite",
        "granitemoe",
        "hunyuan-dense",
        "hunyuan-moe",
        "internlm2",
        "llama",
        "minimax-m2",
        "mistral3",
        "nemotron",
        "olmo",
        "olmoe",
        "phi2",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen2moe",
        "qwen2vl",
        "qwen3",
        "qwen3moe",
        "qwen3vl",
        "qwen3vlmoe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
#: Attention over a latent cache, if the file is converted for it.
_LATENT = frozenset({"deepseek2"})

KNOWN = frozenset(
    _PLAIN
    | _LATENT
    | _PERIODS.keys()
    | _PATTERN_IN_FILE
    | {"mamba", "mamba2", "falcon-h1"}
    | _RECURRENT_WITHOUT_HEADS
    | _RECURRENT_BY_INTERVAL
    | _NEMOTRON
)


class _Keys:
    """Typed look-ups below the architecture's prefix."""

    def __init__(self, metadata: Mapping[str, Value], architecture: str, blocks: int) -> None:
        self._metadata = metadata
        self._prefix = architecture
        self._blocks = blocks

    def value(self, name: str) -> Value | None:
        return self._metadata.get(f"{self._prefix}.{name}")

    def count(self, name: str, default: int = 0) -> int:
        """Return a whole number; of an array its largest."""
        value = self.value(name)
        if isinstance(value, tuple):
            return max((int(item) for item in value if isinstance(item, int)), default=default)
        return value if isinstance(value, int) and value >= 0 else default

    def by_layer(self, name: str, default: int) -> list[int]:
        """Return a number a layer: an array as it is, a scalar repeated."""
        value = self.value(name)
        if isinstance(value, tuple):
            items = [int(item) if isinstance(item, int) else default for item in value]
            return (items + [default] * self._blocks)[: self._blocks]
        return [value if isinstance(value, int) else default] * self._blocks


def shape_of(header: Header) -> Shape:
    """Return the shape that a header states.

    Raises IntegrityError when a figure is missing that no model can do without.
    """
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise _missing("general.architecture")
    keys = _Keys(header.metadata, architecture, 0)
    blocks = keys.count("block_count")
    if not 0 < blocks <= MOST_BLOCKS:
        raise _missing(f"{architecture}.block_count")
    keys = _Keys(header.metadata, architecture, blocks)
    heads = keys.count("attention.head_count")
    width = keys.count("embedding_length")
    if width <= 0:
        raise _missing(f"{architecture}.embedding_length")
    head_width = width // heads if heads else 0
    layers = _layers(architecture, keys, head_width)
    names = {tensor.name for tensor in header.tensors}
    return Shape(
        architecture=architecture,
        parameters=sum(prod(tensor.dims) for tensor in header.tensors),
        block_count=blocks,
        idle_blocks=min(keys.count("nextn_predict_layers"), blocks),
        head_count=heads,
        head_count_kv=keys.count("attention.head_count_kv", heads),
        key_length=keys.count("attention.key_length", head_width),
        value_length=keys.count("attention.value_length", head_width),
        embedding_length=width,
        feed_forward_length=keys.count("feed_forward_length"),
        vocab_size=_vocab_size(header),
        context_length=keys.count("context_length"),
        sliding_window=_window(architecture, keys) or None,
        tied="output.weight" not in names,
        expert_count=keys.count("expert_count"),
        expert_used_count=keys.count("expert_used_count"),
        expert_feed_forward_length=keys.count("expert_feed_forward_length"),
        layers=layers,
        latent_query=keys.count("attention.key_length_mla") if _latent(keys) else 0,
        recurrent_rows=_recurrent_rows(keys),
        per_layer_inputs=keys.count("embedding_length_per_layer_input") * blocks,
        known=architecture in KNOWN,
    )


def _missing(key: str) -> IntegrityError:
    return IntegrityError(
        f"the GGUF header has no usable {key}",
        "it is not a language model; give the model's file, not its projector or an adapter",
    )


def _vocab_size(header: Header) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, LongArray):
        return tokens.length
    return len(tokens) if isinstance(tokens, tuple) else 0


def _latent(keys: _Keys) -> bool:
    return bool(keys.count("attention.key_length_mla") and keys.count("attention.value_length_mla"))


def _layers(architecture: str, keys: _Keys, head_width: int) -> tuple[Layer, ...]:
    heads = keys.by_layer("attention.head_count", 0)
    kv_heads = keys.by_layer("attention.head_count_kv", max(heads, default=0))
    windowed = _windowed(architecture, keys, len(heads))
    recurrent, attending = _roles(architecture, keys, kv_heads)
    own = keys.count("attention.shared_kv_layers")
    own = len(heads) - own if own else _OWN_CACHE.get(architecture, len(heads))
    trunk = len(heads) - keys.count("nextn_predict_layers")
    state = _state(keys, max(heads, default=0))
    wide = [_widths(keys, head_width, window=window) for window in windowed]
    return tuple(
        Layer(
            key_width=kv_heads[index] * wide[index][0] if attends else 0,
            value_width=kv_heads[index] * wide[index][1] if attends and not _latent(keys) else 0,
            windowed=windowed[index],
            state=state if recurrent[index] and index < trunk else 0,
        )
        for index in range(len(heads))
        for attends in [attending[index] and index < min(own, trunk)]
    )


def _widths(keys: _Keys, head_width: int, *, window: bool) -> tuple[int, int]:
    key = keys.count("attention.key_length", head_width)
    value = keys.count("attention.value_length", head_width)
    if window:
        key = keys.count("attention.key_length_swa", key)
        value = keys.count("attention.value_length_swa", value)
    return key, value


def _window(architecture: str, keys: _Keys) -> int:
    """Return the sliding window in tokens, 0 where llama.cpp uses none."""
    if architecture not in _PERIODS and architecture not in _PATTERN_IN_FILE:
        # phi3 and starcoder2 files state a window that llama.cpp ignores.
        return 0
    stated = keys.value("attention.sliding_window")
    if architecture == "llama4":
        return 0 if stated == 0 else _DEFAULT_WINDOWS["llama4"]
    return keys.count("attention.sliding_window", _DEFAULT_WINDOWS.get(architecture, 0))


def _windowed(architecture: str, keys: _Keys, blocks: int) -> list[bool]:
    if not _window(architecture, keys):
        return [False] * blocks
    pattern = keys.value("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return ([bool(item) for item in pattern] + [False] * blocks)[:blocks]
    period = pattern if isinstance(pattern, int) else _PERIODS.get(architecture, 1)
    return [period == 0 or index % period < period - 1 for index in range(blocks)]


def _roles(
    architecture: str, keys: _Keys, kv_heads: Sequence[int]
) -> tuple[list[bool], list[bool]]:
    """Return which layers are recurrent, and which attend."""
    blocks = len(kv_heads)
    if architecture in _RECURRENT:
        return [True] * blocks, [False] * blocks
    if architecture == "falcon-h1" or architecture not in KNOWN:
        # Of an architecture that is not known each layer may be both: a bound.
        return [True] * blocks, [True] * blocks
    recurrent = [False] * blocks
    if architecture in _RECURRENT_WITHOUT_HEADS:
        recurrent = [count == 0 for count in kv_heads]
    elif architecture in _NEMOTRON:
        wide = keys.by_layer("feed_forward_length", 0)
        recurrent = [not count and not ff for count, ff in zip(kv_heads, wide, strict=True)]
        return recurrent, [not r and not ff for r, ff in zip(recurrent, wide, strict=True)]
    elif architecture in _RECURRENT_BY_INTERVAL:
        recurrent = _recurrent_by_interval(keys, blocks)
    return recurrent, [not r for r in recurrent]


def _recurrent_by_interval(keys: _Keys, blocks: int) -> list[bool]:
    stated = keys.value("attention.recurrent_layers")
    if isinstance(stated, tuple):
        return ([bool(item) for item in stated] + [False] * blocks)[:blocks]
    interval = keys.count("full_attention_interval", 4) or 4
    return [(index + 1) % interval != 0 for index in range(blocks)]


def _state(keys: _Keys, heads: int) -> int:
    """Numbers of recurrent state a sequence and layer: n_embd_r + n_embd_s of llama-hparams.cpp."""
    width = keys.count("embedding_length")
    head = keys.count("wkv.head_size")
    if head:
        return keys.count("token_shift_count", 2) * width + width * head
    kept = keys.count("shortconv.l_cache")
    if kept:
        return width * (kept - 1)
    kernel = keys.count("ssm.conv_kernel")
    linear = keys.count("kda.head_dim")
    if linear:
        return (3 * (kernel - 1 if kernel else 3) + linear) * linear * heads
    inner, size = keys.count("ssm.inner_size"), keys.count("ssm.state_size")
    mixed = inner + 2 * keys.count("ssm.group_count") * size
    return max(kernel - 1, 0) * mixed + size * inner


def _recurrent_rows(keys: _Keys) -> int:
    """Numbers a token that a state-space layer of the Mamba 2 kind works on.

    Its input projection twice, the convolution's and the scan's output; found by measuring. 0 for
    other layers, whose feed-forward part needs more.
    """
    if not keys.count("ssm.time_step_rank") or keys.count("full_attention_interval"):
        return 0
    inner = keys.count("ssm.inner_size")
    mixed = inner + 2 * keys.count("ssm.group_count") * keys.count("ssm.state_size")
    return 2 * (inner + mixed + keys.count("ssm.time_step_rank")) + mixed + inner
