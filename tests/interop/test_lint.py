"""pkilint finds no error in anything this CA made: certificates, CRLs and OCSP answers of both kinds of key."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from tests.interop.clients import run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, certs_only, enrol, request, request_plain
from tests.interop.revoking import revoke
from tests.interop.site import Site, site

CRL = ("lint_crl", "lint", "-t", "CRL", "-p", "PKIX")
CERTIFICATE = ("lint_pkix_cert", "lint")
RESPONSE = ("lint_ocsp_response", "lint")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A CA that has a full domain name: pkilint takes `localhost` for a fault in names and URLs."""
    with site(tmp_path_factory.mktemp("lint"), host="ca.lint.test") as running:
        yield running


@dataclass(frozen=True)
class Subject:
    """One thing to lint: the linter and the file."""

    linter: Sequence[str]
    file: Path


def lint(subject: Subject) -> str:
    """What the linter says at ERROR and above; its exit status is the number of findings."""
    done = run(*subject.linter, "-s", "ERROR", subject.file, ok=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    return "" if done.returncode == 0 else f"{subject.file.name}: {said}"


def check(subjects: list[Subject]) -> None:
    assert subjects
    with ThreadPoolExecutor(4) as pool:
        findings = [said for said in pool.map(lint, subjects) if said]
    assert not findings, "\n".join(findings)


def keep(directory: Path, name: str, certificate: x509.Certificate) -> Subject:
    """A certificate as a file to lint."""
    path = directory / (re.sub(r"[^a-zA-Z0-9]+", "-", name) + ".pem")
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Subject(CERTIFICATE, path)


def certificates(ca: Daemon, directory: Path) -> dict[str, x509.Certificate]:
    """Everything issued: roots and issuing CAs, the daemon's own, leaves of both keys by EST and by the API."""
    found = {c.subject.rfc4514_string(): c for c in certs_only(request(ca, "GET", f"{EST}/cacerts"))}
    own = ssl.get_server_certificate(("localhost", ca.port))
    found["daemon"] = x509.load_pem_x509_certificate(own.encode())
    for kind in ("ec", "rsa"):
        found[f"leaf-{kind}"] = enrol(ca, directory, f"lint-{kind}.test", kind).certificate
    names = "DNS:api.lint.test,IP:192.0.2.1,IP:2001:db8::1,email:a@lint.test,URI:https://lint.test/x"
    key = directory / "lint-ec.test.key"
    csr = directory / "api.csr"
    run("openssl", "req", "-new", "-key", key, "-subj", "/", "-addext", f"subjectAltName={names}", "-out", csr)
    for profile in ("rsa", "ecdsa"):
        answer = request(ca, "POST", f"/ca/csr?profile={profile}", csr.read_bytes(), BASIC)
        assert answer.status == 200, answer
        found[f"api-{profile}"] = x509.load_pem_x509_certificate(answer.body)
    return found


def test_certificates(named: Site, tmp_path: Path) -> None:
    found = certificates(named.ca, tmp_path)
    assert len(found) >= 4 + 1 + 4
    check([keep(tmp_path, name, certificate) for name, certificate in found.items()])


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_crls(named: Site, tmp_path: Path, kind: str) -> None:
    ca = named.ca
    for reason in ("keyCompromise", "unspecified", "superseded"):
        revoke(ca, enrol(ca, tmp_path, f"crl-{reason.lower()}.test", kind), reason)
    answer = request_plain(ca, "GET", "/ca/crl?format=pem")
    blocks = re.findall(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n?", answer.body, re.DOTALL)
    subjects = []
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.crl"
        path.write_bytes(block)
        subjects.append(Subject(CRL, path))
    check(subjects)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_ocsp_responses_and_responders(named: Site, tmp_path: Path, kind: str) -> None:
    """good, revoked and unknown, by both CertID hashes; and the responder's own certificate."""
    ca = named.ca
    good, bad = enrol(ca, tmp_path, "ocsp-good.test", kind), enrol(ca, tmp_path, "ocsp-bad.test", kind)
    revoke(ca, bad, "keyCompromise")
    authorities = certs_only(request(ca, "GET", f"{EST}/cacerts"))
    (issuer,) = (c for c in authorities if c.subject == good.certificate.issuer)
    subjects = []
    for digest in (hashes.SHA1(), hashes.SHA256()):
        for word, serial in (
            ("good", good.certificate.serial_number),
            ("revoked", bad.certificate.serial_number),
            ("unknown", 0x7E57),
        ):
            name = f"{word}-{digest.name}"
            answer = status_of(ca, issuer, serial, digest)
            response = ocsp.load_der_ocsp_response(answer)
            assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL, name
            path = tmp_path / f"{name}.der"
            path.write_bytes(answer)
            subjects.append(Subject((*RESPONSE, "--document-format", "DER"), path))
    for number, responder in enumerate(response.certificates):
        subjects.append(keep(tmp_path, f"responder-{number}", responder))
    assert response.certificates, "the answer carries its responder's certificate"
    check(subjects)


def status_of(ca: Daemon, issuer: x509.Certificate, serial: int, digest: hashes.HashAlgorithm) -> bytes:
    """The DER answer of the responder."""
    assert isinstance(digest, hashes.SHA1 | hashes.SHA256)
    name, key = issuer.subject.public_bytes(), issuer.public_key()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        hashed(name, digest), hashed(key_bits(key), digest), serial, digest
    )
    body = builder.build().public_bytes(Encoding.DER)
    answer = request_plain(ca, "POST", "/ca/ocsp", body, {"Content-Type": "application/ocsp-request"})
    assert answer.status == 200, answer
    return answer.body


def hashed(data: bytes, digest: hashes.HashAlgorithm) -> bytes:
    context = hashes.Hash(digest)
    context.update(data)
    return context.finalize()


def key_bits(key: object) -> bytes:
    """The content of the subjectPublicKey BIT STRING, which CertIDs hash (RFC 6960 §4.1.1)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
