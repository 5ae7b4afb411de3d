"""A CA with nothing but ML-DSA issues by EST and ACME, renews, revokes, and shows status; others verify all of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import ocsp

from tests.interop import openssl4
from tests.interop.acme_client import AcmeClient, b64url
from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import EST, PASSWORD, USER, Identity, request_plain
from tests.interop.responders import Http01
from tests.interop.site import Site, site
from tests.interop.wire import Connection

REVOCATION_SHOWS = 1.0  # seconds


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site(tmp_path_factory.mktemp("pq"), workers=2, key_types=("ml-dsa-65",)) as running:
        yield _only_daemon(running)


def _only_daemon(running: Site) -> Daemon:
    return running.ca


def anchors(ca: Daemon) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(ca.trust_anchors.read_bytes())


def authorities(ca: Daemon) -> list[x509.Certificate]:
    """The issuing CA's chain with its root, from the plain port."""
    body = request_plain(ca, "GET", "/ca/certificate?format=pem").body
    return x509.load_pem_x509_certificates(body)


def crl(ca: Daemon) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(request_plain(ca, "GET", "/ca/ml-dsa/crl").body)


def check(ca: Daemon, directory: Path, leaf: x509.Certificate) -> None:
    """Path and CRL are good to OpenSSL."""
    issuing, root = authorities(ca)
    assert [root] == anchors(ca)
    assert openssl4.verify([root], [issuing], leaf, [crl(ca)]) == ""
    openssl4.verify_by_program(directory, ca.trust_anchors, [issuing], leaf)


def pinned(ca: Daemon) -> tuple[str, ...]:
    """curl's way to know a server whose certificate it cannot verify: Debian 12's OpenSSL 3.0 knows no ML-DSA."""
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate(("localhost", ca.port)).encode())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    return ("-sS", "--fail-with-body", "--insecure", "--pinnedpubkey", f"sha256//{pin}")


def opencert(ca: Daemon, command: str, *options: str | Path) -> None:
    run("opencert", command, "--server", ca.url, "--trust-anchors", ca.trust_anchors, *options)


def enrol(ca: Daemon, directory: Path, name: str, kind: str = "ml-dsa-65") -> Identity:
    """By our own command, whose TLS verifies the daemon's certificate."""
    password, key, certificate = directory / "password", directory / f"{name}.key", directory / f"{name}.pem"
    password.write_text(PASSWORD + "\n")
    who = ("--user", USER, "--password-file", password)
    wish = ("--new-key", key, "--type", kind, "--san", f"dns:{name}")
    opencert(ca, "est-enroll", *who, *wish, "--out", certificate)
    return Identity(certificate, key)


def test_the_log_says_how_the_listener_is_known(ca: Daemon) -> None:
    assert "the TLS listener keeps an EC key, with a certificate signed by ml-dsa (ML-DSA-65)" in ca.log
    shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("localhost", ca.port)).encode())
    assert shown.signature_algorithm_oid == x509.SignatureAlgorithmOID.ML_DSA_65


@pytest.mark.parametrize("kind", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ed25519", "ec", "rsa"])
def test_est_by_curl(ca: Daemon, tmp_path: Path, kind: str) -> None:
    key, csr = tmp_path / "k.key", tmp_path / "k.csr"
    run("opencert", "generate-keys", "--type", kind, "--out", key)
    run("opencert", "create-csr", "--key", key, "--san", "dns:pq.test", "--out", csr)
    who = ("-u", f"{USER}:{PASSWORD}", "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{csr}")
    body = run("curl", *pinned(ca), *who, f"{ca.url}{EST}/simpleenroll").stdout
    pem = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(body)).stdout
    leaf = x509.load_pem_x509_certificate(pem)
    assert leaf.public_key() == load_pem_private_key(key.read_bytes(), None).public_key()
    check(ca, tmp_path, leaf)


def test_est_by_opencert_to_renewal_by_an_ml_dsa_client_certificate(ca: Daemon, tmp_path: Path) -> None:
    first = enrol(ca, tmp_path, "renewing.test")
    mine = ("--cert", first.certificate_file, "--key", first.key_file)
    new_key, second = tmp_path / "new.key", tmp_path / "second.pem"
    opencert(ca, "est-reenroll", *mine, "--rekey", new_key, "--out", second)
    renewed = Identity(second, new_key).certificate
    assert isinstance(renewed.public_key(), mldsa.MLDSA65PublicKey)
    assert renewed.public_key() != first.certificate.public_key()
    check(ca, tmp_path, renewed)
    assert b"ML-DSA-65" in run("opencert", "print-cert", second).stdout


async def acme(ca: Daemon, name: str) -> tuple[bytes, AcmeClient]:
    """A certificate for an ML-DSA key; the client cannot verify the listener, as above."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    client = AcmeClient(Connection("localhost", ca.port, tls))
    await client.register()
    loop = asyncio.get_running_loop()
    responder = Http01(lambda _, token: f"{token}.{client.thumbprint}")
    server = await loop.create_server(lambda: responder, "127.0.0.1", ca.http01_port)
    async with server:
        chain = await client.flow(name, mldsa.MLDSA87PrivateKey.generate())
    return chain, client


def test_acme_ocsp_crl_and_revocation(ca: Daemon, tmp_path: Path) -> None:
    async def story() -> None:
        chain, client = await acme(ca, "acme.test")
        leaf, issuing = x509.load_pem_x509_certificates(chain)
        assert isinstance(leaf.public_key(), mldsa.MLDSA87PublicKey)
        check(ca, tmp_path, leaf)
        assert status(ca, leaf, issuing) is ocsp.OCSPCertStatus.GOOD
        der = leaf.public_bytes(Encoding.DER)
        await client.post(client.directory["revokeCert"], {"certificate": b64url(der), "reason": 4})
        client.connection.close()
        check_revoked(ca, leaf, issuing)

    asyncio.run(story())


def check_revoked(ca: Daemon, leaf: x509.Certificate, issuing: x509.Certificate) -> None:
    time.sleep(REVOCATION_SHOWS)
    assert status(ca, leaf, issuing) is ocsp.OCSPCertStatus.REVOKED
    assert crl(ca).get_revoked_certificate_by_serial_number(leaf.serial_number)
    assert openssl4.verify(anchors(ca), [issuing], leaf, [crl(ca)]) == "certificate revoked"


def status(ca: Daemon, leaf: x509.Certificate, issuing: x509.Certificate) -> ocsp.OCSPCertStatus:
    """What the responder says; its signature and its certificate are verified by `cryptography` and OpenSSL 4."""
    body = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuing, hashes.SHA256()).build().public_bytes(Encoding.DER)
    answer = request_plain(ca, "POST", "/ca/ocsp", body, {"Content-Type": "application/ocsp-request"})
    response = ocsp.load_der_ocsp_response(answer.body)
    (responder,) = response.certificates
    key = responder.public_key()
    assert isinstance(key, mldsa.MLDSA65PublicKey)
    key.verify(response.signature, response.tbs_response_bytes)
    assert openssl4.verify(anchors(ca), [issuing], responder) == ""
    return response.certificate_status


@pytest.mark.parametrize("kind", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ed25519"])
def test_a_client_revokes_itself_by_its_key(ca: Daemon, tmp_path: Path, kind: str) -> None:
    """TLS by an ML-DSA client certificate, and a signature by the same key; the longest fits into a URL."""
    own = enrol(ca, tmp_path, "self.test", kind)
    key = load_pem_private_key(own.key_file.read_bytes(), None)
    signature = key.sign(f"{own.serial_hex}superseded".encode())  # type: ignore[union-attr, call-arg]
    assert isinstance(signature, bytes)
    query = {"sn": own.serial_hex, "reason": "superseded", "signature": base64.b64encode(signature).decode()}
    answer = openssl4.request(ca, "DELETE", "/ca/revoke?" + urlencode(query), own)
    assert answer.status == 200, answer
    issuing, _ = authorities(ca)
    check_revoked(ca, own.certificate, issuing)


def test_the_key_exchange_is_post_quantum(ca: Daemon) -> None:
    """OpenSSL 4 offers X25519MLKEM768 first, as the daemon does."""
    assert openssl4.group_of(ca) == "X25519MLKEM768"
