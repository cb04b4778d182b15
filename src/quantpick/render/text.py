"""Text for people: verdicts, explanations, models, downloads.

Nothing is said by colour alone: the pick carries a mark, a loser its reason. In a pipe the lines
are as long as they need to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from quantpick.domain.advice import advice
from quantpick.domain.host import Backend
from quantpick.domain.judge import needs_on_one_gpu
from quantpick.domain.launch import download_command, hf_command, run_command, server_command
from quantpick.domain.matrix import gone_rows, matrix_backends, matrix_rows
from quantpick.domain.memory import Use
from quantpick.domain.names import printable
from quantpick.domain.need import Need
from quantpick.domain.offer import why_not_offered
from quantpick.domain.units import GB, format_gb, format_gib
from quantpick.domain.verdict import Placement, Pool
from quantpick.render.console import Table, new_console
from quantpick.render.talk import print_warnings
from quantpick.render.words import (
    KLD_NOTE,
    POOLS,
    assumptions,
    backend_name,
    brief,
    kld_cell,
    measured,
    outcome,
    phrase,
    phrases,
    quality_sentence,
    rule_sentence,
    source_name,
    speed_range,
    speed_sentence,
    support_words,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.host import Device, Host
    from quantpick.domain.model import Model, QuantFile, Reference
    from quantpick.domain.plan import Download
    from quantpick.domain.quality import Measurement, Quality
    from quantpick.domain.verdict import Reason, Recommendation, Verdict
    from quantpick.render.console import Console

#: Tells what a label loses, None where nobody can tell.
Qualities = Callable[[str], "Quality | None"]

_CARD = {True: "yes", False: "avoid", None: ""}
_NO_CHANGE = (
    "no change makes room: no quant of this repo fits, nor this one with a q8_0 cache or with less "
    "context; for a model that fits: quantpick recommend"
)
_ROUNDED = "~ marks a size that is rounded in its source"


def print_recommendation(answer: Recommendation, *, models: bool) -> None:
    """Print the verdicts as a table, the rule, the assumptions and the commands for the pick.

    ``models`` marks an answer over several models, which names each verdict's repo.
    """
    console = new_console()
    if answer.model is not None and not models:
        console.line(f"{answer.model.repo_id} on {_machine(answer.host)}")
    else:
        console.line(f"catalogued models on {_machine(answer.host)}")
    console.table(_verdict_table(answer, models=models))
    if not all(verdict.file.exact for verdict in answer.verdicts):
        console.line(_ROUNDED)
    console.line(rule_sentence(answer.rule))
    console.line(assumptions(answer.need))
    if answer.pick is not None:
        name = f"{answer.pick.repo_id}:{answer.pick.file.label}"
        console.line(f"pick: {name}: {phrases(answer.pick)}")
        path = answer.pick.file.paths[0]
        commands = {"run": server_command(path, answer.need, answer.pick)}
        if answer.model is None or not answer.model.local:
            commands = {"fetch": download_command(answer.pick), **commands}
        _print_commands(console, commands)
    print_warnings(answer.warnings)


def print_explanation(
    verdict: Verdict,
    answer: Recommendation,
    change: Reason | None = None,
    quality: Quality | None = None,
    published: Sequence[Measurement] = (),
) -> None:
    """Print one verdict as a sum: the terms in each place, and what the rules say of it."""
    console = new_console()
    rule = answer.rule
    became = "the pick" if verdict is answer.pick else outcome(verdict)
    console.line(f"{verdict.file.label} of {verdict.repo_id}: {became}")
    console.table(_sum_table(verdict))
    margin = rule.capacity - verdict.file.file_bytes
    beside = "below" if margin >= 0 else "above"
    file = f"{_rounded(verdict.file)} GB, {format_gb(abs(margin))} {beside}"
    for line in (
        f"{POOLS[rule.pool]}: {format_gb(rule.capacity)} = {format_gib(rule.capacity)}",
        f"file: {file}; the margin rule of model cards wants 1 to 2 GB",
        *(f"- {phrase(reason)}" for reason in verdict.reasons),
        *([f"cheapest change: {advice(change)}"] if change else []),
        *([_NO_CHANGE] if _stays_too_large(verdict, answer) else []),
        *([_largest(verdict)] if answer.need.max_ctx else []),
        quality_sentence(quality),
        *([speed_sentence(verdict)] if verdict.fits else []),
        rule_sentence(rule),
        assumptions(answer.need),
    ):
        console.line(line)
    if answer.pick is not None and verdict is not answer.pick:
        console.line(f"the pick is {answer.pick.file.label}")
    if published:
        console.table(_published_table(published))
    print_warnings(answer.warnings)


def _published_table(rows: Iterable[Measurement]) -> Table:
    """Return what was published of a label, whatever the model, in the figures published."""
    table = Table("measured on", "KLD", "median", "perplexity", "same token", "what")
    for row in rows:
        figures = map(measured, (row.kld_mean, row.kld_median, row.ppl))
        same = "-" if row.same_top_pct is None else f"{row.same_top_pct:.1f} %"
        whose = source_name(row.source)
        mixer = None if row.quantizer and whose.startswith(row.quantizer) else row.quantizer
        what = ", ".join(filter(None, (mixer, row.mix, whose)))
        table.add_row(row.model, *figures, same, what)
    return table


def _stays_too_large(verdict: Verdict, answer: Recommendation) -> bool:
    return answer.pick is None and verdict.placement is Placement.TOO_LARGE


def _largest(verdict: Verdict) -> str:
    if verdict.max_ctx is None:
        return "no context fits whole"
    return f"largest context that fits whole: {verdict.max_ctx} tokens"


def _sum_table(verdict: Verdict) -> Table:
    """Return what is needed in each place, term by term, in GB."""
    memory = verdict.memory
    table = Table("place", "weights", "KV cache", "compute", "overhead", "total")
    places = [use for use in memory.uses if use.total]
    whole = Use("total", memory.weights, memory.kv_cache, memory.compute, memory.overhead)
    for use in (*places, *([whole] if len(places) > 1 else [])):
        terms = (use.weights, use.kv_cache, use.compute, use.overhead)
        total = _gb(use.total) + ("" if memory.complete else "+")
        table.add_row(printable(use.name), *map(_gb, terms), total)
    return table


def _gb(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GB:.3f}"


def print_models(models: Iterable[Model]) -> None:
    """Print the catalog's models."""
    table = Table("alias", "repo", "weights", "files GB")
    for model in models:
        sizes = [file.file_bytes / GB for file in model.files]
        table.add_row(
            ", ".join(model.aliases),
            model.repo_id,
            f"{model.parameters / 10**9:.1f} B" if model.parameters else "unknown",
            f"{min(sizes):.1f}-{max(sizes):.1f}",
        )
    new_console().table(table)


def print_backends(reference: Reference) -> None:
    """Print which tensor types run on which backend, since which llama.cpp build, and how fast.

    Of the backends those that quantpick plans for; the JSON has all.
    """
    console = new_console()
    backends = matrix_backends(reference)
    shown = [place for place, name in enumerate(backends) if name in set(Backend)]
    table = Table("type", *(backend_name(backends[place]) for place in shown))
    for row in matrix_rows(reference):
        table.add_row(row.tensor_type, *(support_words(row.cells[place]) for place in shown))
    console.table(table)
    for name, gone in gone_rows(reference):
        console.line(f"{name}: not in llama.cpp today; take {gone.instead}")


def print_quants(model: Model, reference: Reference, qualities: Qualities) -> None:
    """Print what is known of one repo, and its quants; ``qualities`` tells what a label loses."""
    console = new_console()
    console.line(model.repo_id)
    for line in _origin(model):
        console.line(line)
    # What is the same of all quants would only take the notes' room.
    advised = any(file.recommended is not None for file in model.files)
    split = any(len(file.paths) > 1 for file in model.files)
    card, files = ["card"] if advised else [], ["files"] if split else []
    table = Table("label", "size GB", "needs GB", *files, "family", "quality", "KLD", *card, "note")
    for file in model.files:
        info = reference.info(file.label)
        memory = needs_on_one_gpu(file, model.shape, Need())
        table.add_row(
            file.label,
            _rounded(file),
            f"{memory.total / GB:.2f}" if memory.complete else "unknown",
            *([str(len(file.paths))] if split else []),
            file.family,
            info.tier if info else "unknown",
            kld_cell(qualities(file.label)),
            *([_CARD[file.recommended]] if advised else []),
            _note(file, reference),
        )
    console.table(table)
    console.line(f"{assumptions(Need())}, all layers on one GPU")
    console.line(KLD_NOTE)
    if advised:
        console.line("card: what the repo's card advises")
    if not all(file.exact for file in model.files):
        console.line(_ROUNDED)


def _note(file: QuantFile, reference: Reference) -> str:
    reason = why_not_offered(file.label, file.paths[0], reference)
    info = reference.info(file.label)
    return f"Not offered: {reason}." if reason else info.note if info else ""


def print_download(result: Download) -> None:
    """Print the files that are on disk, or would be fetched, and the line that runs them."""
    console, plan = new_console(), result.plan
    console.line(f"{plan.label} of {plan.repo_id} at commit {plan.revision}")
    paths = {fetched.target.path: fetched for fetched in result.files}
    for target in plan.targets:
        fetched = paths.get(target.path)
        state = "would be fetched"
        if fetched is not None:
            checked = "sha256 verified" if fetched.verified else "size only: the Hub has no sha256"
            state = f"{checked}, was there already" if fetched.reused else checked
        where = fetched.local_path if fetched else target.path
        console.line(f"{where}  {target.size} bytes ({format_gb(target.size)})  {state}")
    console.line(f"licence: {result.licence.name}")
    if result.licence.notice:
        console.line(f"notice: {result.licence.notice}")
    if result.dry_run and len(plan.targets) == len(plan.files):
        _print_commands(console, {"equal to": hf_command(plan, result.local_dir)})
    else:
        _print_commands(console, {"run": run_command(result)})


def _machine(host: Host) -> str:
    """Return a host in one phrase: its devices, its RAM, its backend."""
    # What a GPU shares with the host is a part of the RAM and adds nothing to it.
    apart = [_named(device) for device in host.devices if device.own]
    shared = [_named(device) for device in host.devices if not device.own]
    ram = " of ".join([*shared, f"{format_gib(host.ram.total)} RAM"])
    return f"{' + '.join([*apart, ram])} ({backend_name(host.backend)})"


def _named(device: Device) -> str:
    return f"{device.name} {format_gib(device.usable)}"


def _origin(model: Model) -> list[str]:
    """Return where a model comes from and on what terms; what is unknown is left out."""
    gated = ", gated" if model.base_gated else ""
    made = f" with llama.cpp b{model.llama_cpp}" if model.llama_cpp else ""
    matrix = ", importance matrix" if model.imatrix else ""
    return [
        f"base model: {model.base_model or 'not stated'}{gated}",
        f"licence: {model.license or 'not stated'}",
        f"quantized by {model.quantizer or 'someone not stated'}{made}{matrix}",
    ]


def _verdict_table(answer: Recommendation, *, models: bool) -> Table:
    """Return the verdicts in columns that fit 80 characters; sizes in GB."""
    shown = _columns(answer, models=models)
    table = Table("", *shown)
    for verdict in answer.verdicts:
        picked = verdict is answer.pick
        style = "bold" if picked else "" if verdict.fits else "dim"
        cells = (_CELLS[column](verdict) for column in shown)
        table.add_row(">" if picked else "", *cells, style=style)
    return table


def _columns(answer: Recommendation, *, models: bool) -> list[str]:
    """Return the columns that say something: of several models the names take much room."""
    # Under the other rules all models run in the same place.
    mixed = not models or answer.rule.pool is Pool.VRAM_AND_RAM
    return [
        *(["model", "label"] if models else ["label", "files", "family"]),
        *(["size GB"] if models else ["size GB", "needs GB"]),
        *(["max ctx"] if answer.need.max_ctx else []),
        *(["where"] if mixed else []),
        *(["tok/s"] if any(verdict.speed for verdict in answer.verdicts) else []),
        "why",
    ]


def _model_name(verdict: Verdict) -> str:
    name = verdict.repo_id.rpartition("/")[2]
    return name.removesuffix("-GGUF").removesuffix("-Instruct").removesuffix("-it")


def _needs(verdict: Verdict) -> str:
    return f"{verdict.memory.total / GB:.2f}" + ("" if verdict.memory.complete else "+")


#: What stands in each column of verdicts.
_CELLS: dict[str, Callable[[Verdict], str]] = {
    "model": _model_name,
    "label": lambda verdict: verdict.file.label,
    "files": lambda verdict: str(len(verdict.file.paths)),
    "family": lambda verdict: verdict.file.family,
    "size GB": lambda verdict: _rounded(verdict.file),
    "needs GB": _needs,
    "max ctx": lambda verdict: str(verdict.max_ctx or "-"),
    "where": lambda verdict: where(verdict) if verdict.fits else "-",
    "tok/s": speed_range,
    "why": brief,
}


def _print_commands(console: Console, commands: dict[str, str]) -> None:
    """Print command lines unfolded, so that they can be copied."""
    width = max(len(name) for name in commands) + 1
    for name, command in commands.items():
        console.line(f"{name + ':':<{width}} {command}", folds=False)


def _rounded(file: QuantFile) -> str:
    """Return a file's size in GB, marked where its source rounded it."""
    return f"{'' if file.exact else '~'}{file.file_bytes / GB:.2f}"


def _known(size: int | None) -> str:
    return "unknown" if size is None else format_gb(size)
