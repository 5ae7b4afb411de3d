"""Pebble, Let's Encrypt's small ACME server for tests, as a peer for the ACME load: fresh, without its pranks.

It keeps everything in memory, so it is spared what makes a CA durable. Nonces are not rejected at random, validation
does not sleep, authorizations are not reused. Above some clients at once it is known to lock up: keep to a few, and to
a time limit.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.interop.daemon import family, free_port

DIRECTORY = "/dir"
CLIENTS = 8
_START_SECONDS = 20.0


def there_is_one() -> bool:
    """Whether Debian's package is installed."""
    return shutil.which("pebble") is not None


@dataclass
class Pebble:
    """One server, with its files in `directory`. Validates where `http01_port` and `dns_port` say.

    `cores`: how many it may keep busy at a time; None for all.
    """

    directory: Path
    http01_port: int
    dns_port: int
    cores: int | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def trust_anchors(self) -> Path:
        return self.directory / "pebble.pem"

    def start(self) -> None:
        """Start it and wait until it listens. Raises RuntimeError."""
        self._write_files()
        pranks_off = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        limits = {} if self.cores is None else {"GOMAXPROCS": str(self.cores)}
        command = ["pebble", "-config", str(self.directory / "pebble.json"), "-dnsserver", f"127.0.0.1:{self.dns_port}"]
        with (self.directory / "pebble.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **pranks_off, **limits}, start_new_session=True
            )
        end = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Pebble did not start: {(self.directory / 'pebble.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once: it has nothing to keep."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def pids(self) -> list[int]:
        """Its process."""
        return family(self.process.pid) if self.process else []

    def _write_files(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        key_file = self.directory / "pebble.key"
        self.trust_anchors.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(self.trust_anchors),
            "privateKey": str(key_file),
            "httpPort": self.http01_port,
            "tlsPort": free_port(),
        }
        (self.directory / "pebble.json").write_text(json.dumps({"pebble": settings}))
