"""nginx as the content network of a benchmark: one folder, on loopback, fast or held back.

Python cannot send bytes as fast as the clients take them; nginx hands them to the kernel.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 10

# Paths are relative to the folder, so that nothing of the machine's own nginx is touched.
_CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    default_type application/octet-stream;
    client_body_temp_path temporary/body;
    proxy_temp_path temporary/proxy;
    fastcgi_temp_path temporary/fastcgi;
    uwsgi_temp_path temporary/uwsgi;
    scgi_temp_path temporary/scgi;
    server {{
        listen 127.0.0.1:{port};
        root served;
        limit_rate {rate};
    }}
}}
"""


def find_nginx() -> str | None:
    """Return the program; Debian keeps it where only the administrator's shell looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def serving(folder: Path, rate: str) -> Iterator[str]:
    """Serve what is below ``served`` of a folder, and yield the address.

    ``rate`` is what one connection may take a second, as nginx writes it; 0 is no limit.
    """
    program = find_nginx()
    assert program is not None
    port = _free_port()
    # The folder belongs to the caller alone, and a worker of root would become nobody.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "temporary").mkdir()
    (folder / "nginx.conf").write_text(_CONFIG.format(user=user, port=port, rate=rate), "utf-8")
    words = [program, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "error.log"]
    with subprocess.Popen(words) as process:
        try:
            _await_start(process, port, folder / "error.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def version_of(program: str, *words: str) -> str:
    """Return the first line of what a program says of its version, on either stream."""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()[0]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    said = log.read_text("utf-8") if log.exists() else "nothing"
    raise RuntimeError(f"nginx did not start; it says: {said}")
