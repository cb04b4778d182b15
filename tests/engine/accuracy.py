"""The memory estimate against a real llama.cpp, term by term, over all hollow models.

    python -m tests.engine.accuracy [--only NAME ...]   measures, and writes the whole table
    python -m tests.engine.accuracy --estimate          estimates again beside the old measurements
    python -m tests.engine.accuracy --readme            writes the table of README.md from it

Each model is written hollow, loaded on the CPU by the engine of `tests.engine.harness` in every
case of `cases_of`, and estimated from its own header by the product's functions. The table is
tests/data/accuracy.csv; with ``--only``, the rows of other models stay as they are. ``--estimate``
is for a change of the formulas: it needs no engine and tells at once what the change did.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.memory import Split, estimate_memory
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import CacheType, FlashAttention, Need
from quantpick.domain.weights import weights_of
from quantpick.gguf_header import read_file
from tests.engine.harness import Case, engine_build, measure_all
from tests.engine.hollow import hollow_header, write_hollow
from tests.engine.models import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from quantpick.domain.header import Header
    from tests.engine.harness import Buffers

TABLE = Path(__file__).parents[1] / "data" / "accuracy.csv"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- accuracy table -->\n", "<!-- /accuracy table -->"

CONTEXTS = (2048, 8192, 32_768, 131_072)

#: Labels of a model's files where Q4_K_M is not the only one, or is not what is published. The
#: label changes the weights alone; the other terms show that it does.
LABELS = {
    "gpt-oss-20b": ("MXFP4_MOE",),
    "gpt-oss-120b": ("MXFP4_MOE",),
    "llama-3.1-8b": ("Q4_K_M", "Q8_0"),
    "llama-3.1-70b": ("Q4_K_M", "IQ2_M"),
    "gemma-3-27b": ("Q4_K_M", "Q4_0"),
    "qwen3-30b-a3b": ("Q4_K_M", "IQ4_XS"),
}

#: Architectures whose tied embedding the engine holds twice when it does not map the file, as the
#: harness has to ask it to. The default, a mapped file, has the second one for nothing, and that
#: is what the product estimates: the copy is taken off the engine's weights, in the open.
_HELD_TWICE = frozenset({"gemma3n", "gemma4"})

#: What a total may be off by: the larger of the two.
TOLERANCE_MIB, TOLERANCE = 64, 0.01

#: The engine prints a cache in 0.01 MiB, in two lines where some layers are windowed or recurrent.
PRINTED_MIB = 0.01

_MIB = 2**20


class Terms(NamedTuple):
    """Mebibytes, in hundredths as the engine prints them; ``compute`` with the output buffer."""

    weights: float
    kv_cache: float
    compute: float

    @property
    def total(self) -> float:
        """All terms."""
        return sum(self)


class Row(NamedTuple):
    """One case: ``second_copy`` has been taken off the weights that the engine told."""

    model: str
    architecture: str
    label: str
    build: int
    ctx_size: int
    flash_attn: bool
    type_k: str
    type_v: str
    second_copy: float
    engine: Terms
    estimate: Terms

    @property
    def difference(self) -> Terms:
        """Estimate less engine."""
        return Terms(*(ours - told for ours, told in zip(self.estimate, self.engine, strict=True)))

    @property
    def within_tolerance(self) -> bool:
        """Whether the totals agree."""
        allowed = max(TOLERANCE_MIB, TOLERANCE * self.engine.total)
        return abs(self.difference.total) <= allowed

    @property
    def cache_is_exact(self) -> bool:
        """Whether the cache is what the engine printed."""
        return abs(self.difference.kv_cache) < 1.5 * PRINTED_MIB

    @property
    def need(self) -> Need:
        """The case as the product is asked for it."""
        return Need(
            ctx_size=self.ctx_size,
            type_k=CacheType(self.type_k),
            type_v=CacheType(self.type_v),
            flash_attn=FlashAttention.ON if self.flash_attn else FlashAttention.OFF,
        )


def labels_of(model: str) -> tuple[str, ...]:
    """Return the labels under which a model is measured."""
    return LABELS.get(model, ("Q4_K_M",))


def cases_of(path: Path, *, latent: bool) -> list[Case]:
    """Return the cases of one file: contexts, cache types, flash attention.

    A V cache in Q8_0 needs flash attention, so without it K alone is. A latent cache has no V, and
    the engine refuses types that differ for it.
    """
    return [
        Case(path, ctx_size, type_k, type_k if flash_attn else "f16", flash_attn)
        for ctx_size in CONTEXTS
        for flash_attn in (True, False)
        for type_k in ("f16", "q8_0")
        if flash_attn or type_k == "f16" or not latent
    ]


def estimate(header: Header, need: Need) -> Terms:
    """Return what the product says a file takes in RAM, without a second copy for the CPU."""
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    host = estimate_memory(weights, shape, need, (), Split()).host
    assert host.kv_cache is not None
    assert host.compute is not None
    return Terms(_mib(host.weights), _mib(host.kv_cache), _mib(host.compute))


def compare(model: str, label: str, header: Header, cases: Sequence[Case]) -> list[Row]:
    """Measure the cases of one file and estimate them."""
    shape = shape_of(header)
    tied = weights_of(header.tensors, shape.block_count, shape.idle_blocks).tied
    copy = tied if shape.architecture in _HELD_TWICE else 0
    unestimated = (
        Row(
            *(model, shape.architecture, label, engine_build()),
            *(case.ctx_size, case.flash_attn, case.type_k, case.type_v),
            _mib(copy),
            _told(buffers, copy),
            Terms(0, 0, 0),
        )
        for case, buffers in zip(cases, measure_all(cases), strict=True)
    )
    return [row._replace(estimate=estimate(header, row.need)) for row in unestimated]


def _told(buffers: Buffers, copy: int) -> Terms:
    return Terms(
        _mib(sum(buffers.model.values()) - copy),
        _mib(buffers.cache),
        _mib(buffers.compute + buffers.output),
    )


def _mib(size: int) -> float:
    return round(size / _MIB, 2)


def estimated_anew(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with what the product says today."""
    headers = {
        (model, label): hollow_header(MODELS[model](), label)
        for model, label in {(row.model, row.label) for row in rows}
    }
    return [
        row._replace(estimate=estimate(headers[row.model, row.label], row.need)) for row in rows
    ]


_FACTS = ("model", "architecture", "label", "build", "ctx_size", "flash_attn", "type_k", "type_v")
_TERMS = (*Terms._fields, "total")
_COLUMNS = (
    *_FACTS,
    "second_copy_mib",
    *(f"{term}_{part}" for term in _TERMS for part in ("engine", "estimate", "off_mib", "off_pct")),
)


def write_table(path: Path, rows: Iterable[Row], made: str) -> None:
    """Write the table with how it was ``made`` on top."""
    with path.open("w", encoding="utf-8", newline="") as out:
        out.write(f"{made}\n")
        table = csv.writer(out, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(_fields(row) for row in rows)


def _made_now() -> str:
    return (
        f"# python -m tests.engine.accuracy, {datetime.now(UTC).date()}: MiB that llama.cpp"
        f" b{engine_build()} (xllamacpp, CPU, no repack, 4 slots, one cache, micro-batches of 512)"
        " sets aside for hollow models, beside the estimate. Weights are told in whole MiB,"
        " rounded down, and less second_copy_mib, which only an unmapped file costs. Percentages"
        " are of the total."
    )


def _fields(row: Row) -> Iterator[str]:
    yield from (row.model, row.architecture, row.label, str(row.build), str(row.ctx_size))
    yield from ("on" if row.flash_attn else "off", row.type_k, row.type_v, f"{row.second_copy:.2f}")
    pairs = zip((*row.engine, row.engine.total), (*row.estimate, row.estimate.total), strict=True)
    for told, ours in pairs:
        yield from (f"{told:.2f}", f"{ours:.2f}", _signed(ours - told, 2))
        yield _signed(100 * (ours - told) / row.engine.total, 3)


def _signed(value: float, places: int) -> str:
    """Write a number, nothing without a sign."""
    return f"{round(value, places) + 0.0:.{places}f}"


def read_table(path: Path = TABLE) -> list[Row]:
    """Read the table; what follows from other columns is worked out again."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()[1:]
    return [_row(fields) for fields in csv.DictReader(lines)]


def _row(fields: dict[str, str]) -> Row:
    return Row(
        model=fields["model"],
        architecture=fields["architecture"],
        label=fields["label"],
        build=int(fields["build"]),
        ctx_size=int(fields["ctx_size"]),
        flash_attn=fields["flash_attn"] == "on",
        type_k=fields["type_k"],
        type_v=fields["type_v"],
        second_copy=float(fields["second_copy_mib"]),
        engine=Terms(*(float(fields[f"{term}_engine"]) for term in Terms._fields)),
        estimate=Terms(*(float(fields[f"{term}_estimate"]) for term in Terms._fields)),
    )


def readme_table(rows: Sequence[Row]) -> str:
    """Return the summary for the README: a row an architecture."""
    builds = ", ".join(f"b{build}" for build in sorted({row.build for row in rows}))
    head = [
        f"llama.cpp {builds}, {len(rows)} cases: {min(CONTEXTS)} to {max(CONTEXTS)} tokens, KV",
        "cache f16 and q8_0, flash attention on and off; the largest of each row is shown. Made by",
        "`python -m tests.engine.accuracy && python -m tests.engine.accuracy --readme`.",
        "",
        "| architecture | models | cases | KV exact | total off by | in % | compute off by |",
        "|---|---|---|---|---|---|---|",
    ]
    names = sorted({row.architecture for row in rows})
    parts = [[row for row in rows if row.architecture == name] for name in names]
    return "\n".join((*head, *map(_readme_row, parts))) + "\n"


def _readme_row(rows: Sequence[Row]) -> str:
    exact = sum(row.cache_is_exact for row in rows)
    total = max(abs(row.difference.total) for row in rows)
    share = max(abs(row.difference.total) / row.engine.total for row in rows)
    compute = max(abs(row.difference.compute) for row in rows)
    return (
        f"| {rows[0].architecture} | {len({row.model for row in rows})} | {len(rows)} |"
        f" {exact} of {len(rows)} | {total:.1f} MiB | {100 * share:.2f} | {compute:.1f} MiB |"
    )


def with_table(readme: str, table: str) -> str:
    """Return the README with another table between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no {BEGIN.strip()} ... {END}")
    return before + BEGIN + table + END + after


def measure_models(models: Sequence[str]) -> Iterator[list[Row]]:
    """Compare the models in all their labels, a few at a time, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(_measure_model, models)


def _measure_model(model: str) -> list[Row]:
    rows = []
    for label in labels_of(model):
        with TemporaryDirectory() as folder:
            path = write_hollow(MODELS[model](), label, Path(folder))
            header = read_file(path)
            rows += compare(model, label, header, cases_of(path, latent=shape_of(header).latent))
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.accuracy")
    parser.add_argument("--only", nargs="+", choices=MODELS, metavar="NAME", default=[*MODELS])
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--readme", action="store_true")
    asked = parser.parse_args(words)
    rows = read_table()
    if asked.readme:
        README.write_text(with_table(README.read_text("utf-8"), readme_table(rows)), "utf-8")
    elif asked.estimate:
        made, _, _ = TABLE.read_text("utf-8").partition("\n")
        write_table(TABLE, estimated_anew(rows), made)
    else:
        _measure_into_table(asked.only, {model: [] for model in MODELS}, rows)


def _measure_into_table(
    models: Sequence[str], by_model: dict[str, list[Row]], old: Sequence[Row]
) -> None:
    """Measure models and write the table after each, so that a run that is stopped keeps its part.

    What was not reached can be asked for by ``--only`` afterwards.
    """
    for row in old:
        by_model.setdefault(row.model, []).append(row)
    for model, rows in zip(models, measure_models(models), strict=True):
        by_model[model] = rows
        table = (row for part in by_model.values() for row in part)
        write_table(TABLE, table, _made_now())
        worst = max(rows, key=lambda row: abs(row.difference.total))
        sys.stdout.write(f"{model}: {len(rows)} cases, off by {worst.difference.total:.2f} MiB\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
