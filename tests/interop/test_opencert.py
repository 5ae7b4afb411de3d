"""The `opencert` command against the daemon: by password, by mutual TLS, and with clear words when it fails."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import PASSWORD, USER
from tests.interop.site import Site


def server(ca: Daemon) -> tuple[str | Path, ...]:
    return ("--server", ca.url, "--trust-anchors", ca.trust_anchors)


def by_password(directory: Path) -> tuple[str | Path, ...]:
    file = directory / "password"
    file.write_text(PASSWORD + "\n")
    return ("--user", USER, "--password-file", file)


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_from_key_to_renewal(each_site: Site, tmp_path: Path, kind: str) -> None:
    """generate-keys, create-csr, est-enroll by password, est-reenroll by mutual TLS with the same and a new key."""
    ca = each_site.ca
    key, csr, first, second, third = (tmp_path / name for name in ("k.key", "k.csr", "1.pem", "2.pem", "3.pem"))
    run("opencert", "generate-keys", "--type", kind, "--out", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    run("opencert", "create-csr", "--key", key, "--subject", "CN=cli.test", "--san", "dns:cli.test", "--out", csr)
    run("opencert", "est-enroll", *server(ca), *by_password(tmp_path), "--csr", csr, "--out", first, "--with-chain")
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", first, first)

    run("opencert", "est-reenroll", *server(ca), "--cert", first, "--key", key, "--out", second)
    new_key = tmp_path / "new.key"
    mine = ("--cert", second, "--key", key, "--rekey", new_key)
    run("opencert", "est-reenroll", *server(ca), *mine, "--out", third)
    serials = {loaded(path).serial_number for path in (first, second, third)}
    assert len(serials) == 3
    assert loaded(third).public_key() != loaded(first).public_key()
    assert loaded(third).subject == loaded(first).subject
    assert stat.S_IMODE(new_key.stat().st_mode) == 0o600
    assert b"cli.test" in run("opencert", "print-cert", third).stdout


def test_ca_certificates(ca: Daemon, tmp_path: Path) -> None:
    out = tmp_path / "ca.pem"
    run("opencert", "est-server-certificates", *server(ca), "--out", out)
    assert len(x509.load_pem_x509_certificates(out.read_bytes())) == 4


def test_what_the_profile_wants(ca: Daemon, tmp_path: Path) -> None:
    """csrattrs in words: for those who say who they are."""
    label = ("--server", f"{ca.url}/.well-known/est/tls-server", "--trust-anchors", ca.trust_anchors)
    told = run("opencert", "est-csrattrs", *label, *by_password(tmp_path)).stdout
    assert told.splitlines() == [b"purposes: TLS server", b"subject alternative name: yours to fill in"]
    assert b"wants a password" in run("opencert", "est-csrattrs", *label, ok=False).stderr


def test_refusals_are_one_line(ca: Daemon, tmp_path: Path) -> None:
    """A wrong password, and a server that is not there: exit status, words, no traceback, no file."""
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense\n")
    wish = ("--new-key", tmp_path / "x.key", "--san", "dns:x.test", "--out", tmp_path / "x.pem")
    credentials = ("--user", "nobody", "--password-file", wrong)
    refused = run("opencert", "est-enroll", *server(ca), *credentials, *wish, ok=False)
    nowhere = ("--server", "https://localhost:1", "--trust-anchors", ca.trust_anchors)
    absent = run("opencert", "est-enroll", *nowhere, *credentials, *wish, ok=False)
    for done in (refused, absent):
        assert done.returncode != 0
        assert b"Traceback" not in done.stderr
        assert 1 <= len(done.stderr.strip().splitlines()) <= 3, done.stderr.decode()
    assert not (tmp_path / "x.pem").exists()
