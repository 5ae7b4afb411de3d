"""nginx in front of a CA, as `etc/nginx.conf` has it: another TLS certificate, another port, the same URLs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.clients import openssl, program
from tests.interop.daemon import ROOT, Daemon, environment, listens
from tests.interop.https import BASIC, request

EXAMPLE = ROOT / "etc" / "nginx.conf"
START_SECONDS = 20.0
USER = "user root;" if os.geteuid() == 0 else ""  # the files of a test are its user's alone

MAIN = """
{user}
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/opencertd.conf;
}}
"""


def example(ca: Daemon, place: Path) -> str:
    """The example with this machine's ports and files. Each of its words must be there."""
    text = EXAMPLE.read_text()
    words = {
        "listen 443 ssl": f"listen 127.0.0.1:{ca.front_port} ssl",
        "listen 80": f"listen 127.0.0.1:{ca.front_http_port}",
        "server_name ca.example.com": f"server_name {ca.host}",
        "/etc/nginx/": f"{place}/",
        "127.0.0.1:5001": f"127.0.0.1:{ca.port}",
        "127.0.0.1:5080": f"127.0.0.1:{ca.http_port}",
        "/var/lib/opencertd/trust-anchors.pem": str(ca.trust_anchors),
    }
    for old, new in words.items():
        assert old in text, f"{old!r} is not in {EXAMPLE}"
        text = text.replace(old, new)
    return text


def certificate(ca: Daemon, place: Path) -> None:
    """nginx's own certificate, by this CA, as the example's first lines tell; by a profile without approval."""
    key, csr = place / "ca.example.com.key", place / "ca.example.com.csr"
    subject = ("-subj", f"/CN={ca.host}", "-addext", f"subjectAltName=DNS:{ca.host}")
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, *subject, "-out", csr)
    headers = {**BASIC, "Content-Type": "application/pkcs10"}
    answer = request(ca, "POST", "/ca/csr?profile=rsa", csr.read_bytes(), headers)
    assert answer.status == 200, answer
    (place / "ca.example.com.pem").write_bytes(answer.body)


@contextmanager
def nginx(ca: Daemon, place: Path) -> Iterator[None]:
    """nginx running in front of a running daemon that has `front_port` and `front_http_port`."""
    place.mkdir()
    certificate(ca, place)
    (place / "opencertd.conf").write_text(example(ca, place))
    with serving(place, MAIN.format(place=place, user=USER), ca.front_port):
        yield


@contextmanager
def serving(place: Path, configuration: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """nginx with that configuration until the block ends; it listens on the port by then."""
    path = place / "nginx.conf"
    path.write_text(configuration)
    command = [*program("nginx"), "-p", str(place), "-c", str(path), "-e", str(place / "error.log")]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("nginx did not start:\n" + (place / "error.log").read_text())
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)
