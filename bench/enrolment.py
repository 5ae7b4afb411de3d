"""EST beside what TLS alone costs: `python -m bench.enrolment [--seconds S] [--workers N…]`.

Durable enrolments over kept connections, and with a full handshake by client certificate each; in the same run the same
handshakes with a bare Twisted listener and with nginx, with the same certificate on as many workers. The server's key
is P-256, then RSA-2048. Where cores are scarce the CPU time of each is firmer than its rate.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from bench import est
from bench.generators import Server, generate, shares
from bench.markdown import markdown
from bench.measure import Result
from tests.interop.daemon import Daemon, environment, family, free_port, listens, opencert_command
from tests.interop.nginx import serving

USER, PASSWORD, SUBJECT = "bench", "bench-password", "bench.test"
CLIENTS = 8
SLACK = 60.0
START_SECONDS = 20.0
POSTED = {"Content-Type": "application/pkcs10"}
KEYS: dict[str, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
}
NGINX = """
{user}
daemon off;
worker_processes {workers};
pid {place}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;
        ssl_client_certificate {anchors};
        ssl_verify_client on;
        ssl_verify_depth 3;
        location / {{ return 200 ok; }}
    }}
}}
"""


@dataclass(frozen=True)
class Line:
    """One load. `of_bare`, `of_nginx`: the rate as a share of theirs; `cpu_…`: their CPU time as a share of its own."""

    key: str
    workers: int
    load: str
    rate: float
    cpu_us: float
    p99_ms: float
    of_bare: float = 0.0
    cpu_of_bare: float = 0.0
    of_nginx: float = 0.0
    cpu_of_nginx: float = 0.0


COLUMNS = (
    ("server key", "key", "<10"),
    ("workers", "workers", ">7"),
    ("load", "load", "<47"),
    ("per second", "rate", ">10,.0f"),
    ("CPU µs each", "cpu_us", ">11,.0f"),
    ("p99 ms", "p99_ms", ">8.1f"),
    ("of bare Twisted", "of_bare", ">15.2f"),
    ("by CPU", "cpu_of_bare", ">6.2f"),
    ("of nginx", "of_nginx", ">8.2f"),
    ("by CPU", "cpu_of_nginx", ">6.2f"),
)


@dataclass
class Peer:
    """A process that listens, with those that come from it."""

    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        return family(self.process.pid)


class EnrolmentBench:
    """One CA whose listener has such a key, and its peers with the same certificate."""

    def __init__(self, place: Path, key: str, workers: int, seconds: float) -> None:
        self._place, self._key, self._workers, self._seconds = place, key, workers, seconds
        self._chain, self._key_file, self._anchors = place / "tls.pem", place / "tls.key", place / "anchors.pem"
        self._make_pair()
        users = self._add_user()
        files = ("--tls-cert", str(self._chain), "--tls-key", str(self._key_file), "--est-users", str(users))
        self._ca = Daemon(place / "state", dn="CN=Bench CA", workers=workers, extra=files)
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._by_password = est.EnrolTask(
            port=self._ca.port,
            trust_anchors=str(self._chain),
            path=est.SIMPLEENROLL,
            headers={"Authorization": f"Basic {basic}", **POSTED},
            subject=SUBJECT,
            identity=None,
            clients=0,
            seconds=seconds,
        )

    def run(self) -> Iterator[Line]:
        """Each load in turn."""
        with self._ca.running():
            renewing = replace(self._by_password, path=est.SIMPLEREENROLL, headers=POSTED, identity=self._enrolled())
            each = replace(renewing, fresh=True)
            yield self._line(self._measure("simpleenroll by password, kept connections", self._ca, self._by_password))
            yield self._line(self._measure("simplereenroll by certificate, kept connections", self._ca, renewing))
            ours = self._measure("simplereenroll, a full mTLS handshake each", self._ca, each)
            with self._bare() as (peer, port):
                bare = self._measure("bare Twisted, a full mTLS handshake each", peer, replace(each, port=port))
            with self._nginx() as (peer, port):
                nginx = self._measure("nginx, a full mTLS handshake each", peer, replace(each, port=port))
        yield self._line(ours, bare, nginx)
        yield self._line(bare, None, nginx)
        yield self._line(nginx)

    def _line(self, result: Result, bare: Result | None = None, nginx: Result | None = None) -> Line:
        def of(peer: Result | None) -> tuple[float, float]:
            return (result.rate / peer.rate, peer.server_cpu_us / result.server_cpu_us) if peer else (0.0, 0.0)

        line = Line(self._key, self._workers, result.name, result.rate, result.server_cpu_us, result.p99_ms)
        (of_bare, cpu_of_bare), (of_nginx, cpu_of_nginx) = of(bare), of(nginx)
        if result.errors:
            raise RuntimeError(f"{result.name}: {result.errors} errors: {result.note}")
        return replace(line, of_bare=of_bare, cpu_of_bare=cpu_of_bare, of_nginx=of_nginx, cpu_of_nginx=cpu_of_nginx)

    def _measure(self, name: str, server: Server, task: est.EnrolTask) -> Result:
        tasks = [replace(task, clients=share) for share in shares(CLIENTS)]
        return generate(name, server, est.enrol_load, tasks, clients=CLIENTS, limit=self._seconds + SLACK)

    def _make_pair(self) -> None:
        key, now = KEYS[self._key](), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=30))
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        self._chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        self._key_file.touch(0o600)
        self._key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _add_user(self) -> Path:
        users, password = self._place / "est-users", self._place / "password"
        password.write_text(PASSWORD + "\n")
        command = [*opencert_command(), "user", "add", USER, "--est-users", str(users)]
        subprocess.run(
            [*command, "--password-file", str(password)], env=environment(), check=True, stdout=subprocess.DEVNULL
        )
        return users

    def _enrolled(self) -> tuple[str, str]:
        """Files of a client certificate for SUBJECT and of its key; and the CA's certificates in a file for peers."""
        key = ec.generate_private_key(ec.SECP256R1())
        (certificate,) = _certificates(asyncio.run(est.enrol_once(self._by_password, key)))
        answer = asyncio.run(est.connection_of(self._by_password).request("GET", est.CACERTS))
        self._anchors.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in _certificates(answer.body)))
        files = self._place / "client.pem", self._place / "client.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(files[0]), str(files[1])

    @contextlib.contextmanager
    def _bare(self) -> Iterator[tuple[Peer, int]]:
        port = free_port()
        files = [str(path) for path in (self._chain, self._key_file, self._anchors)]
        command = [sys.executable, "-m", "bench.bare_tls", str(port), *files, str(self._workers)]
        process = subprocess.Popen(command, env=environment(), start_new_session=True)
        try:
            end = time.monotonic() + START_SECONDS
            while not listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the bare listener does not run")
                time.sleep(0.02)
            yield Peer(process), port
        finally:
            os.killpg(process.pid, 15)
            process.wait(START_SECONDS)

    @contextlib.contextmanager
    def _nginx(self) -> Iterator[tuple[Peer, int]]:
        port, place = free_port(), self._place
        user = "user root;" if os.geteuid() == 0 else ""
        files = {"chain": self._chain, "key": self._key_file, "anchors": self._anchors}
        text = NGINX.format(user=user, workers=self._workers, place=place, port=port, **files)
        with serving(place, text, port) as process:
            yield Peer(process), port


def _certificates(body: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.enrolment", description="Measure EST beside bare TLS.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keys", nargs="+", choices=tuple(KEYS), default=list(KEYS))
    options = parser.parse_args()
    lines: list[Line] = []
    for key in options.keys:
        for workers in options.workers:
            with tempfile.TemporaryDirectory(prefix="opencertd-bench-") as directory:
                for line in EnrolmentBench(Path(directory), key, workers, options.seconds).run():
                    print(
                        f"{line.key}, {line.workers} workers, {line.load}: {line.rate:.0f}/s",
                        file=sys.stderr,
                        flush=True,
                    )
                    lines.append(line)
    print(markdown(COLUMNS, lines))


if __name__ == "__main__":
    main()
