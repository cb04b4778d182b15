"""The JSON contract: one document a command, sizes in bytes, `schema_version` first."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from quantpick.domain.host_record import host_record
from quantpick.domain.judge import needs_on_one_gpu
from quantpick.domain.launch import download_command, server_command
from quantpick.domain.need import Need
from quantpick.domain.offer import why_not_offered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from quantpick.domain.memory import Memory, Use
    from quantpick.domain.model import Model, QuantFile, Reference
    from quantpick.domain.quality import Measurement, Quality
    from quantpick.domain.verdict import Reason, Recommendation, Verdict
    from quantpick.errors import QuantpickError

#: Version of all documents; a new field does not raise it, a changed or lost one does.
SCHEMA_VERSION = 1

Record = dict[str, Any]


def print_document(command: str, payload: Record) -> None:
    """Print one command's document: indented on a terminal, on one line in a pipe."""
    whole = {"schema_version": SCHEMA_VERSION, "command": command, **payload}
    print(json.dumps(whole, indent=2 if sys.stdout.isatty() else None))


def error_record(error: QuantpickError) -> Record:
    """Return an error as a document's `error` field, and mark it as reported."""
    error.reported = True
    return {
        "code": error.code,
        "message": error.message,
        "hints": list(error.hints),
        "exit_status": error.exit_status,
    }


def recommendation_record(answer: Recommendation, problem: QuantpickError | None = None) -> Record:
    """Return a recommendation; when nothing fits, `pick` is null and `error` says why."""
    return {
        **({"error": error_record(problem)} if problem else {}),
        "model": model_record(answer.model) if answer.model else None,
        "host": host_record(answer.host),
        "need": answer.need._asdict(),
        "rule": answer.rule._asdict(),
        "pick": _verdict(answer.pick, answer),
        "nearest": _verdict(answer.nearest, answer),
        "verdicts": [_verdict(verdict, answer) for verdict in answer.verdicts],
        "commands": commands_record(answer),
        "warnings": [warning._asdict() for warning in answer.warnings],
    }


def explanation_record(
    verdict: Verdict,
    answer: Recommendation,
    change: Reason | None = None,
    quality: Quality | None = None,
    published: Iterable[Measurement] = (),
) -> Record:
    """Return one verdict in place of all, what would make it fit, and what it loses."""
    record = recommendation_record(answer)
    del record["verdicts"], record["nearest"], record["commands"]
    changed = {"code": change.code, **change.figures} if change else None
    from quantpick.domain.quality import quality_record

    told = {
        "change": changed,
        "quality": quality_record(quality),
        "published": [row._asdict() for row in published],
    }
    return {"verdict": _verdict(verdict, answer), **told, **record}


def commands_record(answer: Recommendation) -> Record | None:
    """Return the lines that fetch and run the pick."""
    if answer.pick is None:
        return None
    local = answer.model is not None and answer.model.local
    return {
        "download": None if local else download_command(answer.pick),
        "run": server_command(answer.pick.file.paths[0], answer.need, answer.pick),
    }


def model_record(model: Model) -> Record:
    """Return a model without its files."""
    record = model._asdict()
    del record["files"]
    record["shape"] = model.shape._asdict() if model.shape else None
    if record["shape"]:
        # One entry a layer: for the estimate, not for a reader.
        del record["shape"]["layers"]
    record["llama_cpp"] = f"b{model.llama_cpp}" if model.llama_cpp else None
    return record


def models_record(models: Iterable[Model]) -> Record:
    """Return the catalog's models."""
    return {"models": [{**model_record(m), "labels": list(m.labels())} for m in models]}


def files_record(
    model: Model, reference: Reference, qualities: Callable[[str], Quality | None]
) -> Record:
    """Return a model with its quants; ``qualities`` tells what a label loses."""
    from quantpick.domain.quality import quality_record

    return {
        "model": model_record(model),
        "files": [
            {
                **_file(file, reference),
                "quality": quality_record(qualities(file.label)),
                "memory": _memory(needs_on_one_gpu(file, model.shape, Need())),
            }
            for file in model.files
        ],
    }


def _file(file: QuantFile, reference: Reference) -> Record:
    info = reference.info(file.label)
    return {
        "label": file.label,
        "file_bytes": file.file_bytes,
        "exact": file.exact,
        "rounded_to": file.rounded_to,
        "split": file.split,
        "family": file.family,
        "recommended": file.recommended,
        "token_embd_type": file.token_embd_type,
        "output_type": file.output_type,
        "tier": info.tier if info else None,
        "not_offered": why_not_offered(file.label, file.paths[0], reference),
        "paths": list(file.paths),
        "sha256": list(file.sha256),
    }


def _verdict(verdict: Verdict | None, answer: Recommendation) -> Record | None:
    if verdict is None:
        return None
    return {
        "repo_id": verdict.repo_id,
        "label": verdict.file.label,
        "family": verdict.file.family,
        "file_bytes": verdict.file.file_bytes,
        "exact": verdict.file.exact,
        "split": verdict.file.split,
        "recommended": verdict.file.recommended,
        "placement": verdict.placement,
        "n_gpu_layers": verdict.n_gpu_layers,
        "fits": verdict.fits,
        "picked": verdict is answer.pick,
        "n_cpu_moe": verdict.split.n_cpu_moe,
        "tensor_split": list(verdict.split.shares),
        "max_ctx": verdict.max_ctx,
        "memory": _memory(verdict.memory),
        "speed": verdict.speed._asdict() if verdict.speed else None,
        "speed_unknown": verdict.speed_unknown,
        "reasons": [{"code": reason.code, **reason.figures} for reason in verdict.reasons],
    }


def _memory(memory: Memory) -> Record:
    """Return the terms, in all places together and place by place, in bytes."""
    return {
        "weights": memory.weights,
        "kv_cache": memory.kv_cache,
        "compute": memory.compute,
        "overhead": memory.overhead,
        "total": memory.total,
        "exact": memory.exact,
        "devices": [_use(use) for use in memory.devices],
        "host": _use(memory.host),
    }


def _use(use: Use) -> Record:
    return {**use._asdict(), "total": use.total}
