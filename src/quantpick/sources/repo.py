"""A live Hub repo as a Model: its real listing, with what the catalog knows of its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.listing import quant_sets
from quantpick.domain.model import Model, QuantFile

if TYPE_CHECKING:
    from quantpick.domain.listing import Listing, QuantSet


def model_of(listing: Listing, known: Model | None) -> Model:
    """Return the model that a listing offers, one quant a label.

    ``known`` is the catalogued model of the same repo, whose shape and words then still hold.
    Without it the shape is unknown, so the KV cache cannot be counted.
    """
    cards = {file.label: file for file in known.files} if known else {}
    files = tuple(
        _quant_file(sets[0], cards.get(label)) for label, sets in quant_sets(listing).items()
    )
    return Model(
        repo_id=listing.repo_id,
        files=files,
        revision=listing.revision,
        shape=known.shape if known else None,
        title=known.title if known else None,
        base_model=listing.base_model or (known.base_model if known else None),
        base_gated=known.base_gated if known else None,
        license=listing.license or (known.license if known else None),
        quantizer=listing.repo_id.partition("/")[0],
        llama_cpp=known.llama_cpp if known else None,
        imatrix=known.imatrix if known else None,
        prompt_format=known.prompt_format if known else None,
    )


def _quant_file(quant: QuantSet, card: QuantFile | None) -> QuantFile:
    digests = [file.sha256 for file in quant.files if file.sha256]
    return QuantFile(
        label=quant.label,
        file_bytes=sum(file.size for file in quant.files),
        paths=tuple(file.path for file in quant.files),
        sha256=tuple(digests) if len(digests) == len(quant.files) else (),
        recommended=card.recommended if card else None,
        token_embd_type=card.token_embd_type if card else None,
        output_type=card.output_type if card else None,
    )
