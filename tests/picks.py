"""The picks for thirty models on six machines: `python -m tests.picks [--write]`.

`tests/data/picks.csv` is the committed table, to be read by a practitioner; a test computes it
anew. A change of the rules shows there as a diff.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from quantpick import probe, recommend
from quantpick.domain.host import Cpu, Host, Ram
from quantpick.domain.verdict import Placement

TABLE = Path(__file__).parent / "data" / "picks.csv"

GIB = 2**30

#: Machines by the words that name them: GPUs, RAM in GiB.
MACHINES: dict[str, tuple[tuple[str, ...], int]] = {
    "RTX 3060 12 GB + 32 GiB": (("rtx-3060-12",), 32),
    "RTX 4090 + 64 GiB": (("rtx-4090",), 64),
    "2x RTX 3090 + 128 GiB": (("2x3090",), 128),
    "M4 Max 64 GB": (("m4-max-64",), 0),
    "Strix Halo 128 GB": (("strix-halo-128",), 0),
    "CPU, 32 GiB": ((), 32),
}

MODELS = (
    *("qwen3-0.6b", "llama-3.2-1b", "gemma-3-4b", "qwen3-4b", "phi-4-mini", "mistral-7b-v0.3"),
    *("qwen2.5-7b", "llama-3.1-8b", "qwen3-8b", "gemma-2-9b", "mistral-nemo", "gemma-3-12b"),
    *("phi-4", "qwen3-14b", "gpt-oss-20b", "codestral-22b", "mistral-small-3.2", "gemma-3-27b"),
    *("qwen3-30b-a3b", "qwen3-coder-30b-a3b", "qwen3-32b", "qwen2.5-coder-32b", "qwq-32b"),
    *("glm-4-32b", "mixtral-8x7b", "llama-3.1-70b", "llama-3.3-70b", "glm-4.5-air"),
    *("gpt-oss-120b", "qwen3-235b-a22b"),
)


def machine(words: tuple[str, ...], ram_gib: int) -> Host:
    """Return a machine by name: on a processor whose features are unknown."""
    if not words:
        return Host(Ram(ram_gib * GIB, None, "named"), Cpu(None, None))
    host = probe(gpus=words, ram=ram_gib * GIB or None)
    return host._replace(cpu=Cpu(None, None), warnings=())


def pick(model: str, host: Host) -> str:
    """Return what is picked and where it runs, as a cell of the table."""
    found = recommend(model, host=host).pick
    if found is None:
        return "-"
    where = {Placement.FULL_OFFLOAD: "GPU", Placement.CPU: "RAM"}.get(found.placement, "GPU+RAM")
    return f"{found.file.label} {where}"


def table() -> str:
    """Return the whole table as CSV."""
    hosts = {name: machine(*words) for name, words in MACHINES.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *hosts])
    for model in MODELS:
        writer.writerow([model, *(pick(model, host) for host in hosts.values())])
    return text.getvalue()


def main() -> None:
    """Print the table, or write it."""
    if "--write" in sys.argv[1:]:
        TABLE.write_text(table(), "utf-8")
    else:
        sys.stdout.write(table())


if __name__ == "__main__":
    main()
