"""The matrix of tensor types by backend as rows to show, and what stands in for dead types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from quantpick.domain.model import Reference, TypeSupport


class MatrixRow(NamedTuple):
    """A tensor type with its row for each backend, in the order of ``matrix_backends``."""

    tensor_type: str
    cells: tuple[TypeSupport | None, ...]


def matrix_backends(reference: Reference) -> tuple[str, ...]:
    """Return the backends of the matrix in the order of the catalog."""
    return tuple(dict.fromkeys(backend for _, backend in reference.support))


def matrix_rows(reference: Reference) -> tuple[MatrixRow, ...]:
    """Return the tensor types in the order of the catalog, each with all of its backends."""
    backends = matrix_backends(reference)
    kinds = dict.fromkeys(kind for kind, _ in reference.support)
    return tuple(
        MatrixRow(kind, tuple(reference.support.get((kind, backend)) for backend in backends))
        for kind in kinds
    )


def gone_rows(reference: Reference) -> tuple[tuple[str, TypeSupport], ...]:
    """Return the types that today's llama.cpp does not load, each with the row that says more."""
    return tuple(reference.gone.items())


def matrix_record(reference: Reference) -> dict[str, Any]:
    """Return the matrix as plain values: one record a type and backend, and the types gone."""
    cells = [
        _record(kind, {"backend": backend}, row)
        for (kind, backend), row in reference.support.items()
    ]
    gone = [_record(kind, {}, row) for kind, row in gone_rows(reference)]
    return {"support": cells, "gone": gone}


def _record(kind: str, place: dict[str, str], row: TypeSupport) -> dict[str, Any]:
    told = row._asdict()
    del told["tensor_types"], told["backends"]
    return {"tensor_type": kind, **place, **told}
