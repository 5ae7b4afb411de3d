"""Web servers that get certificates themselves, Caddy and Apache mod_md, set up as `docs/acme-clients.md` prints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.interop.clients import run
from tests.interop.https import Identity
from tests.interop.machine import NAME, Machine
from tests.interop.revoking import revoke
from tests.interop.site import Site

GETS_SECONDS = 40.0
EVERY_WORKER_SECONDS = 1.0


def wait_for(what: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is so; the log is shown when it does not become so."""
    deadline = time.monotonic() + GETS_SECONDS
    while not what():
        if time.monotonic() > deadline or process.poll() is not None:
            pytest.fail(log.read_text(errors="replace")[-6000:])
        time.sleep(0.1)


@contextmanager
def started(machine: Machine, log: Path, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server on that machine, ended in the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            machine.command(*command),
            cwd=machine.place,
            env=machine.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def served(port: int) -> str | None:
    """The PEM certificate that the server on that port shows for the page's name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname=NAME) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(True) or b"")
    except OSError:
        return None


class Caddy:
    """Caddy by the page's Caddyfile, with this test's ports and one challenge."""

    def __init__(self, machine: Machine, challenge: str) -> None:
        self.machine = machine
        self.log = machine.place / "caddy.log"
        self._config = machine.place / "caddy.json"
        ca = machine.site.ca
        ports = f"http_port {ca.http01_port}\n\thttps_port {ca.tlsalpn01_port}\n\tadmin off\n\tacme_ca "
        (machine.place / "Caddyfile").write_text(machine.text("caddy", {"acme_ca ": ports}))
        adapted = run("caddy", "adapt", "--config", machine.place / "Caddyfile").stdout
        self._settings = json.loads(adapted)
        other = {"http-01": "tls-alpn", "tls-alpn-01": "http"}[challenge]
        self._policy["issuers"][0].setdefault("challenges", {})[other] = {"disabled": True}

    @property
    def _policy(self) -> Any:
        return self._settings["apps"]["tls"]["automation"]["policies"][0]

    @property
    def port(self) -> int:
        return self.machine.site.ca.tlsalpn01_port

    def due(self) -> None:
        """Have it think that it is time to renew."""
        self._policy["renewal_window_ratio"] = 1

    @contextmanager
    def serving(self, after: str | None = None) -> Iterator[Identity]:
        """Running, with a certificate that is not `after`."""
        self._config.write_text(json.dumps(self._settings))
        with started(self.machine, self.log, "caddy", "run", "--config", self._config) as process:
            wait_for(lambda: served(self.port) not in (None, after), process, self.log)
            (path,) = self.machine.place.glob(f".local/share/caddy/certificates/*/{NAME}/{NAME}.crt")
            yield Identity(path, path.with_suffix(".key"))


@pytest.mark.parametrize(
    ("site_name", "challenge"), [("one_worker_behind_nginx", "http-01"), ("three_workers", "tls-alpn-01")]
)
def test_caddy(request: pytest.FixtureRequest, tmp_path: Path, site_name: str, challenge: str) -> None:
    """It gets one, gets another when OCSP calls that one revoked, and another when it is time to renew."""
    found = request.getfixturevalue(site_name)
    assert isinstance(found, Site)
    machine = Machine(found, tmp_path)
    caddy = Caddy(machine, challenge)
    with caddy.serving() as first:
        machine.check(first.certificate_file)
        revoke(found.ca, first, "superseded")
        machine.wait_revoked(first.certificate_file)
        time.sleep(EVERY_WORKER_SECONDS)  # Caddy asks OCSP once, and any worker may answer
        before = served(caddy.port)
    shutil.rmtree(tmp_path / ".local" / "share" / "caddy" / "ocsp")  # what it heard when all was well has grown old
    with caddy.serving(after=before) as second:
        machine.check(second.certificate_file)
        before = served(caddy.port)
    caddy.due()
    with caddy.serving(after=before) as third:
        machine.check(third.certificate_file)


APACHE = """
ServerRoot "{place}"
ServerName localhost
PidFile "{place}/apache.pid"
DefaultRuntimeDir "{place}"
ErrorLog "{place}/apache.log"
Mutex file:{place} default
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule md_module /usr/lib/apache2/modules/mod_md.so
Listen {http}
Listen {https}
MDPortMap 80:{http} 443:{https}
LogLevel md:debug
{more}
"""
MD_RECORD = """#!/bin/sh
case "$1" in
    setup) exec "{place}/txt-record" add "_acme-challenge.$2" "$3" ;;
    teardown) exec "{place}/txt-record" remove "_acme-challenge.$2" "" ;;
esac
"""


class Apache:
    """Apache by the page's lines, with this test's ports and one challenge."""

    def __init__(self, machine: Machine, challenge: str) -> None:
        self.machine = machine
        self.place = machine.place
        self._challenge = challenge
        self._got = 0
        machine.script("md-record", MD_RECORD.format(place=machine.place))
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the settings, with `more` lines."""
        ca = self.machine.site.ca
        lines = f"MDCAChallenges {self._challenge}\nMDChallengeDns01 {self.place}/md-record\n{more}"
        head = APACHE.format(place=self.place, http=ca.http01_port, https=ca.tlsalpn01_port, more=lines)
        printed = self.machine.text("mod-md", {"*:443": f"*:{ca.tlsalpn01_port}"})
        (self.place / "httpd.conf").write_text(head + printed)

    @property
    def log(self) -> Path:
        return self.place / "apache.log"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        (self.place / "md").mkdir(exist_ok=True)
        self.log.touch()
        command = ["apache2", "-D", "FOREGROUND", "-f", str(self.place / "httpd.conf")]
        if os.geteuid() == 0:  # Apache does not run as root, and another user has no access to a test's files
            command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
        with started(self.machine, self.place / "said.log", *command) as process:
            yield process

    def current(self) -> Identity:
        """What it goes by since the last reload."""
        domain = self.place / "md" / "domains" / NAME
        return Identity(domain / "pubcert.pem", domain / "privkey.pem")

    def get(self, process: subprocess.Popen[bytes], before: str | None) -> None:
        """Wait until it says so once more and reload; the new one is what clients see then."""
        self._got += 1
        wait_for(lambda: self.log.read_text().count("activated on next (graceful)") == self._got, process, self.log)
        process.send_signal(signal.SIGUSR1)
        port = self.machine.site.ca.tlsalpn01_port
        wait_for(lambda: served(port) not in (None, before), process, self.log)


@pytest.mark.parametrize(
    ("site_name", "challenge"),
    [("three_workers_behind_nginx", "http-01"), ("one_worker", "tls-alpn-01"), ("three_workers", "dns-01")],
)
def test_mod_md(request: pytest.FixtureRequest, tmp_path: Path, site_name: str, challenge: str) -> None:
    """It gets one, and another when it is time to renew; a reload takes each into use."""
    found = request.getfixturevalue(site_name)
    assert isinstance(found, Site)
    apache = Apache(Machine(found, tmp_path), challenge)
    with apache.running() as process:
        apache.get(process, served(found.ca.tlsalpn01_port))
        first = apache.current()
        before = first.certificate
        assert served_certificate(found) == before
        apache.machine.check(first.certificate_file)
        apache.configure("MDRenewWindow 3650d")
        process.send_signal(signal.SIGUSR1)
        apache.get(process, served(found.ca.tlsalpn01_port))
    assert apache.current().certificate.serial_number != before.serial_number
    second = apache.current()
    apache.machine.check(second.certificate_file)
    revoke(found.ca, second, "superseded")
    apache.machine.wait_revoked(second.certificate_file)


def served_certificate(found: Site) -> x509.Certificate:
    """What Apache shows."""
    return x509.load_pem_x509_certificate((served(found.ca.tlsalpn01_port) or "").encode())
