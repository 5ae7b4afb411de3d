"""Peers of the status load: nginx with the same bytes in a file, Debian's `cfssl ocspserve` with the same answer."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.interop.daemon import family, free_port, listens

_START_SECONDS = 20.0
_NGINX = """
{user}
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 100000000;
    open_file_cache max=100;
    default_type application/ocsp-response;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        root {root};
    }}
}}
"""


class Nginx:
    """One worker, serving the files of a directory plainly and over TLS with the CA's own listener certificate."""

    def __init__(self, place: Path, chain: Path, key: Path) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.root = place / "files"
        self.root.mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        text = _NGINX.format(
            user=user, place=place, port=self.port, tls_port=self.tls_port, chain=chain, key=key, root=self.root
        )
        self._file = place / "nginx.conf"
        self._file.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Nginx]:
        """Started, and stopped in the end."""
        command = [_program("nginx"), "-e", str(self._file.with_suffix(".log")), "-c", str(self._file)]
        with _running(command, self.port) as self._process:
            yield self

    def pids(self) -> list[int]:
        """Its processes."""
        return family(self._process.pid) if self._process else []


class Cfssl:
    """`cfssl ocspserve`, which knows one answer: of all cores, as it takes them."""

    def __init__(self, place: Path, answer: bytes) -> None:
        self.port = free_port()
        self._responses = place / "responses"
        self._responses.write_bytes(base64.b64encode(answer) + b"\n")
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Cfssl]:
        """Started, and stopped in the end."""
        where = ["-address", "127.0.0.1", "-port", str(self.port)]
        command = [_program("cfssl"), "ocspserve", *where, "-responses", str(self._responses), "-loglevel", "5"]
        with _running(command, self.port) as self._process:
            yield self

    def pids(self) -> list[int]:
        """Its processes."""
        return family(self._process.pid) if self._process else []


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _START_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not run")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed: make debian-packages")
    return found
