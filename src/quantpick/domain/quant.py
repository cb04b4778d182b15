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
    from typing import TypeAlias

    #: A GGUF file's name without its ending, and what the ending says: number, total, byte cut.
    _Piece: TypeAlias = tuple[str, int | None, int | None, bool]


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

    ``raw_part`` marks a plain byte cut (``.gguf.part1of2``) that has to be joined before use. An
    index without a count is a piece of a set whose size the name does not tell.
    """

    label: str | None
    kind: FileKind
    shard_index: int | None = None
    shard_count: int | None = None
    raw_part: bool = False


_K_QUANT = r"Q[2-8]_K(?:_(?:X{0,2}L|XS|[MSPH]))?"
_LEGACY = r"Q[1-8]_[01](?:_4_[48]|_8_8|_X{0,2}L|_[PH])?"
_I_QUANT = r"IQ[1-6]_(?:X(?:XS|SR?)|[SM]R?|NL|K(?:SS?|[TL])?|BN)(?:_X?L)?"
_OTHER = r"TQ[12]_0|MXFP4(?:_MOE(?:_B?F16)?)?|NVFP4"
_FLOAT = r"BF16|FP?(?:16|32)"
# One pattern for both a label alone and a label inside a name: compiling it is what costs, so it is
# short. Its last line keeps Q4_K-M from being read as Q4_K: a label spelt in another way is none.
_LABEL = re.compile(
    rf"(?<![A-Z0-9])(?:(?:UD|AD|i1)-)?"
    rf"(?:(?:B?F16_)?(?:{_K_QUANT}|{_LEGACY}|{_I_QUANT})(?:_R(?:[48]|16))?|{_OTHER}|{_FLOAT})"
    rf"(?![A-Z0-9]|-X?[SML](?![A-Z0-9]))",
    re.IGNORECASE | re.ASCII,
)
# The next two are compiled when a name first needs them, which at the start of a run is never.
# -chunk-001-of-018 is a byte cut, -00001-of-00003 a shard, -00003 one of a set of unknown size.
_SHARD = (
    r"[-_.](?:chunk|part)[-_.]?(\d+)[-_]?of[-_]?(\d+)$"
    r"|(?:[-_.]split)?(?:^|[-_.])(\d+)[-_]of[-_](\d+)$"
    r"|(?:[-_.]split)?-(00\d{3})$"
)
# What tools that cut files put behind the whole name: .part1of2 .part-01 .partaa -split-a .b .001
_CUT = (
    r"\.gguf[-_.](?:(?:part|split)[-_.]?"
    r"(?:(\d+)(?:[-_]?of[-_]?(\d+))?|((?<![a-z])[a-z]{1,2}|a[a-z]))"
    r"|(\d{3})|([a-z]|a[a-z]))$"
)
#: No piece of a set has a number with more digits; reading thousands of them would take long.
_MAX_DIGITS = 6
_PREFIXES = ("UD-", "AD-", "I1-")
_SPELLING = {"FP16": "F16", "FP32": "F32"}

_FORK_TYPES = ("KSS", "KS", "KT", "KL", "K", "BN")
_OTHER_FAMILIES = {
    "TQ1": Family.TERNARY,
    "TQ2": Family.TERNARY,
    "MXFP4": Family.FP4,
    "NVFP4": Family.FP4,
}
#: Unsloth's smallest mix is named for a type that is not in it (reference/quants.json).
_MISNAMED = {"UD-TQ1_0": "IQ1_M"}
_AUTHOR_SUFFIXES = ("_P", "_H", "_XSR", "_SR", "_MR")

# Lower case with one separator. Only ASCII is changed, so that places in the name stay the same.
_PLAIN = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ_. ", "abcdefghijklmnopqrstuvwxyz---")
_FLOATS = {"BF16", "F16", "F32"}
_BARE = {f"q{bits}" for bits in range(1, 9)}
_FOLDERS = {
    "mmproj": FileKind.MMPROJ,
    "mtp": FileKind.MTP,
    "draft": FileKind.DRAFT,
    "lora": FileKind.LORA,
    "loras": FileKind.LORA,
}
# The first that is in the plain name counts. MTP inside a name tells of a model with such layers,
# and EAGLE without a 3 of a family of models: neither is a sign.
_SIGNS = (
    ("mmproj", FileKind.MMPROJ),
    ("-projector-", FileKind.MMPROJ),
    ("-clip-vit-", FileKind.MMPROJ),
    ("-mtp-head-", FileKind.MTP),
    ("-draft-", FileKind.DRAFT),
    ("-drafter-", FileKind.DRAFT),
    ("-speculator-", FileKind.DRAFT),
    ("-eagle3-", FileKind.DRAFT),
    ("-eagle-3-", FileKind.DRAFT),
    ("-dflash-", FileKind.DRAFT),
    ("-dspark-", FileKind.DRAFT),
)
_NO_MODEL = ("-ggml-vocab-", "-tokenizer-")
_ADAPTERS = ("-adapter-", "-adapters-", "-ggml-adapter-", "-ggml-lora-")


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
    return label[3:] if label.upper().startswith(_PREFIXES) else label


def matching_labels(wanted: str, labels: Iterable[str]) -> list[str]:
    """Return the labels that a user's word stands for, in their order.

    The label itself if it is there, in any case; else those that differ by who mixed them, so that
    ``q4_k_xl`` finds ``UD-Q4_K_XL``. Never a part of a longer label.
    """
    label, known = canonical_label(wanted) or wanted, list(labels)
    return [label] if label in known else [name for name in known if base_label(name) == label]


def family_of(label: str) -> Family:
    """Family of a label; an author's own word for a mix is UNKNOWN, never a guess."""
    base = _MISNAMED.get(label.upper(), base_label(label))
    if base in _FLOATS:
        return Family.FLOAT
    # A label such as BF16_Q4_K names the type of embedding and output before that of the rest.
    base = base.partition("16_")[2] or base
    kind, _, rest = base.partition("_")
    if base.endswith(("_R4", "_R8", "_R16")) or kind in {"IQ5", "IQ6"}:
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
    folder's name. A file that is no GGUF is OTHER, unless it is importance-matrix data. So is a
    piece whose numbers cannot be (``-00009-of-00003``): no engine loads it.
    """
    parent, _, name = path.rpartition("/")
    folder = parent.rpartition("/")[2]
    piece = _piece(name)
    if piece is None:
        return FileName(None, FileKind.IMATRIX if _is_matrix_data(name) else FileKind.OTHER)
    stem, index, count, raw_part = piece
    if index is not None and not 1 <= index <= (index if count is None else count):
        return FileName(None, FileKind.OTHER)
    found = _last_label(stem)
    kind = _kind_of(stem, found, folder)
    label = None
    if kind not in {FileKind.IMATRIX, FileKind.OTHER}:
        found = found or _last_label(folder)
        label = canonical_label(found.group()) if found else None
    return FileName(label, kind, index, count, raw_part)


def set_name(path: str) -> str:
    """Return a path without its place in a set: equal for all pieces of one set, and for no other.

    The number of pieces stays part of it: sets of other lengths are other sets.
    """
    folder, _, name = path.rpartition("/")
    piece = _piece(name)
    if piece is None or piece[1] is None:
        return path
    stem, _, count, raw_part = piece
    return f"{folder}/{stem} {count} {raw_part}"


def whole_path(path: str) -> str:
    """Return the path of the file that a raw byte part is cut from."""
    folder, slash, name = path.rpartition("/")
    piece = _piece(name)
    return f"{folder}{slash}{piece[0]}.gguf" if piece else path


def _piece(name: str) -> _Piece | None:
    """Return what the end of a name says, None if it is not the name of a GGUF file."""
    if name[-5:].lower() != ".gguf":
        return _cut_piece(name)
    # macOS writes a small "._x.gguf" beside an "x.gguf" on foreign disks.
    if name.startswith("._"):
        return None
    stem = name[:-5]
    shard = re.search(_SHARD, stem, re.IGNORECASE | re.ASCII) if stem[-1:].isdigit() else None
    if shard is None:
        return stem, None, None, False
    raw, raw_total, number, total, lone = map(_number, shard.groups())
    if raw is not None:
        return stem[: shard.start()], raw, raw_total, True
    return stem[: shard.start()], lone if number is None else number, total, False


def _cut_piece(name: str) -> _Piece | None:
    cut = re.search(_CUT, name, re.IGNORECASE | re.ASCII)
    if cut is None:
        return None
    digits, total, letters, bare_digits, bare_letters = cut.groups()
    letters = letters or bare_letters
    number = _place(letters) if letters else _number(digits or bare_digits)
    # Some tools count from 0: without a total, what their first number means is not known.
    number = number if total or number else None
    return name[: cut.start()], number, _number(total), True


def _number(digits: str | None) -> int | None:
    """Return the number; 0, which no piece has, for more digits than any piece needs."""
    if digits is None:
        return None
    return int(digits) if len(digits) <= _MAX_DIGITS else 0


def _place(text: str) -> int:
    """Return the place of a or aa (1), b or ab (2), ba (27): how the tool ``split`` counts."""
    *tens, last = (ord(letter) - ord("a") for letter in text.lower())
    return sum(tens) * 26 + last + 1


def _is_matrix_data(name: str) -> bool:
    lower = name.lower()
    if lower.endswith(".imatrix"):
        return True
    return lower.endswith((".dat", ".gguf_file")) and "-imat" in f"-{name.translate(_PLAIN)}"


def _kind_of(stem: str, found: re.Match[str] | None, folder: str) -> FileKind:
    plain = f"-{stem.translate(_PLAIN)}-"
    if _is_imatrix(stem, plain, found):
        return FileKind.IMATRIX
    if plain.startswith("-mtp-"):
        return FileKind.MTP
    kind = next((kind for sign, kind in _SIGNS if sign in plain), None)
    if kind is not None:
        return kind
    if plain.startswith(_NO_MODEL) or plain.endswith(("-vocab-", "-tokenizer-")):
        return FileKind.OTHER
    if _is_adapter(stem, plain, found):
        return FileKind.LORA
    return _FOLDERS.get(folder.translate(_PLAIN), FileKind.MODEL)


def _is_imatrix(stem: str, plain: str, found: re.Match[str] | None) -> bool:
    """Whether the word imatrix names the data, not that a model was quantized with such data."""
    at = plain.rfind("-imatrix")
    if at < 0 or plain.startswith("-imatrix"):
        return at >= 0
    if found is None:
        return True
    if found.start() > at:
        return False
    # x-Q8_0-imatrix and x.F16.imatrix name the file that the data was counted on. Only a label
    # between dots is the model's own (x.Q4_0.imatrix), and no float is made with a matrix.
    own = stem[: found.start()].endswith(".") and stem[found.end() :].lower() == ".imatrix"
    return not own or canonical_label(found.group()) in _FLOATS


def _is_adapter(stem: str, plain: str, found: re.Match[str] | None) -> bool:
    """Whether the name is a LoRA adapter's; one that merely holds the word is a merged model's.

    An adapter is converted to a float, which ``-`` or ``_`` sets off from the word lora; and merged
    models alone spell the word LoRA before that.
    """
    if plain.startswith(_ADAPTERS):
        return True
    if found is not None and found.end() == len(stem):
        label, before = canonical_label(found.group()), stem[: found.start()]
        if label not in _FLOATS or not before.endswith(("-", "_")) or "LoRA" in stem:
            return False
        plain = plain[: found.start() + 1]
    return plain.startswith("-lora-") or plain.endswith(("-lora-", "-adapter-"))


def _last_label(text: str) -> re.Match[str] | None:
    """Return the last label, None if a bare Q8 behind it says that it is not the whole truth."""
    labels = list(_LABEL.finditer(text))
    if not labels:
        return None
    found = labels[-1]
    words = text[found.end() :].translate(_PLAIN).split("-")
    return None if any(word in _BARE for word in words) else found
