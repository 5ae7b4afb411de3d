"""certbot gets a certificate by http-01 as people do it, renews it and revokes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.inventory import inventory


class Certbot:
    """certbot with directories of its own, talking to one CA."""

    def __init__(self, ca: Daemon, directory: Path) -> None:
        self._ca = ca
        self._directory = directory

    def __call__(self, command: str, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
        places = [part for kind in ("config", "work", "logs") for part in (f"--{kind}-dir", self._directory / kind)]
        server = ("--server", self._ca.directory, "--non-interactive")
        trust = {"REQUESTS_CA_BUNDLE": str(self._ca.trust_anchors)}
        return run("certbot", command, *server, *places, *options, env=trust)

    def live(self, name: str, file: str) -> Path:
        return self._directory / "config" / "live" / name / file

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.live(name, "cert.pem").read_bytes())


def standalone(ca: Daemon) -> tuple[str, ...]:
    """Options for http-01 by certbot's own server; the account is made on the way."""
    account = ("--agree-tos", "--email", "admin@example.test")
    return ("--standalone", "--http-01-port", str(ca.http01_port), *account)


@pytest.mark.parametrize(("workers", "kind"), [("one_worker", "ecdsa"), ("three_workers", "rsa")])
def test_certonly_renew_revoke(request: pytest.FixtureRequest, tmp_path: Path, workers: str, kind: str) -> None:
    ca = request.getfixturevalue(workers).ca
    certbot = Certbot(ca, tmp_path)
    name = f"certbot-{kind}.test"
    names = ("-d", name, "-d", f"www.{name}")
    certbot("certonly", *standalone(ca), *names, "--key-type", kind, "--rsa-key-size", "2048")

    chain = certbot.live(name, "chain.pem")
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", chain, certbot.live(name, "cert.pem"))
    first = certbot.certificate(name)
    sans = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(sans.get_values_for_type(x509.DNSName)) == {name, f"www.{name}"}

    certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name", name)
    second = certbot.certificate(name)
    assert second.serial_number != first.serial_number

    path = certbot.live(name, "cert.pem")
    certbot("revoke", "--cert-path", path, "--reason", "superseded", "--no-delete-after-revoke")
    (entry,) = (e for e in inventory(ca) if e.serial == second.serial_number)
    assert entry.status == "revoked"


def test_revoke_by_the_certificates_own_key(ca: Daemon, tmp_path: Path) -> None:
    certbot = Certbot(ca, tmp_path)
    certbot("certonly", *standalone(ca), "-d", "ownkey.test")
    files = ("--cert-path", certbot.live("ownkey.test", "cert.pem"))
    key = ("--key-path", certbot.live("ownkey.test", "privkey.pem"))
    certbot("revoke", *files, *key, "--reason", "keycompromise", "--no-delete-after-revoke")
