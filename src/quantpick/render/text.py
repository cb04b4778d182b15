"""Text for people; with progress.py the only door to rich.

Nothing is said by colour alone: the pick carries a mark, a loser its reason. In a pipe the lines
are as long as they need to be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantpick.domain.launch import download_command, hf_command, run_command, server_command
from quantpick.domain.units import format_gb, format_gib
from quantpick.render.talk import clean, print_warnings
from quantpick.render.words import PLACEMENTS, POOLS, assumptions, phrase, phrases, rule_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.host import Device, Host
    from quantpick.domain.model import Model, QuantFile, Reference
    from quantpick.domain.plan import Download
    from quantpick.domain.verdict import Recommendation, Verdict

#: Width of lines in a pipe, where nothing needs to be folded.
_PIPE_WIDTH = 240


def print_recommendation(answer: Recommendation, *, models: bool) -> None:
    """Print the verdicts as a table, the rule, the assumptions and the commands for the pick.

    ``models`` marks an answer over several models, which names each verdict's repo.
    """
    console = _console()
    if answer.model is not None and not models:
        console.print(_plain(f"{answer.model.repo_id} on {machine(answer.host)}"))
    else:
        console.print(_plain(f"catalogued models on {machine(answer.host)}"))
    console.print(_verdict_table(answer, models=models))
    console.print(_plain(rule_sentence(answer.rule)))
    console.print(_plain(assumptions(answer.need)))
    if answer.pick is not None:
        path = answer.pick.file.paths[0]
        _print_commands(
            console,
            {
                "fetch": download_command(answer.pick),
                "run": server_command(path, answer.need, answer.pick),
            },
        )
    print_warnings(answer.warnings)


def print_explanation(verdict: Verdict, answer: Recommendation) -> None:
    """Print one verdict term by term."""
    console = _console()
    memory, rule = verdict.memory, answer.rule
    outcome = "the pick" if verdict is answer.pick else "fits" if verdict.fits else "does not fit"
    console.print(_plain(f"{verdict.file.label} of {verdict.repo_id}: {outcome}"))
    table = _table("", "", "")
    exact = "" if verdict.file.exact else "rounded in its source"
    table.add_row("file", format_gb(memory.weights), exact)
    table.add_row("KV cache", _known(memory.kv_cache), f"{answer.need.ctx_size} tokens")
    table.add_row("compute buffer", _known(memory.compute), "")
    table.add_row("needs", format_gb(memory.total), "sum" if memory.complete else "at least")
    table.add_row(POOLS[rule.pool], format_gb(rule.capacity), format_gib(rule.capacity))
    margin = rule.capacity - verdict.file.file_bytes
    table.add_row("file to memory", format_gb(margin), "the rule wants 1 to 2 GB, or more")
    console.print(table)
    for reason in verdict.reasons:
        console.print(_plain(f"- {phrase(reason)}"))
    console.print(_plain(rule_sentence(rule)))
    console.print(_plain(assumptions(answer.need)))
    if answer.pick is not None and verdict is not answer.pick:
        console.print(_plain(f"the pick is {answer.pick.file.label}"))
    print_warnings(answer.warnings)


def print_models(models: Iterable[Model]) -> None:
    """Print the catalog's models."""
    table = _table("repo", "parameters", "quants", "sizes", "licence")
    for model in models:
        sizes = sorted(file.file_bytes for file in model.files)
        table.add_row(
            model.repo_id,
            f"{model.parameters / 10**9:.1f} B",
            str(len(model.files)),
            f"{format_gb(sizes[0])} to {format_gb(sizes[-1])}",
            model.license or "not stated",
        )
    _console().print(table)


def print_quants(model: Model, reference: Reference) -> None:
    """Print one repo's quants."""
    console = _console()
    console.print(_plain(f"{model.repo_id} ({model.license or 'licence not stated'})"))
    table = _table("label", "size", "files", "family", "quality", "note")
    for file in model.files:
        info = reference.quants.get(file.label)
        table.add_row(
            file.label,
            _size(file),
            str(len(file.paths)),
            file.family,
            info.tier if info else "unknown",
            clean(_note(file, info.note if info else "")),
        )
    console.print(table)
    console.print(_plain("~ marks a size that is rounded in its source"))


def print_hardware(host: Host) -> None:
    """Print what the probe found, each figure with its source."""
    table = _table("what", "total", "usable", "free", "source")
    available = "unknown" if host.ram.available is None else format_gib(host.ram.available)
    total = format_gib(host.ram.total)
    table.add_row("RAM", total, total, available, host.ram.source)
    for device in host.devices:
        table.add_row(*_device_row(device))
    console = _console()
    console.print(table)
    cores = "unknown cores" if host.cpu.cores is None else f"{host.cpu.cores} cores"
    console.print(_plain(f"CPU: {host.cpu.name or 'unknown'}, {cores}"))
    console.print(_plain(f"backend: {host.backend or 'not stated'}"))
    engine = host.engine
    console.print(_plain(f"llama.cpp: b{engine.build}" if engine else "llama.cpp: build unknown"))
    print_warnings(host.warnings)


def print_download(result: Download) -> None:
    """Print the files that are on disk, or would be fetched, and the line that runs them."""
    console, plan = _console(), result.plan
    console.print(_plain(f"{plan.label} of {plan.repo_id} at commit {plan.revision}"))
    paths = {fetched.file.path: fetched for fetched in result.files}
    for file in plan.files:
        fetched = paths.get(file.path)
        state = "would be fetched"
        if fetched is not None:
            checked = "sha256 verified" if fetched.verified else "size only: the Hub has no sha256"
            state = f"{checked}, was there already" if fetched.reused else checked
        where = fetched.local_path if fetched else file.path
        console.print(_plain(f"{where}  {file.size} bytes ({format_gb(file.size)})  {state}"))
    console.print(_plain(f"licence: {result.licence.name}"))
    if result.licence.notice:
        console.print(_plain(f"notice: {result.licence.notice}"))
    if result.dry_run:
        _print_commands(console, {"equal to": hf_command(plan, result.local_dir)})
    else:
        _print_commands(console, {"run": run_command(result)})


def machine(host: Host) -> str:
    """Return a host in one phrase: its devices, its RAM, its backend."""
    names = [f"{device.name} {format_gib(device.usable)}" for device in host.devices]
    devices = " + ".join([*names, f"{format_gib(host.ram.total)} RAM"])
    return f"{devices} ({host.backend or 'backend not stated'})"


def _verdict_table(answer: Recommendation, *, models: bool) -> Table:
    table = _table("", *(["model"] if models else []), "label", "size", "files", "needs", "where")
    table.add_column("why", overflow="fold", ratio=1)
    for verdict in answer.verdicts:
        picked = verdict is answer.pick
        cells = [verdict.repo_id.rpartition("/")[2]] if models else []
        cells += [
            verdict.file.label,
            _size(verdict.file),
            str(len(verdict.file.paths)),
            format_gb(verdict.memory.total) + ("" if verdict.memory.complete else "+"),
            PLACEMENTS[verdict.placement] if verdict.fits else "-",
            clean(phrases(verdict)),
        ]
        style = "bold" if picked else "" if verdict.fits else "dim"
        table.add_row(">" if picked else "", *cells, style=style)
    return table


def _device_row(device: Device) -> tuple[str, ...]:
    free = "unknown" if device.free is None else format_gib(device.free)
    return (
        clean(f"{device.name} ({device.backend or 'backend not stated'}, {device.memory_kind})"),
        format_gib(device.total),
        format_gib(device.usable),
        free,
        device.source,
    )


def _print_commands(console: Console, commands: dict[str, str]) -> None:
    """Print command lines unfolded, so that they can be copied."""
    width = max(len(name) for name in commands) + 1
    for name, command in commands.items():
        console.print(_plain(f"{name + ':':<{width}} {command}"), soft_wrap=True)


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="underline", show_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _plain(text: str) -> Text:
    return Text(clean(text))


def _size(file: QuantFile) -> str:
    return format_gb(file.file_bytes) if file.exact else f"~{format_gb(file.file_bytes)}"


def _known(size: int | None) -> str:
    return "unknown" if size is None else format_gb(size)


def _note(file: QuantFile, note: str) -> str:
    card = {True: "Recommended by its card.", False: "Its card advises against it."}
    return f"{card[file.recommended]} {note}" if file.recommended is not None else note
