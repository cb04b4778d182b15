"""Quant labels and file names: what the words in a GGUF repo mean.

A label names the scheme of a whole file (Q4_K_M); a tensor type names the encoding of one tensor
(Q4_K). The two are never mixed. Labels are read from names here and nowhere else.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Family(StrEnum):
    """How a quant stores its numbers; decides what is fast where."""

    K = "K"
    I = "I"  # noqa: E741 -- the field's own name
    LEGACY = "legacy"
    FLOAT = "float"
    TERNARY = "ternary"
    FP4 = "fp4"
    #: Types that only the fork ik_llama.cpp can load.
    FORK = "fork"
    #: An author's own word for a mix; the types inside are unknown.
    UNKNOWN = "unknown"


class FileKind(StrEnum):
    """What a file of a GGUF repo is for."""

    MODEL = "model"
    MMPROJ = "mmproj"
    IMATRIX = "imatrix"
    DRAFT = "draft"
    MTP = "mtp"
    LORA = "lora"
    OTHER = "other"


class FileName(NamedTuple):
    """What a file's name says; ``shard_index`` counts from 1 as file names do.

    ``raw_part`` marks a plain byte cut (``.gguf.part1of2``) that has to be joined before use.
    """

    label: str | None
    kind: FileKind
    shard_index: int | None = None
    shard_count: int | None = None
    raw_part: bool = False


_K_QUANT = r"Q[2-8]_K(?:_(?:XXL|XL|XS|L|M|S|P|H))?"
_LEGACY = r"Q[1-8]_[01](?:_4_4|_4_8|_8_8|_XL|_L)?"
_I_QUANT = r"IQ[1-6]_(?:XXS|XSR|XS|SR|S|MR|M|NL|KSS|KS|KT|KL|K|BN)(?:_(?:XL|L))?"
_OTHER = r"TQ[12]_0|MXFP4(?:_MOE)?|NVFP4"
_FLOAT = r"BF16|FP?16|FP?32"
# One pattern for both a label alone and a label inside a name: compiling it is what costs.
_LABEL = re.compile(
    rf"(?<![A-Za-z0-9])(?:(?:UD|AD|i1)-)?"
    rf"(?:(?:(?:BF16|F16)_)?(?:{_K_QUANT}|{_LEGACY}|{_I_QUANT})(?:_R[48])?|{_OTHER}|{_FLOAT})"
    rf"(?![A-Za-z0-9])",
    re.IGNORECASE | re.ASCII,
)
_SHARD = re.compile(r"(?:[-.]split)?-(\d{3,6})-of-(\d{3,6})$", re.IGNORECASE | re.ASCII)
_RAW_PART = re.compile(r"\.gguf\.part(\d{1,3})of(\d{1,3})$", re.IGNORECASE | re.ASCII)
_PREFIX = re.compile(r"^(?:UD|AD|i1)-", re.IGNORECASE)
_SPELLING = {"FP16": "F16", "FP32": "F32"}

_FORK_TYPES = ("KSS", "KS", "KT", "KL", "K", "BN")
_OTHER_FAMILIES = {
    "TQ1": Family.TERNARY,
    "TQ2": Family.TERNARY,
    "MXFP4": Family.FP4,
    "NVFP4": Family.FP4,
}
_AUTHOR_SUFFIXES = ("_P", "_H", "_XSR", "_SR", "_MR")

_KINDS = (
    (re.compile(r"^imatrix|[-_.]imatrix$"), FileKind.IMATRIX),
    (re.compile(r"mmproj"), FileKind.MMPROJ),
    (re.compile(r"^mtp-"), FileKind.MTP),
    (re.compile(r"(?:^|[-_.])draft[-_.]|^eagle3-"), FileKind.DRAFT),
    # A name that merely holds the word LoRA is a merged model; an adapter ends in it.
    (re.compile(r"[-_.](?:lora|adapter)$|^ggml-(?:lora|adapter)"), FileKind.LORA),
)


def canonical_label(text: str) -> str | None:
    """Return the usual spelling of a label (``q4_k_m`` becomes ``Q4_K_M``), None if it is none."""
    if _LABEL.fullmatch(text) is None:
        return None
    label = text.upper()
    if label.startswith("I1-"):
        return "i1-" + label[3:]
    return _SPELLING.get(label, label)


def base_label(label: str) -> str:
    """Return the label without the prefix that names who mixed it (``UD-``, ``i1-``)."""
    return _PREFIX.sub("", label)


def matching_labels(wanted: str, labels: Iterable[str]) -> list[str]:
    """Return the labels that a user's word stands for, in their order.

    The label itself if it is there, in any case; else those that differ by who mixed them, so that
    ``q4_k_xl`` finds ``UD-Q4_K_XL``. Never a part of a longer label.
    """
    label, known = canonical_label(wanted) or wanted, list(labels)
    return [label] if label in known else [name for name in known if base_label(name) == label]


def family_of(label: str) -> Family:
    """Family of a label; an author's own word for a mix is UNKNOWN, never a guess."""
    base = base_label(label)
    if base in {"BF16", "F16", "F32"}:
        return Family.FLOAT
    # A label such as BF16_Q4_K names the type of embedding and output before that of the rest.
    base = base.partition("16_")[2] or base
    kind, _, rest = base.partition("_")
    if base.endswith(("_R4", "_R8")) or kind in {"IQ5", "IQ6"}:
        return Family.FORK
    if base.endswith(_AUTHOR_SUFFIXES):
        return Family.UNKNOWN
    if kind.startswith("IQ"):
        return Family.FORK if rest in _FORK_TYPES else Family.I
    if kind.startswith("Q"):
        return Family.K if rest.startswith("K") else Family.LEGACY
    return _OTHER_FAMILIES.get(kind, Family.UNKNOWN)


def parse_filename(path: str) -> FileName:
    """Read label, kind and shard from a path inside a repo.

    Pure: looks at the name alone. The last label in the file's name counts, then one in its
    folder's name. A file that is no GGUF is OTHER, unless it is importance-matrix data.
    """
    folder, _, name = path.rpartition("/")
    lower = name.lower()
    if lower.endswith((".imatrix", "imatrix.dat")):
        return FileName(None, FileKind.IMATRIX)
    part = _RAW_PART.search(name)
    if part is None and not lower.endswith(".gguf"):
        return FileName(None, FileKind.OTHER)
    stem = name[: part.start()] if part else name[: -len(".gguf")]
    shard = part or _SHARD.search(stem)
    stem = stem if part or shard is None else stem[: shard.start()]
    kind = next((k for pattern, k in _KINDS if pattern.search(stem.lower())), FileKind.MODEL)
    label = None
    if kind is not FileKind.IMATRIX:
        label = _last_label(stem) or _last_label(folder.rpartition("/")[2])
    if shard is None:
        return FileName(label, kind)
    index, count = int(shard.group(1)), int(shard.group(2))
    return FileName(label, kind, index, count, raw_part=part is not None)


def _last_label(text: str) -> str | None:
    found = [canonical_label(match.group()) for match in _LABEL.finditer(text)]
    return found[-1] if found else None
