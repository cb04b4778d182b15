"""A model as a repo offers it: its shape, its licence and its quants, whatever the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.quant import Family, base_label, family_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.shape import Shape
    from quantpick.domain.speed import SpeedTable
    from quantpick.domain.weights import Weights


class QuantFile(NamedTuple):
    """One quant of a repo: a file, or a split set in the order of its shards.

    ``file_bytes`` is the sum over all shards and ``rounded_to`` the step it was rounded to in its
    source (0 = exact). ``sha256`` has one entry a path, or none where unknown. ``recommended`` is
    the word of the repo's card, None where it says nothing. ``weights`` tells where the bytes go,
    None where the types inside are unknown.
    """

    label: str
    file_bytes: int
    paths: tuple[str, ...]
    rounded_to: int = 0
    sha256: tuple[str, ...] = ()
    recommended: bool | None = None
    token_embd_type: str | None = None
    output_type: str | None = None
    weights: Weights | None = None

    @property
    def split(self) -> bool:
        """Whether the quant is cut into several files."""
        return len(self.paths) > 1

    @property
    def exact(self) -> bool:
        """Whether the size is known to the byte."""
        return self.rounded_to == 0

    @property
    def family(self) -> Family:
        """Family of the label."""
        return family_of(self.label)


class Model(NamedTuple):
    """A repo's offer. ``shape`` is None where nothing trustworthy states it.

    ``local`` marks files that are on disk already; ``repo_id`` is then their path.
    """

    repo_id: str
    files: tuple[QuantFile, ...]
    shape: Shape | None = None
    revision: str | None = None
    title: str | None = None
    base_model: str | None = None
    base_gated: bool | None = None
    license: str | None = None
    quantizer: str | None = None
    llama_cpp: int | None = None
    imatrix: bool | None = None
    prompt_format: str | None = None
    aliases: tuple[str, ...] = ()
    local: bool = False

    @property
    def parameters(self) -> int:
        """Parameter count, 0 where unknown (orders unknown models last)."""
        return self.shape.parameters if self.shape else 0

    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the files."""
        return tuple(file.label for file in self.files)


class QuantInfo(NamedTuple):
    """What is known of a label wherever it is used.

    ``rank`` orders labels by quality, 1 the best; ``kld`` is the mean KL divergence against F16
    on the scale of Llama 3 8B, measured or inferred, None where nobody can tell.
    """

    label: str
    bits: int
    rank: int
    tier: str
    note: str
    tensor_types: tuple[str, ...]
    kld: float | None = None


class TypeSupport(NamedTuple):
    """One row of the matrix of tensor types by backend: whether they run there, how fast, who says.

    ``since`` is the first llama.cpp build that runs them, 0 for ever since, None for never: then
    ``checked`` is the build that was looked at and ``otherwise`` what happens (``cpu``: the layers
    fall to the CPU; ``abort``). ``at_latest`` says that an earlier build may run them too.
    ``until`` is the build that dropped them. ``speed`` is ``fast`` or ``slow``, None where nobody
    measured or it depends on the device; slow has its ``why``, and ``slow_until`` where it ended.

    ``instead`` stands in for what llama.cpp loads no more or never did; ``engine`` then loads it.
    """

    tensor_types: tuple[str, ...]
    backends: tuple[str, ...]
    since: int | None
    source: str
    date: str
    at_latest: bool = False
    until: int | None = None
    checked: int | None = None
    otherwise: str | None = None
    needs: str | None = None
    speed: str | None = None
    slow_until: int | None = None
    why: str | None = None
    speed_source: str | None = None
    instead: str | None = None
    engine: str | None = None


class Reference(NamedTuple):
    """The reference tables: labels by name, and the rows on tensor types by (type, backend).

    ``gone`` has the rows of types and labels that today's llama.cpp does not load. A pair without
    a row is one that nothing is known about. ``speeds`` are the fits that predict tokens a second.
    """

    quants: Mapping[str, QuantInfo]
    support: Mapping[tuple[str, str], TypeSupport]
    gone: Mapping[str, TypeSupport]
    speeds: SpeedTable | None = None

    def info(self, label: str) -> QuantInfo | None:
        """Return what is known of a label, else of the one it varies (``UD-Q6_K`` as ``Q6_K``)."""
        return self.quants.get(label) or self.quants.get(base_label(label))
