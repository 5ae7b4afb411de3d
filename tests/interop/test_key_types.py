"""pkilint finds no error in what CAs of the newer key types make, for keys of every kind; OpenSSL believes them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, certs_only, request, request_plain
from tests.interop.site import site
from tests.interop.test_lint import CRL, RESPONSE, Subject, check, keep

ISSUERS = ("ecdsa", "rsa-pss", "ed25519", "ed448", "ml-dsa")
KEYS = ("ec", "rsa", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """ECDSA is the first, so that everybody can verify the listener."""
    types = ("ecdsa-p384", "rsa-pss-2048", "ed25519", "ed448", "ml-dsa-87")
    with site(tmp_path_factory.mktemp("kinds"), host="ca.lint.test", key_types=types) as running:
        yield running.ca


def issue(ca: Daemon, directory: Path, profile: str, kind: str) -> x509.Certificate:
    """By the API under a profile of an issuer's name, for a key of that kind."""
    key, csr = directory / f"{profile}-{kind}.key", directory / f"{profile}-{kind}.csr"
    run("opencert", "generate-keys", "--type", kind, "--out", key)
    run("opencert", "create-csr", "--key", key, "--san", "dns:kinds.lint.test", "--out", csr)
    answer = request(ca, "POST", f"/ca/csr?profile={profile}", csr.read_bytes(), BASIC)
    assert answer.status == 200, answer
    return x509.load_pem_x509_certificate(answer.body)


def test_certificates(ca: Daemon, tmp_path: Path) -> None:
    found = {c.subject.rfc4514_string(): c for c in certs_only(request(ca, "GET", f"{EST}/cacerts"))}
    assert len(found) == 2 * len(ISSUERS)
    found["daemon"] = x509.load_pem_x509_certificate(ssl.get_server_certificate(("localhost", ca.port)).encode())
    for issuer in ISSUERS:
        found[f"leaf-by-{issuer}"] = issue(ca, tmp_path, issuer, "ec")
    for kind in KEYS:
        found[f"leaf-of-{kind}"] = issue(ca, tmp_path, "default", kind)
    check([keep(tmp_path, name, certificate) for name, certificate in found.items()])


def test_crls_and_ocsp_answers(ca: Daemon, tmp_path: Path) -> None:
    subjects = []
    blocks = re.findall(
        rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n?",
        request_plain(ca, "GET", "/ca/crl?format=pem").body,
        re.DOTALL,
    )
    for issuer in ISSUERS:
        pem = request_plain(ca, "GET", f"/ca/{issuer}/certificate?format=pem").body
        issuing, root = x509.load_pem_x509_certificates(pem)
        for above, asked in ((issuing, issue(ca, tmp_path, issuer, "ec")), (root, issuing)):
            answer = status(ca, asked, above)
            response = ocsp.load_der_ocsp_response(answer)
            assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
            file = tmp_path / f"{issuer}-{asked.serial_number:x}.ocsp"
            file.write_bytes(answer)
            subjects.append(Subject((*RESPONSE, "--document-format", "DER"), file))
            subjects.append(keep(tmp_path, f"{file.stem}-responder", response.certificates[0]))
    assert len(blocks) == 2 * len(ISSUERS)
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.crl"
        file.write_bytes(block)
        subjects.append(Subject(CRL, file))
    check(subjects)


@pytest.mark.parametrize("issuer", ["ecdsa", "rsa-pss", "ed25519", "ed448"])
def test_openssl_believes_crl_and_ocsp(ca: Daemon, tmp_path: Path, issuer: str) -> None:
    """Debian 12's, which knows all of these but ML-DSA (see `test_post_quantum`)."""
    leaf, chain, crl = tmp_path / "leaf.pem", tmp_path / "chain.pem", tmp_path / "crl.pem"
    leaf.write_bytes(issue(ca, tmp_path, issuer, "ec").public_bytes(Encoding.PEM))
    chain.write_bytes(request_plain(ca, "GET", f"/ca/{issuer}/certificate?format=pem").body)
    crl.write_bytes(request_plain(ca, "GET", f"/ca/{issuer}/crl?format=pem").body)
    trust = ("-CAfile", ca.trust_anchors)
    openssl("verify", "-x509_strict", "-crl_check", "-CRLfile", crl, *trust, "-untrusted", chain, leaf)
    url = f"http://localhost:{ca.http_port}/ca/ocsp"
    said = openssl("ocsp", "-url", url, "-issuer", chain, "-cert", leaf, "-verify_other", chain, *trust)
    assert b"Response verify OK" in said.stderr, said.stderr
    assert b": good" in said.stdout


def status(ca: Daemon, leaf: x509.Certificate, issuer: x509.Certificate) -> bytes:
    body = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build().public_bytes(Encoding.DER)
    answer = request_plain(ca, "POST", "/ca/ocsp", body, {"Content-Type": "application/ocsp-request"})
    assert answer.status == 200, answer
    return answer.body
