"""A machine described by a file: every sound one survives, everything else is refused."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import (
    Backend,
    Caveat,
    Cpu,
    Cut,
    Device,
    Engine,
    Host,
    MemoryKind,
    Ram,
    SetAside,
    SourceState,
    State,
)
from quantpick.domain.host_record import host_from_record, host_record
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from tests.support.command import Command

MODEL = "llama-3.1-70b"
HOST_HINT = "write one with: quantpick hardware --json > host.json"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hardware",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b"null",
        b'{"ram": 64}',
        b'{"ram": {"total": "64GiB"}}',
        b'{"ram": {"total": -1}}',
        b'{"ram": {"total": 1e9}}',
        b'{"ram": {"total": true}}',
        b'{"ram": {"total": 1%s}}' % (b"0" * 400),
        b'{"ram": {"total": 9}, "devices": [{"name": "card", "total": -24}]}',
        b'{"ram": {"total": 9}, "devices": [{"name": "card", "total": 9, "usable": -1}]}',
        b'{"ram": {"total": 9}, "devices": [{"name": "card", "total": 9, "backend": "abacus"}]}',
        b'{"ram": {"total": 9}, "cpu": {"name": ["a"], "cores": 1}}',
        b'{"ram": {"total": 9}, "cpu": {"name": "a", "cores": "many"}}',
        b'{"ram": {"total": 9}, "engine": {"build": -3}}',
    ],
)
def test_a_file_that_describes_no_machine_is_refused(content: bytes, quantpick: Command) -> None:
    (quantpick.cwd / "host.json").write_bytes(content)
    run = quantpick("hardware", "--host", "host.json")
    assert (run.status, run.stdout) == (2, ""), run.stderr
    assert "host.json" in run.stderr.splitlines()[0]
    assert run.stderr.splitlines()[1:] == [f"hint: {HOST_HINT}"]


def test_a_file_that_cannot_be_read_is_refused(quantpick: Command) -> None:
    (quantpick.cwd / "folder").mkdir()
    for name in ("missing.json", "folder"):
        run = quantpick("recommend", MODEL, "--host", name, "--json")
        assert run.status == 2
        assert name in run.json["error"]["message"]
        assert run.json["error"]["hints"] == [HOST_HINT]


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\x9b31m", "\udc00", "\r"])
def test_a_file_says_nothing_to_the_terminal(hostile: str, quantpick: Command) -> None:
    record = {
        "ram": {"total": 9, "source": hostile},
        "cpu": {"name": hostile},
        "devices": [{"name": hostile, "total": 9, "source": hostile}],
        "warnings": [{"code": "a", "message": hostile}],
    }
    (quantpick.cwd / "host.json").write_text(json.dumps(record))
    status, shown = _on_terminal(quantpick, "hardware", "--host", "host.json")
    assert (status, "backend: not stated" in shown) == (0, True)
    assert hostile not in shown.replace("\r\n", "\n")


def _on_terminal(quantpick: Command, *words: str) -> tuple[int, str]:
    """Return the status of a run on a terminal without colours, and what the terminal got."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "quantpick", *words]
    env = quantpick.environment(TERM="dumb", NO_COLOR="1")
    with subprocess.Popen(command, cwd=quantpick.cwd, env=env, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        shown = _read_terminal(ours)
    os.close(ours)
    return run.returncode, shown


def _read_terminal(end: int) -> str:
    blocks = []
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while block := os.read(end, 4096):
            blocks.append(block)
    return b"".join(blocks).decode(errors="surrogateescape")


SIZES = st.integers(1, 2**60)
FREE = st.none() | st.just(0) | SIZES
TEXT = st.text(max_size=8)
CUTS = st.lists(st.builds(Cut, TEXT, SIZES, TEXT), max_size=2).map(tuple)


@st.composite
def some_devices(draw: st.DrawFn) -> Device:
    """Draw a device whose usable memory is part of its total."""
    total = draw(SIZES)
    usable = draw(st.integers(1, total))
    maybe = st.none() | TEXT
    flag = st.none() | st.booleans()
    return Device(
        name=draw(TEXT),
        backend=draw(st.none() | st.sampled_from(Backend)),
        memory_kind=draw(st.sampled_from(MemoryKind)),
        total=total,
        usable=usable,
        free=draw(st.none() | st.integers(0, usable)),
        source=draw(TEXT),
        usable_source=draw(maybe),
        free_source=draw(maybe),
        cuts=draw(CUTS),
        gtt=draw(st.integers(0, usable)),
        backends=draw(st.lists(st.sampled_from(Backend), max_size=2).map(tuple)),
        arch=draw(maybe),
        fp16=draw(flag),
        bf16=draw(flag),
        bandwidth=draw(FREE),
        integrated=draw(st.booleans()),
        pci=draw(maybe),
        uuid=draw(maybe),
        engine_id=draw(maybe),
    )


HOSTS = st.builds(
    Host,
    ram=st.builds(Ram, SIZES, FREE, TEXT, st.none() | SIZES, CUTS),
    cpu=st.builds(Cpu, st.none() | TEXT, st.none() | st.integers(1, 1024)),
    devices=st.lists(some_devices(), max_size=3).map(tuple),
    engine=st.none()
    | st.builds(
        Engine, st.none() | st.integers(1, 999_999), TEXT, st.none() | TEXT, st.none() | TEXT
    ),
    warnings=st.lists(st.builds(Caveat, TEXT, TEXT), max_size=2).map(tuple),
    set_aside=st.lists(st.builds(SetAside, some_devices(), TEXT, TEXT), max_size=2).map(tuple),
    sources=st.lists(
        st.builds(SourceState, TEXT, st.sampled_from(State), TEXT, TEXT), max_size=2
    ).map(tuple),
    environment=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda them: tuple(them.items())),
    device_flag=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled_records(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the record of a machine with one field replaced by any value."""
    record = host_record(draw(HOSTS))
    parts = [record, record["ram"], record["cpu"], *record["devices"], *record["warnings"]]
    parts += [*record["set_aside"], *record["sources"], *record["ram"]["cuts"]]
    part = draw(st.sampled_from([*parts, record["engine"] or record]))
    part[draw(st.sampled_from(sorted(part)))] = draw(JSON)
    return record


def test_what_a_file_leaves_out_is_unknown_and_usable_is_part_of_the_total() -> None:
    device = {"name": "card", "total": 9}
    record = {"ram": {"total": 64}, "devices": [device, device | {"usable": 10}]}
    host = host_from_record(record, "host.json")
    assert (host.ram.available, host.cpu, host.engine) == (None, Cpu(None, None), None)
    assert [(d.usable, d.free, d.backend) for d in host.devices] == [(9, None, None)] * 2
    assert {d.memory_kind for d in host.devices} == {MemoryKind.DEDICATED}


@given(HOSTS)
def test_every_machine_survives_its_record(host: Host) -> None:
    assert host_from_record(json.loads(json.dumps(host_record(host))), "host.json") == host


@given(JSON | spoiled_records())
def test_any_record_is_a_sound_machine_or_refused(record: object) -> None:
    try:
        host = host_from_record(record, "host.json")
    except UsageError as error:
        refusal = error
    else:
        _check_sound(host)
        return
    assert "host.json" in refusal.message
    assert refusal.hints == (HOST_HINT,)


def _check_sound(host: Host) -> None:
    assert _is_of(host, Host), host
    assert host.ram.total > 0
    assert all(0 < device.usable <= device.total for device in host.devices)
    assert all((device.free or 0) <= device.usable for device in host.devices)


def _is_of(value: object, kind: Any) -> bool:  # noqa: ANN401 -- a type or what stands for one
    """Whether a value and all within it are of the types that are declared."""
    if get_origin(kind) is UnionType:
        return any(_is_of(value, choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, tuple):
            return False
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return all(_is_of(item, one) for item, one in zip(value, kinds, strict=True))
    if hasattr(kind, "_fields") and isinstance(value, kind):
        return all(_is_of(getattr(value, n), k) for n, k in get_type_hints(kind).items())
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no endless file")
def test_an_endless_file_is_refused(quantpick: Command) -> None:
    run = quantpick("recommend", MODEL, "--host", "/dev/zero")
    assert (run.status, run.stdout) == (2, "")
    assert "too long" in run.stderr
