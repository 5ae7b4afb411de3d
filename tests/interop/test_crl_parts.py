"""CRLs by parts and deltas of a running CA, as curl fetches them and OpenSSL goes by them; and `opencert crl`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import PASSWORD, USER, Identity, enrol
from tests.interop.revoking import revoke
from tests.interop.test_status import issuer_file

REVOCATION_SHOWS = 1.0  # seconds


@pytest.fixture(params=[1, 3])
def ca(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "ca", workers=request.param, crl_path="/ca/{issuer}/crl/{part}")
    pushed = tmp_path / "pushed"
    pushed.mkdir()
    users, password = tmp_path / "users", tmp_path / "password"
    password.write_text(PASSWORD)
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password)
    settings = tmp_path / "opencertd.toml"
    settings.write_text(
        f"""[crls]
shards = 4
apart = true
delta = ["{daemon.http_url}/ca/{{issuer}}/crl/delta"]
push_directory = "{pushed}"
"""
    )
    daemon.extra = ("--config", str(settings), "--est-users", str(users))
    with daemon.running():
        yield daemon
    assert daemon.faults() == []


def fetch(url: str, path: Path) -> Path:
    """The CRL as PEM, by curl and OpenSSL."""
    run("curl", "-sS", "--fail", "-o", path.with_suffix(".der"), url)
    openssl("crl", "-inform", "DER", "-in", path.with_suffix(".der"), "-out", path)
    return path


def points(certificate: x509.Certificate) -> list[str]:
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return [uri.value for uri in point.full_name or ()]


def verify(ca: Daemon, leaf: Identity, issuer: Path, *crls: Path, deltas: bool = False) -> str:
    """What OpenSSL says of the certificate."""
    files = [option for crl in crls for option in ("-CRLfile", crl)]
    options = ("-crl_check", "-extended_crl", *(("-use_deltas",) if deltas else ()))
    chain = ("-CAfile", ca.trust_anchors, "-untrusted", issuer)
    done = openssl("verify", *options, *chain, *files, leaf.certificate_file, ok=False)
    return (done.stdout + done.stderr).decode()


def opencert(*arguments: str | Path, ok: bool = True) -> str:
    """What the command prints."""
    done = run("opencert", *arguments, ok=ok)
    return (done.stdout + done.stderr).decode()


def test_a_revocation_shows_on_the_crl_that_the_certificate_names_and_on_no_other(ca: Daemon, tmp_path: Path) -> None:
    leaf = enrol(ca, tmp_path, "parts.test", "ec")
    issuer = issuer_file(ca, leaf.certificate, tmp_path)
    (url,) = points(leaf.certificate)
    shard = (leaf.certificate.serial_number & 0xFFFF) * 4 >> 16
    assert url == f"{ca.http_url}/ca/ecdsa/crl/4-{shard}"
    other = f"{ca.http_url}/ca/ecdsa/crl/4-{(shard + 1) % 4}"
    base = fetch(f"{ca.http_url}/ca/ecdsa/crl", tmp_path / "base.pem")
    assert ": OK" in verify(ca, leaf, issuer, fetch(url, tmp_path / "own.pem"))
    assert ": OK" not in verify(ca, leaf, issuer, fetch(other, tmp_path / "other.pem"))
    revoke(ca, leaf, "superseded")
    time.sleep(REVOCATION_SHOWS)
    assert "certificate revoked" in verify(ca, leaf, issuer, fetch(url, tmp_path / "own.pem"))
    assert "certificate revoked" not in verify(ca, leaf, issuer, fetch(other, tmp_path / "other.pem"))
    assert ": OK" in verify(ca, leaf, issuer, base), "who keeps the old one"
    delta = fetch(f"{ca.http_url}/ca/ecdsa/crl/delta", tmp_path / "delta.pem")
    assert "certificate revoked" in verify(ca, leaf, issuer, base, delta, deltas=True)
    with (tmp_path / "own.der").open("rb") as file:
        assert (tmp_path / "pushed" / f"ecdsa~4-{shard}.crl").read_bytes() == file.read()
    _commands(ca, leaf, issuer, tmp_path)
    status = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{ca.http_url}/ca/ecdsa/crl/8-1")
    assert status.stdout == b"404"


def _commands(ca: Daemon, leaf: Identity, issuer: Path, tmp_path: Path) -> None:
    """What an operator sees of it."""
    where = ("--state-dir", ca.state)
    rows = json.loads(opencert("crl", "show", "ecdsa", "--json", *where))
    assert [row["part"] for row in rows] == ["all", "cas", "users", "4-0", "4-1", "4-2", "4-3", "delta"]
    assert sum(row["entries"] for row in rows if row["part"].startswith("4-")) == 1
    assert "were published" in opencert("crl", "publish", *where)
    again = json.loads(opencert("crl", "show", "ecdsa", "--json", *where))
    assert all(new["number"] > old["number"] for old, new in zip(rows, again, strict=True))
    own = tmp_path / "own.der"
    beside = ("--issuer", issuer, "--cert", leaf.certificate_file)
    said = opencert("crl", "verify", own, "--issuer", issuer)
    assert "those that name it" in said and points(leaf.certificate)[0] in said
    assert "superseded" in opencert("crl", "verify", own, *beside, ok=False)
    other = opencert("crl", "verify", tmp_path / "other.der", *beside, ok=False)
    assert "names another CRL" in other
    wrong = opencert("crl", "verify", own, "--issuer", leaf.certificate_file, ok=False)
    assert "another issuer" in wrong
