"""GGUF files on disk as a Model: each with its own header, so with nothing left to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantpick import gguf_header
from quantpick.domain.inspection import summary
from quantpick.domain.metadata import shape_of
from quantpick.domain.model import Model, QuantFile
from quantpick.domain.quant import FileKind, parse_filename
from quantpick.domain.weights import weights_of
from quantpick.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.header import Header
    from quantpick.domain.shape import Shape


def load_path(name: str) -> Model:
    """Return the model of a file, of the split set it belongs to, or of all quants in a folder.

    The shape is that of the first file. Raises NotFoundError where there is none and
    IntegrityError for a file that is no GGUF model.
    """
    path = Path(name).expanduser()
    firsts = list(_first_files(path))
    if not firsts:
        raise NotFoundError(
            f"{name} holds no GGUF model", "name a .gguf file, or a folder with some"
        )
    headers = [gguf_header.read_file(first) for first in firsts]
    shapes = [shape_of(header) for header in headers]
    shape, *others = shapes
    if any(other.layers != shape.layers or other.tied != shape.tied for other in others):
        raise UsageError(f"{name} holds several models", "name one of its files")
    files = tuple(map(_quant_file, firsts, headers, shapes))
    about = summary(headers[0])
    return Model(
        repo_id=name,
        files=files,
        shape=shape,
        title=about.name,
        license=about.license.get("general.license"),
        local=True,
    )


def _first_files(path: Path) -> Iterator[Path]:
    """Yield one file a quant: single files, and the first shard of a set."""
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*.gguf")):
        name = parse_filename(file.relative_to(path).as_posix())
        if name.kind is FileKind.MODEL and name.shard_index in {None, 1} and not name.raw_part:
            yield file


def _quant_file(file: Path, header: Header, shape: Shape) -> QuantFile:
    paths = gguf_header.shard_paths(file, header.shard_count)
    return QuantFile(
        label=parse_filename(file.name).label or summary(header).file_type_label or file.stem,
        file_bytes=header.file_bytes,
        paths=tuple(map(str, paths)),
        weights=weights_of(header.tensors, shape.block_count, shape.idle_blocks),
    )
