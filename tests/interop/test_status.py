"""`openssl ocsp`, `openssl verify -crl_check` and GnuTLS's ocsptool say good before a revocation and revoked after."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import EST, Identity, certs_only, enrol, request
from tests.interop.revoking import revoke
from tests.interop.site import Site

REVOCATION_SHOWS = 1.0  # seconds


@dataclass(frozen=True)
class Pair:
    """Two certificates of one issuer, the issuer's file, and the CA they are of."""

    ca: Daemon
    issuer: Path
    first: Identity
    second: Identity


def issuer_file(ca: Daemon, leaf: x509.Certificate, directory: Path) -> Path:
    """The issuing CA's certificate as a file, from cacerts."""
    (issuer,) = (c for c in certs_only(request(ca, "GET", f"{EST}/cacerts")) if c.subject == leaf.issuer)
    path = directory / "issuer.pem"
    path.write_bytes(issuer.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(params=["ec", "rsa"])
def pair(each_site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Pair:
    ca = each_site.ca
    first, second = (enrol(ca, tmp_path, f"{word}.status.test", request.param) for word in ("a", "b"))
    assert first.certificate.issuer == second.certificate.issuer
    return Pair(ca, issuer_file(ca, first.certificate, tmp_path), first, second)


def ask(pair: Pair, *options: str, certificates: tuple[Identity, ...]) -> str:
    """What `openssl ocsp` says of the certificates, all in one request. Its verification of the answer must succeed."""
    nonce = [option for option in options if option == "-no_nonce"]
    digest = [option for option in options if option != "-no_nonce"]
    wanted: list[str | Path] = []
    for identity in certificates:
        wanted += [*digest, "-cert", identity.certificate_file]
    responder = ("-url", f"{pair.ca.http_url}/ca/ocsp", "-CAfile", pair.ca.trust_anchors, "-verify_other", pair.issuer)
    done = openssl("ocsp", "-issuer", pair.issuer, *nonce, *wanted, *responder)
    assert b"Response verify OK" in done.stderr, done.stderr.decode()
    assert nonce or b"WARNING: no nonce" not in done.stderr
    return done.stdout.decode()


OPTIONS = [(), ("-no_nonce",), ("-sha256",), ("-sha1",)]


def test_openssl_ocsp_before_and_after(pair: Pair) -> None:
    both = (pair.first, pair.second)
    for options in OPTIONS:
        said = ask(pair, *options, certificates=both)
        assert said.count(": good") == 2, said
    revoke(pair.ca, pair.first, "keyCompromise")
    time.sleep(REVOCATION_SHOWS)
    for options in OPTIONS:
        said = ask(pair, *options, certificates=both)
        assert f"{pair.first.certificate_file}: revoked" in said, said
        assert "Reason: keyCompromise" in said, said
        assert f"{pair.second.certificate_file}: good" in said, said


def get_status(pair: Pair, identity: Identity, encode: bool) -> ocsp.OCSPResponse:
    """The status by curl's GET, the request in base64 in the path, percent-encoded or as it is."""
    issuer = x509.load_pem_x509_certificate(pair.issuer.read_bytes())
    builder = ocsp.OCSPRequestBuilder().add_certificate(identity.certificate, issuer, hashes.SHA1())
    text = base64.b64encode(builder.build().public_bytes(Encoding.DER)).decode()
    path = quote(text, safe="") if encode else text
    body = run("curl", "-sS", "--fail", "--path-as-is", f"{pair.ca.http_url}/ca/ocsp/{path}").stdout
    return ocsp.load_der_ocsp_response(body)


@pytest.mark.parametrize("encode", [True, False])
def test_get(pair: Pair, encode: bool) -> None:
    assert get_status(pair, pair.first, encode).certificate_status is ocsp.OCSPCertStatus.GOOD
    revoke(pair.ca, pair.first, "superseded")
    time.sleep(REVOCATION_SHOWS)
    answer = get_status(pair, pair.first, encode)
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.superseded


def test_unknown_serial_is_not_good(pair: Pair) -> None:
    responder = ("-url", f"{pair.ca.http_url}/ca/ocsp", "-CAfile", pair.ca.trust_anchors)
    asked = ("-issuer", pair.issuer, "-serial", "0x1234567890abcdef1234567890abcdef")
    said = openssl("ocsp", *asked, *responder, ok=False).stdout.decode()
    assert ": good" not in said
    assert ": unknown" in said or ": revoked" in said, said


def test_ocsp_over_https(pair: Pair) -> None:
    der = base64.b64encode(request_der(pair)).decode()
    answer = request(pair.ca, "GET", f"/ca/ocsp/{quote(der, safe='')}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/ocsp-response"


def request_der(pair: Pair) -> bytes:
    issuer = x509.load_pem_x509_certificate(pair.issuer.read_bytes())
    builder = ocsp.OCSPRequestBuilder().add_certificate(pair.first.certificate, issuer, hashes.SHA256())
    return builder.build().public_bytes(Encoding.DER)


def test_ocsptool(pair: Pair) -> None:
    """GnuTLS finds the responder by the AIA. It builds no chain for it, so the issuer itself must be trusted."""
    single = ("--load-cert", pair.first.certificate_file, "--load-issuer", pair.issuer)
    said = run("ocsptool", "--ask", *single, "--load-trust", pair.issuer).stdout.decode()
    assert "Certificate Status: good" in said, said
    assert "Verifying OCSP Response: Success" in said, said


def crl_verify(pair: Pair, crls: Path) -> tuple[int, str]:
    """`openssl verify -crl_check` of the first certificate: exit status and what it says."""
    trust = ("-CAfile", pair.ca.trust_anchors, "-untrusted", pair.issuer)
    done = openssl("verify", "-crl_check", "-CRLfile", crls, *trust, pair.first.certificate_file, ok=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def fetch_crls(pair: Pair, url: str, path: Path) -> Path:
    path.write_bytes(run("curl", "-sS", "--fail", url).stdout)
    if not path.read_bytes().startswith(b"-----BEGIN"):
        pem = openssl("crl", "-inform", "DER", "-in", path).stdout
        path.write_bytes(pem)
    return path


def crl_urls(pair: Pair) -> list[str]:
    """All CRLs as PEM, and the one that the certificate's distribution point names."""
    points = pair.first.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = points[0].full_name or []
    return [f"{pair.ca.http_url}/ca/crl?format=pem", str(name.value)]


def test_crl_agrees_within_a_second(pair: Pair, tmp_path: Path) -> None:
    for url in crl_urls(pair):
        status, said = crl_verify(pair, fetch_crls(pair, url, tmp_path / "crl"))
        assert status == 0, (url, said)
    revoke(pair.ca, pair.first, "superseded")
    time.sleep(REVOCATION_SHOWS)
    for url in crl_urls(pair):
        status, said = crl_verify(pair, fetch_crls(pair, url, tmp_path / "crl"))
        assert status != 0, url
        assert "certificate revoked" in said, said


def test_ca_issuers_gives_the_issuer(pair: Pair) -> None:
    """The caIssuers URL of a certificate leads to its issuer, as DER or certs-only CMS (RFC 5280 §4.2.2.1)."""
    access = pair.first.certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    wanted = AuthorityInformationAccessOID.CA_ISSUERS
    (url,) = (a.access_location.value for a in access if a.access_method == wanted)
    der = run("curl", "-sS", "--fail", url).stdout
    issuer = x509.load_pem_x509_certificate(pair.issuer.read_bytes())
    assert x509.load_der_x509_certificate(der) == issuer
