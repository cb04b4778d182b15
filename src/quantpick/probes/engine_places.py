"""Where programs of llama.cpp are: on PATH, and in the bundles of LM Studio and Ollama."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.probes.protocol import Place

#: llama.cpp's programs, the one first that logs most about devices.
_PROGRAMS = ("llama-bench", "llama-server", "llama-cli")

#: Where Ollama's installer and distributions put its llama.cpp, beside what is found by PATH.
_OLLAMA_FOLDERS = ("usr/local/lib/ollama", "usr/lib/ollama")

#: Backends in Ollama's bundle by the names of their folders, best first (cuda_v13, rocm, vulkan).
_OLLAMA_BACKENDS = ("cuda", "jetson", "rocm", "vulkan")

#: The variable with the folders of shared libraries.
_LIBRARY_PATHS = {"win32": "PATH", "darwin": "DYLD_LIBRARY_PATH"}


class BackendLibrary(NamedTuple):
    """A backend in a folder of its own, which llama.cpp only loads when it is told to."""

    path: Path
    program_folder: Path

    def environ(self, place: Place) -> dict[str, str]:
        """Return the variables that make the program load it, as Ollama sets them."""
        name = _LIBRARY_PATHS.get(place.system, "LD_LIBRARY_PATH")
        own = [str(self.program_folder), str(self.path.parent)]
        outside = place.environ.get(name)
        folders = os.pathsep.join([*own, *([outside] if outside else [])])
        return {name: folders, "GGML_BACKEND_PATH": str(self.path)}


class Found(NamedTuple):
    """A program of llama.cpp, whose it is, and the backends that it has to be told of."""

    path: Path
    source: str
    backends: tuple[BackendLibrary, ...] = ()


def find_programs(place: Place) -> Iterator[Found]:
    """Yield llama.cpp's programs: by PATH in its order, then LM Studio's, then Ollama's."""
    folders = [Path(entry) for entry in place.environ.get("PATH", "").split(os.pathsep) if entry]
    for folder in folders:
        program = _program_in(folder, place)
        if program is not None:
            yield Found(program, "PATH")
    for folder in _lm_studio_folders(place):
        program = _program_in(folder, place)
        if program is not None:
            yield Found(program, "LM Studio")
    for folder in dict.fromkeys(_ollama_folders(folders, place)):
        program = _program_in(folder, place)
        if program is not None:
            yield Found(program, "Ollama", _backends_in(folder))


def stated_program(path: Path, place: Place) -> Found:
    """Return the program that a user names, or the one in the folder. Raises UsageError."""
    program = _program_in(path, place) if os.path.isdir(path) else path  # noqa: PTH112 -- never raises
    if program is None or not _is_program(program):
        raise UsageError(
            f"--engine {path} is no program of llama.cpp",
            "name llama-server or llama-bench, or the folder they are in",
        )
    return Found(program, "--engine", _backends_in(program.parent))


def _lm_studio_folders(place: Place) -> Iterator[Path]:
    """Yield the folders of LM Studio's engines, the one first that it is set to."""
    home = place.environ.get("HOME") or place.environ.get("USERPROFILE")
    if home:
        chosen = _lm_studio_choice(Path(home))
        backends = Path(home) / ".lmstudio" / "extensions" / "backends"
        folders = backends.glob("llama.cpp-*")
        yield from sorted(folders, key=lambda path: (path.name == chosen, path.name), reverse=True)


def _lm_studio_choice(home: Path) -> str | None:
    """Return the name of the backend folder that LM Studio is set to, None where unknown."""
    path = home / ".lmstudio" / ".internal" / "backend-preferences-v1.json"
    try:
        rows = json.loads(path.read_text("utf-8"))
        row = next(row for row in rows if str(row["model_format"]).lower() == "gguf")
        return f"{row['name']}@{row['version']}"
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None


def _ollama_folders(path: list[Path], place: Place) -> Iterator[Path]:
    """Yield the folders that can hold Ollama's llama.cpp: they lie beside its program."""
    for folder in path:
        program = folder / _executable("ollama", place)
        if _is_program(program):
            home = program.resolve().parent
            yield home if place.system == "darwin" else home / "lib" / "ollama"
            yield home.parent / "lib" / "ollama"
    for name in _OLLAMA_FOLDERS:
        yield place.root / name


def _backends_in(folder: Path) -> tuple[BackendLibrary, ...]:
    """Return the backends that lie in folders of their own, best first."""
    found = []
    for kind in _OLLAMA_BACKENDS:
        for variant in sorted(folder.glob(f"{kind}*"), reverse=True):
            library = next(
                (path for path in sorted(variant.glob("*ggml-*")) if path.is_file()), None
            )
            if library is not None:
                found.append(BackendLibrary(library, folder))
    return tuple(found)


def _program_in(folder: Path, place: Place) -> Path | None:
    for name in _PROGRAMS:
        path = folder / _executable(name, place)
        if _is_program(path):
            return path
    return None


def _is_program(path: Path) -> bool:
    # Path.is_file raises in a folder that may not be entered, such as root's own on PATH.
    return os.access(path, os.X_OK) and path.is_file()


def _executable(name: str, place: Place) -> str:
    return f"{name}.exe" if place.system == "win32" else name
