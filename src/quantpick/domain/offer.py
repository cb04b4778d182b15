"""What of a repo is offered, and the projector that goes with it.

A type that llama.cpp cannot load is named as such and offered only to who names its file.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from quantpick.domain.compatibility import stand_in
from quantpick.domain.names import near_hint, unsafe_path
from quantpick.domain.quant import (
    Family,
    FileKind,
    base_label,
    canonical_label,
    family_of,
    parse_filename,
)
from quantpick.errors import NotFoundError

if TYPE_CHECKING:
    from quantpick.domain.listing import Listing, QuantSet, RemoteFile
    from quantpick.domain.model import Reference

#: Asks for the projector of the usual type.
USUAL = "auto"

#: Types of a projector from the one most often published and asked for to the least.
_PROJECTOR_TYPES = ("F16", "BF16", "Q8_0", "F32")


def check_offered(listing: Listing, quant: QuantSet, reference: Reference) -> None:
    """Raise NotFoundError for a quant that mainline llama.cpp cannot load, or is not known to."""
    path = quant.files[0].path
    reason = why_not_offered(quant.label, path, reference)
    if reason is not None:
        raise NotFoundError(
            f"{quant.label} of {listing.repo_id} is not offered: {reason}",
            "choose another quant",
            f"to fetch it all the same, name its file: quantpick download {listing.repo_id}:{path}",
        )


def why_not_offered(label: str, path: str, reference: Reference) -> str | None:
    """Return why a quant is offered only to who names its file, None where it is offered."""
    if "SPECIAL_TENSOR" in path.upper():
        return "its files hold one tensor each, to be mixed by a recipe"
    family, info = family_of(label), reference.info(label)
    gone = reference.gone.get(base_label(label))
    if family is Family.FORK or (gone is not None and gone.engine):
        instead = stand_in(label, reference)
        return f"only the fork ik_llama.cpp loads this type: run that, or take {instead}"
    if gone is not None:
        why = f" ({gone.why})" if gone.why else ""
        return f"llama.cpp dropped this type in b{gone.until}: take {gone.instead}{why}"
    if family is Family.UNKNOWN and info is None:
        return "the label is its author's own, and what is inside is not known"
    return None


def find_projector(listing: Listing, quant: QuantSet, wanted: str) -> RemoteFile:
    """Return the projector of a quant's model; ``wanted`` is a type, or ``auto`` for the usual one.

    Only those nearest in folder and name can be the model's. Raises NotFoundError where there is
    none, none of that type, or several that could be meant.
    """
    found = [file for file in listing.files if _is_projector(file.path)]
    if not found:
        raise NotFoundError(f"{listing.repo_id} has no projector", "leave out --with-mmproj")
    model = quant.files[0].path
    near = max(_nearness(file.path, model) for file in found)
    types: dict[str, list[RemoteFile]] = {}
    for file in found:
        if _nearness(file.path, model) == near:
            types.setdefault(parse_filename(file.path).label or "unnamed", []).append(file)
    label = min(types, key=_usual) if wanted == USUAL else canonical_label(wanted) or wanted
    if label not in types:
        raise NotFoundError(
            f"{listing.repo_id} has no projector {wanted} for {quant.label}",
            near_hint(wanted, sorted(types)),
        )
    if len(types[label]) > 1:
        raise NotFoundError(
            f"{len(types[label])} projectors of {listing.repo_id} could go with {quant.label}: "
            + ", ".join(file.path for file in types[label]),
            f"fetch one by its path: quantpick download {listing.repo_id}:PATH",
        )
    return types[label][0]


def _usual(label: str) -> tuple[int, str]:
    """Return the place of a projector's type among those published, the usual first."""
    known = label in _PROJECTOR_TYPES
    return _PROJECTOR_TYPES.index(label) if known else len(_PROJECTOR_TYPES), label


def _nearness(projector: str, model: str) -> tuple[int, int]:
    """Return how many folders two files share, and how many words at the start of their names."""
    *folders, name = projector.split("/")
    *model_folders, model_name = model.split("/")
    words = re.split(r"[-_.]+", re.sub(r"(?i)^mmproj[-_.]?(?:model[-_.])?", "", name))
    model_words = re.split(r"[-_.]+", model_name)
    return _alike(folders, model_folders), _alike(words, model_words)


def _alike(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))


def _is_projector(path: str) -> bool:
    return parse_filename(path).kind is FileKind.MMPROJ and not unsafe_path(path)
