"""Facts of a repo for its catalog entry: from its listing and a header, or from its card.

What is known already stays, but for what the source at hand knows better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.catalog_diff import LISTING, WORDS
from quantpick.domain.entry import EntryFacts, EntryFile
from quantpick.domain.metadata import shape_of
from quantpick.domain.shape import layers_of
from quantpick.domain.units import format_gb, parse_build
from quantpick.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from quantpick.domain.card import Card, CardRow
    from quantpick.domain.header import Header
    from quantpick.domain.listing import Listing, QuantSet
    from quantpick.domain.shape import Shape

#: The source of what a card says, and of a shape.
CARD, SHAPE = "card", "shape"

#: Share of the parameters by which two counts of one model differ: some count the factors of the
#: rotary frequencies, some do not.
_SAME_COUNT = 0.0001

#: Window patterns that are tried in place of a list of layers.
_PERIODS = range(2, 17)


def blank_facts(repo_id: str) -> EntryFacts:
    """Return what the name of a repo alone tells."""
    owner, _, name = repo_id.partition("/")
    title = name.removesuffix("-GGUF").removesuffix("-gguf").replace("-", " ")
    return EntryFacts(title, None, None, None, owner, None, None, None, None, {})


def with_listing(known: EntryFacts, listing: Listing) -> EntryFacts:
    """Return facts with what a repo says of itself at the Hub."""
    told = (
        f"listing of the repo at the Hub, commit {listing.revision}; sizes and sha256 as it "
        f"gives them"
    )
    return known._replace(
        license=listing.license or known.license,
        base_model=known.base_model or listing.base_model,
        sources={**known.sources, LISTING: told},
    )


def with_header(
    known: EntryFacts, listing: Listing, quant: QuantSet, header: Header
) -> tuple[EntryFacts, str | None]:
    """Return facts with the shape that a header states, and why there is none in it."""
    made = any(key.startswith("quantize.imatrix.") for key in header.metadata)
    known = known._replace(imatrix=True if made else known.imatrix)
    try:
        shape = _with_pattern(shape_of(header))
    except IntegrityError as error:
        return known, error.message
    if known.shape is not None and _agree(known.shape, shape):
        return known, None
    told = f"GGUF header of {quant.files[0].path} at commit {listing.revision}"
    return known._replace(shape=shape, sources={**known.sources, SHAPE: told}), None


def _with_pattern(shape: Shape) -> Shape:
    """Return a shape with a window pattern in place of its layers, where one gives the same."""
    if not shape.sliding_window or shape.sliding_window_pattern:
        return shape
    for period in _PERIODS:
        short = shape._replace(sliding_window_pattern=period, layers=())
        if layers_of(short) == shape.layers:
            return short
    return shape


def _agree(known: Shape, stated: Shape) -> bool:
    """Whether two shapes are the same but for how their parameters were counted."""
    near = abs(known.parameters - stated.parameters) <= _SAME_COUNT * known.parameters
    same = known._replace(parameters=0, layers=()) == stated._replace(parameters=0, layers=())
    return near and same and layers_of(known) == layers_of(stated)


# A card


def with_card(known: EntryFacts, card: Card) -> EntryFacts:
    """Return facts with what a card says where nothing is known."""
    words = card.words
    build = None if words.llama_cpp is None else parse_build(words.llama_cpp)
    return known._replace(
        base_model=known.base_model or words.base_model,
        license=known.license or words.license,
        llama_cpp=build if known.llama_cpp is None else known.llama_cpp,
        imatrix=words.imatrix if known.imatrix is None else known.imatrix,
        prompt_format=known.prompt_format or words.prompt_format,
        sources={CARD: "model card of this repo; sizes as it rounds them", **known.sources},
    )


def with_shape_of(known: EntryFacts, other: EntryFacts, other_id: str) -> EntryFacts:
    """Return facts with the shape of another repo of the same base model."""
    told = f"as catalogued for {other_id}, made from the same base model"
    return known._replace(shape=other.shape, sources={**known.sources, SHAPE: told})


def merge_card(
    known: Iterable[EntryFile], rows: Iterable[CardRow], seen: str
) -> tuple[tuple[EntryFile, ...], tuple[str, ...]]:
    """Return the known files with the card's beside them, and what could not be settled."""
    files: Mapping[str, EntryFile] = {file.label: file for file in known}
    found, notes = dict(files), []
    for row in rows:
        old = files.get(row.label)
        paths = row.paths or (old.paths if old else ())
        if not paths:
            notes.append(f"{row.label} is split, and the card does not name its shards: left out")
        elif old is None or _better(row, old):
            found[row.label] = _file(row._replace(paths=paths), old, seen)
        else:
            found[row.label] = _with_words(old, row)
            if not _agree_in_size(row, old):
                notes.append(
                    f"{row.label} has {format_gb(row.file_bytes)} in the card and "
                    f"{format_gb(old.file_bytes)} in the catalog: kept as it was"
                )
    return tuple(found.values()), tuple(notes)


def _better(row: CardRow, old: EntryFile) -> bool:
    """Whether the card's size is told in smaller steps."""
    return 0 < row.rounded_to < old.rounded_to


def _agree_in_size(row: CardRow, old: EntryFile) -> bool:
    return abs(row.file_bytes - old.file_bytes) <= row.rounded_to + old.rounded_to


def _file(row: CardRow, old: EntryFile | None, seen: str) -> EntryFile:
    """Return the file of a row, with the words known of it and, if it is the same, its digest."""
    new = EntryFile(row.label, row.paths, row.file_bytes, row.rounded_to, (), CARD, seen)
    if old is not None:
        new = new._replace(**{name: getattr(old, name) for name in WORDS})
        if row.paths == old.paths and _agree_in_size(row, old):
            new = new._replace(sha256=old.sha256)
    return _with_words(new, row)


def _with_words(file: EntryFile, row: CardRow) -> EntryFile:
    """Return a row with the card's own words, which nothing else tells."""
    said = file.recommended if row.recommended is None else row.recommended
    return file._replace(
        recommended=said,
        token_embd_type=file.token_embd_type or row.heavy_ends,
        output_type=file.output_type or row.heavy_ends,
    )
