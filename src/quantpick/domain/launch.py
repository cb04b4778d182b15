"""Ready command lines: to fetch a pick, and to run it with llama.cpp's server as it was planned."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from quantpick.domain.need import (
    DEFAULT_PARALLEL,
    DEFAULT_UBATCH_SIZE,
    CacheType,
    FlashAttention,
    Need,
)
from quantpick.domain.quant import FileKind, parse_filename
from quantpick.domain.verdict import Placement

if TYPE_CHECKING:
    from quantpick.domain.plan import Download, Plan
    from quantpick.domain.verdict import Verdict

#: Stands for all layers where their number is unknown; llama.cpp clamps it.
_ALL_LAYERS = 999

#: llama-server's logical batch, which a micro-batch cannot exceed.
DEFAULT_BATCH_SIZE = 2048


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
    paths = {target.path: target.path for target in result.plan.targets}
    paths |= {fetched.target.path: fetched.local_path for fetched in result.files}
    first = result.plan.targets[0].path
    projectors = [path for path in paths if parse_filename(path).kind is FileKind.MMPROJ]
    answer = result.recommendation
    need, pick = (answer.need, answer.pick) if answer else (Need(), None)
    if projectors and projectors[0] != first:
        need = need._replace(projector_path=paths[projectors[0]])
    return server_command(paths[first], need, pick)


def server_command(path: str, need: Need, verdict: Verdict | None = None) -> str:
    """Return a `llama-server` line for a model file (the first shard of a split model).

    With a verdict it carries the context and layers that the memory was estimated for.
    """
    words = ["llama-server", "-m", path]
    if verdict is not None:
        words += ["--ctx-size", str(need.ctx_size), *_layer_words(verdict)]
    if need.parallel != DEFAULT_PARALLEL:
        # Without the second flag each slot would get a share of the context for itself.
        words += ["--parallel", str(need.parallel), "--kv-unified"]
    if need.ubatch_size != DEFAULT_UBATCH_SIZE:
        words += ["--batch-size", str(max(need.ubatch_size, DEFAULT_BATCH_SIZE))]
        words += ["--ubatch-size", str(need.ubatch_size)]
    for flag, cache_type in (("-k", need.type_k), ("-v", need.type_v)):
        if cache_type is not CacheType.F16:
            words += [f"--cache-type{flag}", cache_type]
    if need.projector_path is not None:
        words += ["--mmproj", need.projector_path]
    fused = FlashAttention.ON if need.type_v.quantized else need.flash_attn
    if fused is not FlashAttention.AUTO:
        words += ["--flash-attn", fused]
    return shlex.join(words)


def _layer_words(verdict: Verdict) -> list[str]:
    """Return the flags that put the layers where the estimate has them."""
    layers = 0 if verdict.placement is Placement.CPU else verdict.n_gpu_layers
    words = ["--n-gpu-layers", str(_ALL_LAYERS if layers is None else layers)]
    split = verdict.split
    if split.n_cpu_moe:
        words += ["--n-cpu-moe", str(split.n_cpu_moe)]
    if len(split.shares) > 1 and layers:
        words += ["--tensor-split", ",".join(map(str, split.shares))]
    return [*words, *verdict.flags]
