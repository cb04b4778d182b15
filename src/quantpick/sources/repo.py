"""A live Hub repo as a Model: its real listing, with its shape from the catalog or a header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.listing import quant_sets
from quantpick.domain.metadata import shape_of
from quantpick.domain.model import Model, QuantFile
from quantpick.domain.plan import targets_of
from quantpick.domain.predict import predict_weights
from quantpick.domain.weights import weights_of

if TYPE_CHECKING:
    from quantpick.domain.header import Header
    from quantpick.domain.listing import Listing, QuantSet
    from quantpick.domain.shape import Shape


def model_of(
    listing: Listing, known: Model | None, read: tuple[QuantSet, Header] | None = None
) -> Model:
    """Return the model that a listing offers, one quant a label.

    ``known`` is the catalogued model of the same repo, whose shape and words then still hold.
    ``read`` is one of the repo's quants with its header. With neither the shape is unknown, so the
    KV cache cannot be counted.
    """
    cards = {file.label: file for file in known.files} if known else {}
    shape = known.shape if known else shape_of(read[1]) if read else None
    files = tuple(
        _with_weights(_quant_file(sets[0], cards.get(label)), cards.get(label), read, shape)
        for label, sets in quant_sets(listing).items()
    )
    return Model(
        repo_id=listing.repo_id,
        files=files,
        revision=listing.revision,
        shape=shape,
        title=known.title if known else None,
        base_model=listing.base_model or (known.base_model if known else None),
        base_gated=known.base_gated if known else None,
        license=listing.license or (known.license if known else None),
        quantizer=listing.repo_id.partition("/")[0],
        llama_cpp=known.llama_cpp if known else None,
        imatrix=known.imatrix if known else None,
        prompt_format=known.prompt_format if known else None,
    )


def readable_quant(listing: Listing) -> QuantSet | None:
    """Return the quant whose header costs least to read: the one in the fewest files."""
    sets = [quant for found in quant_sets(listing).values() for quant in found]
    return min(sets, key=lambda quant: (len(quant.files), quant.label), default=None)


def _with_weights(
    file: QuantFile,
    card: QuantFile | None,
    read: tuple[QuantSet, Header] | None,
    shape: Shape | None,
) -> QuantFile:
    """Say where a quant's bytes go, as the catalog or a header of the repo tells."""
    if read is not None and shape is not None:
        quant, header = read
        if file.paths == tuple(target.path for target in targets_of(quant.files)):
            own = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
            return file._replace(weights=own)
        return file._replace(weights=predict_weights(header, shape, file.label, file.file_bytes))
    # A file of another size than the catalogued one is another mix.
    same = card is not None and abs(card.file_bytes - file.file_bytes) <= max(
        card.rounded_to, file.file_bytes // 1000
    )
    return file._replace(weights=card.weights if card and same else None)


def _quant_file(quant: QuantSet, card: QuantFile | None) -> QuantFile:
    digests = [file.sha256 for file in quant.files if file.sha256]
    return QuantFile(
        label=quant.label,
        file_bytes=sum(file.size for file in quant.files),
        paths=tuple(target.path for target in targets_of(quant.files)),
        sha256=tuple(digests) if len(digests) == len(quant.files) else (),
        recommended=card.recommended if card else None,
        token_embd_type=card.token_embd_type if card else None,
        output_type=card.output_type if card else None,
    )
