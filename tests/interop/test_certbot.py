"""certbot gets a certificate by http-01 as people do it, renews it and revokes it."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.inventory import inventory
from tests.interop.site import site

REFUSED = pytest.fail.Exception
"""What `run` raises when a program ends with a failure, with all that it said."""


class Certbot:
    """certbot with directories of its own, talking to one CA."""

    program = "certbot"

    def __init__(self, ca: Daemon, directory: Path) -> None:
        self._ca = ca
        self._directory = directory

    def __call__(self, command: str, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
        places = [part for kind in ("config", "work", "logs") for part in (f"--{kind}-dir", self._directory / kind)]
        server = ("--server", self._ca.directory, "--non-interactive")
        trust = {"REQUESTS_CA_BUNDLE": str(self._ca.trust_anchors)}
        return run(self.program, command, *server, *places, *options, env=trust)

    def log(self) -> str:
        """What the latest run has seen; certbot 2.1 on Python 3.11 shows little of what a server says."""
        return (self._directory / "logs" / "letsencrypt.log").read_text()

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


def test_an_account_by_external_account_binding(tmp_path: Path) -> None:
    """Only who was given a key gets an account, and then only the names that go with the key."""
    with site(tmp_path, settings="[acme]\nexternal_account_required = true\n") as running:
        ca = running.ca
        at = ("--state-dir", ca.state)
        add = ("opencert", "acme", "eab", "add", "shop", "--allow-name", "*.shop.test", "--profile", "short-lived")
        given = run(*add, "--accounts", "1", *at).stdout.decode().split()  # while the daemon runs
        assert given[:2] == ["--eab-kid", "shop"]

        stranger = Certbot(ca, tmp_path / "stranger")
        with pytest.raises(REFUSED, match=r"[Ee]xternal [Aa]ccount"):
            stranger("certonly", *standalone(ca), "-d", "www.shop.test")
        certbot = Certbot(ca, tmp_path / "shop")
        certbot("certonly", *standalone(ca), *given, "-d", "www.shop.test")
        certificate = certbot.certificate("www.shop.test")
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(days=2)
        with pytest.raises(REFUSED):
            certbot("certonly", *standalone(ca), "-d", "www.other.test")
        assert "accounts of this external account key may not have it" in certbot.log()
        late = Certbot(ca, tmp_path / "late")
        with pytest.raises(REFUSED):
            late("certonly", *standalone(ca), *given, "-d", "late.shop.test")
        assert "has bound as many accounts as it may (1)" in late.log()

        (account,) = run("opencert", "acme", "account", "list", *at).stdout.decode().splitlines()
        assert account.split()[1:2] + account.split()[3:4] == ["valid", "shop"]
        certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name", "www.shop.test")
        run("opencert", "acme", "account", "block", account.split()[0], *at)
        with pytest.raises(REFUSED):
            certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name", "www.shop.test")
        assert "the account is revoked" in certbot.log()
        run("opencert", "audit", "verify", *at)
