"""`opencert crl verify` says what a client would think of a CRL, in words; the daemon's own are in tests/interop."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.cli import main
from opencertd.clock import SystemClock
from tests.ocsp.pki import pki, write_pem

EC = pki().ecdsa
DAY = timedelta(days=1)


def crl(path: Path, *, listed: tuple[int, ...] = (), begins: int = -1, ends: int = 1, by: object = EC.key) -> Path:
    """A CRL made by `cryptography`; `begins`, `ends`: days from now."""
    now = SystemClock().now()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(EC.certificate.subject)
        .last_update(now + begins * DAY)
        .next_update(now + ends * DAY)
    )
    for serial in listed:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY)
        builder = builder.add_revoked_certificate(entry.build())
    path.write_bytes(builder.sign(by, hashes.SHA256()).public_bytes(Encoding.DER))  # type: ignore[arg-type]
    return path


def verify(tmp_path: Path, file: Path, *more: str | Path) -> Result:
    issuer = write_pem(tmp_path / "issuer.pem", EC.certificate)
    return CliRunner().invoke(main, ["crl", "verify", str(file), "--issuer", str(issuer), *map(str, more)])


def test_what_holds_is_described(tmp_path: Path) -> None:
    done = verify(tmp_path, crl(tmp_path / "a.crl", listed=(5,)))
    assert done.exit_code == 0, done.output
    assert "CN=Test ecdsa" in done.output and "all certificates of its issuer" in done.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"begins": 1, "ends": 2}, "begins only at"),
        ({"begins": -2, "ends": -1}, "has ended at"),
        ({"by": pki().root.key}, "does not verify"),
    ],
)
def test_what_a_client_must_not_go_by(given: dict[str, object], said: str, tmp_path: Path) -> None:
    done = verify(tmp_path, crl(tmp_path / "a.crl", **given))  # type: ignore[arg-type]
    assert done.exit_code == 1 and said in done.output


def test_whether_a_certificate_is_on_it(tmp_path: Path) -> None:
    leaf = write_pem(tmp_path / "leaf.pem", EC.issue(5))
    listed, other = crl(tmp_path / "a.crl", listed=(5,)), crl(tmp_path / "b.crl", listed=(6,))
    done = verify(tmp_path, listed, "--cert", leaf)
    assert done.exit_code == 1 and "revoked at" in done.output and "unspecified" in done.output
    done = verify(tmp_path, other, "--cert", leaf, "--json")
    assert done.exit_code == 0 and json.loads(done.output)["certificate"] == "not on it"
    foreign = write_pem(tmp_path / "foreign.pem", pki().rsa.issue(5))
    assert "another issuer signed" in verify(tmp_path, listed, "--cert", foreign).output


@pytest.mark.parametrize("content", [b"", b"\x30\x00", b"-----BEGIN X509 CRL-----\n", b"hello"])
def test_what_is_no_crl(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.crl"
    file.write_bytes(content)
    done = verify(tmp_path, file)
    assert done.exit_code == 1 and "is no CRL" in done.output
