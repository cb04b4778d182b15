"""The user's own llama.cpp: what memory it can use is what counts.

The first program that is found is asked, without any the Python package llama_cpp.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Caveat, Engine, SourceState, State
from quantpick.probes.engine_output import is_list, parse_devices, parse_extras, parse_version
from quantpick.probes.engine_places import find_programs, stated_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from quantpick.domain.sighting import Sighting
    from quantpick.probes.engine_places import Found
    from quantpick.probes.protocol import Place
    from quantpick.probes.run import Output

    _Trouble: TypeAlias = tuple[tuple[SourceState, ...], tuple[Caveat, ...]]

SOURCE = "llama.cpp"

#: Seconds for one call: making a CUDA context takes seconds, an antivirus program longer.
_TIME_LIMIT, _WINDOWS_TIME_LIMIT = 30.0, 90.0

#: Programs that tell their version, best first.
_VERSIONED = ("llama-server", "llama-cli", "llama-bench")

#: Exit statuses of a program that did not understand: not those of a shell or loader, nor signals.
_REFUSALS = range(1, 126)

#: How much to repeat of what a program said last.
_WORDS_LIMIT = 200

#: Settings of llama.cpp that would bend its answer: a stale LLAMA_ARG_DEVICE even ends it, and the
#: last two show one GPU several times.
_SCRUBBED = ("LLAMA_ARG_", "LLAMA_LOG_", "GGML_CUDA_DEVICES", "GGML_METAL_DEVICES")

#: Run by this Python where llama_cpp is installed beside quantpick.
_LLAMA_CPP = """
import json, llama_cpp
print(json.dumps({"version": llama_cpp.__version__, "gpu": llama_cpp.llama_supports_gpu_offload()}))
"""


class EngineAnswer(NamedTuple):
    """The engine, and its list of devices: None where it has none or did not answer."""

    engine: Engine | None = None
    listed: tuple[Sighting, ...] | None = None
    states: tuple[SourceState, ...] = ()
    caveats: tuple[Caveat, ...] = ()


def probe_engine(place: Place, stated: Path | None = None) -> EngineAnswer:
    """Find an engine and ask it for its version and its devices.

    Raises UsageError where ``stated`` is no program of llama.cpp.
    """
    if stated is not None:
        return _ask(place, stated_program(stated, place))
    found = next(find_programs(place), None)
    if found is not None:
        return _ask(place, found)
    if _has_llama_cpp():
        return _ask_llama_cpp(place)
    return EngineAnswer(states=(SourceState(SOURCE, State.NOT_INSTALLED, "not on PATH"),))


def _ask(place: Place, found: Found) -> EngineAnswer:
    """Ask one program for its devices, and a neighbour that tells it for the version."""
    engine = Engine(None, found.source, str(found.path))
    try:
        outputs = _list_devices(place, found)
    except (OSError, TimeoutError) as error:
        return EngineAnswer(engine, None, *_trouble(found.path, error))
    build, line = _version(place, found.path)
    engine = engine._replace(build=build, version=line)
    refused = _refusal(found.path, outputs, line)
    if refused is not None:
        return EngineAnswer(engine, None, *refused)
    answers = [output for output in outputs if output.status == 0]
    listed = _each_backend_once(_read_list(output, str(found.path)) for output in answers)
    count = f"{len(listed)} device{'' if len(listed) == 1 else 's'}" if listed else "no GPU"
    detail = f"{count} listed by {found.path}"
    if lost := len(outputs) - len(answers):
        detail += f"; {lost} of its {len(outputs)} backends ended with an error"
    return EngineAnswer(engine, listed, (SourceState(SOURCE, State.OK, detail),))


def _list_devices(place: Place, found: Found) -> list[Output]:
    """Return what the program prints, once for each backend that it has to be told of."""
    environments = [backend.environ(place) for backend in found.backends] or [{}]
    return [_call(place, found.path, "--list-devices", **more) for more in environments]


def _each_backend_once(lists: Iterable[tuple[Sighting, ...]]) -> tuple[Sighting, ...]:
    """Join lists; of two by one backend, such as CUDA 12 and 13, the first counts."""
    joined: list[Sighting] = []
    for rows in lists:
        known = {backend for row in joined for backend in row.backends}
        joined += [row for row in rows if not known & set(row.backends)]
    return tuple(joined)


def _read_list(output: Output, source: str) -> tuple[Sighting, ...]:
    """Return the devices in a program's list, with what its log adds."""
    extras = parse_extras(output.stderr)
    rows = parse_devices(output.stdout, source)
    known = [(row, extras.get(row.engine_id or "")) for row in rows]
    return tuple(row._replace(**extra._asdict()) if extra else row for row, extra in known)


def _version(place: Place, program: Path) -> tuple[int | None, str | None]:
    """Return the build and the version line; of a neighbour where the program does not tell."""
    names = [program.with_name(f"{name}{program.suffix}") for name in _VERSIONED]
    for path in dict.fromkeys([*(p for p in names if p.is_file()), program]):
        try:
            output = _call(place, path, "--version")
        except (OSError, TimeoutError):
            continue
        build, line = parse_version(f"{output.stdout}\n{output.stderr}")
        if line is not None:
            return build, line
    return None, None


def _call(place: Place, program: Path, *words: str, **environ: str) -> Output:
    limit = _WINDOWS_TIME_LIMIT if place.system == "win32" else _TIME_LIMIT
    env = {**_scrubbed(place.environ), **environ}
    return place.run([str(program), *words], timeout=limit, env=env)


def _scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(_SCRUBBED)}


def _trouble(path: Path, error: Exception) -> _Trouble:
    if isinstance(error, TimeoutError):
        return unusable(str(error), State.TIMED_OUT)
    return unusable(f"{path} cannot be run: {error}")


def _refusal(path: Path, outputs: Sequence[Output], version: str | None) -> _Trouble | None:
    """Return why what a program printed is no list of devices, None where it is one."""
    failed = next((output for output in outputs if output.status != 0), None)
    rows = any(parse_devices(output.stdout, "") for output in outputs if output.status == 0)
    # Of several backends one may be broken, and the others still list what they drive.
    if failed is None or rows:
        # Old builds print nothing where there is no device, and tell their version.
        known = rows or version is not None or any(is_list(output.stdout) for output in outputs)
        return None if known else unusable(f"{path} does not answer as llama.cpp does")
    if version is None or failed.status not in _REFUSALS:
        return unusable(_ending(path, failed))
    detail = f"{path} does not know --list-devices (status {failed.status})"
    advice = "a newer llama.cpp lists its devices; until then the drivers are asked alone"
    return (SourceState(SOURCE, State.FAILED, detail, advice),), ()


def _ending(path: Path, output: Output) -> str:
    """Return in words how a program ended that did not list its devices."""
    last = output.stderr.strip().rpartition("\n")[2][:_WORDS_LIMIT]
    return f"{path} ended with status {output.status}{f': {last}' if last else ''}"


def unusable(detail: str, state: State = State.FAILED) -> _Trouble:
    """Return the state of an engine that cannot be asked, and the warning."""
    advice = "name another one with --engine PATH; the drivers were asked alone"
    caveat = Caveat("engine_unreadable", f"{detail}; the drivers were asked alone")
    return (SourceState(SOURCE, state, detail, advice),), (caveat,)


def _has_llama_cpp() -> bool:
    return find_spec("llama_cpp") is not None


def _ask_llama_cpp(place: Place) -> EngineAnswer:
    """Ask the Python package whether it has a GPU backend; it has no list of devices."""
    source = "llama_cpp (Python)"
    words = [sys.executable, "-c", _LLAMA_CPP]
    try:
        output = place.run(words, timeout=_TIME_LIMIT, env=_scrubbed(place.environ))
        said = json.loads(output.stdout.strip().rpartition("\n")[2])
        version, gpu = str(said["version"]), bool(said["gpu"])
    except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
        detail = f"llama_cpp is installed and cannot be asked: {type(error).__name__}"
        return EngineAnswer(states=(SourceState(source, State.FAILED, detail),))
    engine = Engine(None, source, None, f"llama_cpp {version}")
    detail = f"version {version}, {'with' if gpu else 'without'} a GPU backend"
    states = (SourceState(source, State.OK, detail),)
    return EngineAnswer(engine, None if gpu else (), states)
