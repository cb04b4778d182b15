"""Ready command lines: to fetch a pick, and to run it with llama.cpp's server as it was planned."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from quantpick.domain.need import CacheType, Need
from quantpick.domain.verdict import Placement

if TYPE_CHECKING:
    from quantpick.domain.plan import Download, Plan
    from quantpick.domain.verdict import Verdict

#: Stands for all layers where their number is unknown; llama.cpp clamps it.
_ALL_LAYERS = 999


def download_command(verdict: Verdict) -> str:
    """Return the line that fetches a judged quant."""
    return shlex.join(["quantpick", "download", f"{verdict.repo_id}:{verdict.file.label}"])


def hf_command(plan: Plan, local_dir: str | None) -> str:
    """Return the `hf download` line that fetches the same files (None = into the cache)."""
    words = ["hf", "download", plan.repo_id, "--revision", plan.revision]
    for pattern in plan.include:
        words += ["--include", pattern]
    if local_dir is not None:
        words += ["--local-dir", local_dir]
    return shlex.join(words)


def run_command(result: Download) -> str:
    """Return the `llama-server` line for what was fetched, or would be."""
    first = result.files[0].local_path if result.files else result.plan.files[0].path
    answer = result.recommendation
    if answer is None:
        return server_command(first, Need())
    return server_command(first, answer.need, answer.pick)


def server_command(path: str, need: Need, verdict: Verdict | None = None) -> str:
    """Return a `llama-server` line for a model file (the first shard of a split model).

    With a verdict it carries the context and layers that the memory was estimated for.
    """
    words = ["llama-server", "-m", path]
    if verdict is not None:
        layers = 0 if verdict.placement is Placement.CPU else verdict.n_gpu_layers
        words += ["--ctx-size", str(need.ctx_size)]
        words += ["--n-gpu-layers", str(_ALL_LAYERS if layers is None else layers)]
    for flag, cache_type in (("-k", need.type_k), ("-v", need.type_v)):
        if cache_type is not CacheType.F16:
            words += [f"--cache-type{flag}", cache_type]
    if need.type_v.quantized:
        words += ["--flash-attn", "on"]
    return shlex.join(words)
