"""A real llama.cpp (xllamacpp), in a process of its own.

The process is ended, not left to end: a server that is taken down right after it was made can wait
for itself for ever, and what was asked of it is known by then.
"""

from __future__ import annotations

import subprocess
import sys
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds after which the engine is taken for stuck.
_PATIENCE = 120

#: What llama-server takes unless told otherwise: four slots, micro-batches of 512 tokens.
_SLOTS, _MICRO_BATCH = 4, 512

#: Loads a model as llama-server does by default: all slots over one cache.
_LOAD = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params.n_ubatch, params.kv_unified, params.warmup = int(sys.argv[4]), True, False
params.verbosity, params.fit_params, params.endpoint_metrics = 4, False, False
server = xllamacpp.Server(params)
input()
"""

#: Written by the engine once everything is allocated.
_LOADED = "n_slots"

_GENERATE = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], 256, 1, False
params.verbosity, params.endpoint_metrics, params.fit_params = -1, False, False
ask = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, "seed": 1}
print(repr(xllamacpp.Server(params).handle_completions(ask)["choices"][0]["text"]), flush=True)
os._exit(0)
"""


def load_log(model: Path, ctx_size: int) -> str:
    """Load a model and return what the engine logs until it is ready."""
    words = [str(model), str(ctx_size), str(_SLOTS), str(_MICRO_BATCH)]
    lines = []
    with subprocess.Popen(
        [sys.executable, "-c", _LOAD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as engine:
        watchdog = Timer(_PATIENCE, engine.kill)
        watchdog.start()
        assert engine.stdout is not None
        for line in engine.stdout:
            lines.append(line)
            if _LOADED in line:
                break
        watchdog.cancel()
        engine.kill()
    return "".join(lines)


def generate(model: Path) -> str:
    """Load a model, the first shard of a split one, and return a few words it generates."""
    done = subprocess.run(
        [sys.executable, "-c", _GENERATE, str(model)],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
