"""What a real llama.cpp sets aside for a model: buffers as its own log tells them.

The engine is the package xllamacpp, whose CPU build is what CI has. It is told to allocate
nothing (``no_alloc``): it reads the header, builds its graphs and sizes its buffers, so that a
70B with 131,072 tokens of context costs no memory and a fraction of a second. A projector that is
no model stops it right after that: without buffers it would crash at its first token, and many
cases can be asked of one process.

    case = Case(path, ctx_size=8192)
    measure_all([case, case._replace(type_k="q8_0", type_v="q8_0")])

What is told is that of `engine_build`: graphs change from build to build, so a figure of another
build may differ. The process is ended, not left to end, as in `tests.support.engine`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MIB = 2**20

#: Seconds a case may take before the engine is taken for stuck; measured are 0.2 to 1.
_PATIENCE = 30

#: Asks for each case in turn. Fitting is asked for because it prints a table of the memory; a
#: context size that is given is not changed by it.
_LOAD = """
import json, os, sys, xllamacpp
for case in json.load(sys.stdin):
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = case["model"], os.devnull
    params.no_alloc, params.load_mode = True, xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.n_ctx, params.n_ubatch = case["ctx_size"], case["ubatch"]
    params.n_parallel, params.kv_unified = case["parallel"], case["unified"]
    params.cache_type_k = xllamacpp.ggml_type["GGML_TYPE_" + case["type_k"].upper()]
    params.cache_type_v = xllamacpp.ggml_type["GGML_TYPE_" + case["type_v"].upper()]
    params.flash_attn_type = int(case["flash_attn"])
    params.no_extra_bufts = not case["repack"]
    params.verbosity, params.warmup, params.endpoint_metrics = 4, False, False
    try:
        xllamacpp.Server(params)
    except RuntimeError:
        pass
os._exit(0)
"""

_NEXT = "load_model: loading model "
_SIZED = re.compile(r"failed to load multimodal model")
_MODEL = re.compile(r"memory_breakdown_print: \|   - (\S+) .*= +(\d+) \+ +(\d+) \+ +(\d+)  ")
_CACHE = re.compile(r"llama_(?:kv_cache|memory|dsv4)\w*: .*?(?<!buffer )size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
_OUTPUT = re.compile(r" output buffer size = +([\d.]+) MiB")


class Case(NamedTuple):
    """A model and how to load it; the rest is what llama-server does by default.

    ``unified`` is one cache for all ``parallel`` slots, as it is where no number of slots is given.
    """

    model: Path
    ctx_size: int
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attn: bool = True
    parallel: int = 4
    unified: bool = True
    ubatch: int = 512
    repack: bool = False


class Buffers(NamedTuple):
    """Bytes, as exact as they are printed: ``model`` in whole MiB, the others in 0.01 MiB.

    ``model`` holds the weights by kind of buffer: ``Host`` and, if repacked, ``CPU_REPACK``.
    ``cache`` is all that grows with tokens and slots: keys, values and recurrent states.
    """

    model: Mapping[str, int]
    cache: int
    compute: int
    output: int


def engine_build() -> int:
    """Return the build of llama.cpp in the package: the last number of its version.

    The engine itself says build 0, because the package is not built from a git checkout.
    """
    return int(version("xllamacpp").rpartition(".")[2])


def measure(case: Case) -> Buffers:
    """Measure one case."""
    return measure_all([case])[0]


def measure_all(cases: Sequence[Case]) -> list[Buffers]:
    """Measure cases one after another in one process."""
    wanted = [{**case._asdict(), "model": str(case.model)} for case in cases]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD],
        input=json.dumps(wanted),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        # Without this a failed assertion inside the engine starts a debugger.
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        timeout=_PATIENCE * (1 + len(cases)),
        check=False,
    )
    _, *logs = done.stdout.split(_NEXT)
    if len(logs) != len(cases):
        raise RuntimeError(f"{len(logs)} of {len(cases)} cases were begun:\n{done.stdout[-2000:]}")
    return [_buffers(case, log) for case, log in zip(cases, logs, strict=True)]


def _buffers(case: Case, log: str) -> Buffers:
    if not _SIZED.search(log):
        raise RuntimeError(f"the engine did not load {case}:\n{_complaints(log)}")
    return Buffers(
        {name: int(mib) * _MIB for name, mib, _, _ in _MODEL.findall(log)},
        _total(_CACHE, log),
        _total(_COMPUTE, log),
        _total(_OUTPUT, log),
    )


def _total(pattern: re.Pattern[str], log: str) -> int:
    return sum(round(float(mib) * _MIB) for mib in pattern.findall(log))


def _complaints(log: str) -> str:
    """Return the errors and warnings of a log, or its end if there are none."""
    lines = [line for line in log.splitlines() if re.match(r"[\d.]+ [EW] ", line)]
    return "\n".join(lines) or log[-2000:]
