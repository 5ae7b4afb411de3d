"""OpenSSL, GnuTLS, NSS and curl agree with us on good, held, released, revoked, unknown, and on other CAs'."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp

from opencertd.asn1.ocsp import hash_issuer
from opencertd.keys.signer import PrivateKey
from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon, free_port
from tests.interop.https import Identity, enrol
from tests.interop.nginx import USER, serving
from tests.interop.revoking import revoke
from tests.interop.site import site
from tests.interop.test_certbot import Certbot, standalone
from tests.interop.test_hold import Case
from tests.interop.test_status import issuer_file
from tests.ocsp.pki import pki, write_pem

SHOWS = 1.0  # seconds


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    settings = '[access]\nrevokers = ["CN=operator.test"]\n'
    with site(tmp_path_factory.mktemp("clients"), 2, settings=settings) as running:
        yield running.ca


@pytest.fixture(params=["ec", "rsa"])
def case(ca: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    device, operator = (enrol(ca, tmp_path, name, request.param) for name in ("device.test", "operator.test"))
    return Case(ca, tmp_path, issuer_file(ca, device.certificate, tmp_path), device, operator)


def nss(case: Case, leaf: Path) -> str:
    """What NSS says of the certificate when it must know its status by OCSP: `good`, or why not."""
    database = case.directory / f"nss-{leaf.stem}"
    if not database.exists():
        database.mkdir()
        run("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
        for number, anchor in enumerate(x509.load_pem_x509_certificates(case.ca.trust_anchors.read_bytes())):
            path = write_pem(case.directory / "anchor.pem", anchor)
            known = ("-n", f"anchor{number}", "-t", "CT,C,C", "-a", "-i", path)
            run("certutil", "-A", "-d", f"sql:{database}", *known)
        run("certutil", "-A", "-d", f"sql:{database}", "-n", "issuer", "-t", ",,", "-a", "-i", case.issuer)
    must_know = ("-pp", "-u", "0", "-g", "leaf", "-m", "ocsp", "-s", "failIfNoInfo")
    done = run("vfychain", "-d", f"sql:{database}", *must_know, "-a", leaf, ok=False)
    said = (done.stdout + done.stderr).decode()
    return "good" if "Chain is good!" in said else said


def gnutls(case: Case, leaf: Path) -> str:
    """What GnuTLS says of the certificate, the answer having been verified: `good`, `revoked` or all it said."""
    done = run(
        "ocsptool", "--ask", "--load-cert", leaf, "--load-issuer", case.issuer, "--load-trust", case.issuer, ok=False
    )
    said = (done.stdout + done.stderr).decode()
    for status in ("good", "revoked", "unknown"):
        if f"Certificate Status: {status}" in said and "Verifying OCSP Response: Success" in said:
            return status
    return said


def opencert(case: Case, leaf: Path) -> str:
    done = run("opencert", "ocsp", "check", leaf, "--issuer", case.issuer, "--json", ok=False)
    said = json.loads(done.stdout)
    return " ".join(filter(None, (said["status"] or said["fault"], said.get("reason"))))


def curl(case: Case, leaf: Path) -> str:
    """By GET."""
    certificates = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (leaf, case.issuer))
    request = ocsp.OCSPRequestBuilder().add_certificate(*certificates, hashes.SHA256()).build()
    answer = get(case.ca, request.public_bytes(Encoding.DER), quote)
    return answer.certificate_status.name.lower()


def get(ca: Daemon, request_der: bytes, disguise: Callable[..., str]) -> ocsp.OCSPResponse:
    text = disguise(base64.b64encode(request_der).decode(), safe="")
    body = run("curl", "-sS", "--fail", "--path-as-is", "--globoff", f"{ca.http_url}/ca/ocsp/{text}").stdout
    return ocsp.load_der_ocsp_response(body)


def agree(case: Case, status: str, reason: str = "") -> None:
    leaf = case.device.certificate_file
    assert case.ocsp() == {f"{status} {reason}".strip()}
    assert gnutls(case, leaf) == status
    said = nss(case, leaf)
    assert said == "good" if status == "good" else "has been revoked" in said, said
    assert opencert(case, leaf) == f"{status} {reason}".strip()
    assert curl(case, leaf) == status


def test_all_agree_at_every_step(case: Case) -> None:
    agree(case, "good")
    for deed, options, status, reason in (
        ("hold", (), "revoked", "certificateHold"),
        ("reinstate", (), "good", ""),
        ("revoke", ("--reason", "superseded"), "revoked", "superseded"),
    ):
        case.cert(deed, *options)
        time.sleep(SHOWS)
        agree(case, status, reason)


def forged(case: Case, signer: x509.Certificate, key: PrivateKey) -> Path:
    """A certificate that names our responder and was never issued by the CA."""
    device = case.device.certificate
    builder = x509.CertificateBuilder().subject_name(device.subject).issuer_name(signer.subject)
    builder = builder.public_key(device.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(device.not_valid_before_utc).not_valid_after(device.not_valid_after_utc)
    wanted = (x509.AuthorityInformationAccess, x509.KeyUsage, x509.ExtendedKeyUsage)
    for extension in device.extensions:
        if isinstance(extension.value, wanted):
            builder = builder.add_extension(extension.value, extension.critical)
    return write_pem(case.directory / "forged.pem", builder.sign(key, hashes.SHA256()))


def test_all_agree_that_what_was_never_issued_is_not_good(case: Case) -> None:
    signer = x509.load_pem_x509_certificate(case.issuer.read_bytes())
    keys = [load_pem_private_key(path.read_bytes(), None) for path in (case.ca.state / "keys").glob("*.pem")]
    (key,) = (key for key in keys if key.public_key() == signer.public_key())
    leaf = forged(case, signer, key)
    openssl("verify", "-partial_chain", "-trusted", case.issuer, leaf)
    asked = ("-issuer", case.issuer, "-cert", leaf, "-no_nonce", "-url", f"{case.ca.http_url}/ca/ocsp")
    said = openssl("ocsp", *asked, "-CAfile", case.ca.trust_anchors, "-verify_other", case.issuer, ok=False)
    assert b": unknown" in said.stdout
    assert (gnutls(case, leaf), opencert(case, leaf), curl(case, leaf)) == ("unknown", "unknown", "unknown")
    assert "Chain is bad!" in nss(case, leaf)  # to NSS, what nobody vouches for is as good as revoked


def test_all_agree_that_other_cas_certificates_are_not_ours_to_judge(case: Case) -> None:
    foreign = pki().ecdsa
    leaf = forged(case, foreign.certificate, foreign.key)
    case = replace(case, issuer=write_pem(case.directory / "foreign.pem", foreign.certificate))
    asked = ("-issuer", case.issuer, "-cert", leaf, "-no_nonce", "-url", f"{case.ca.http_url}/ca/ocsp")
    assert b"unauthorized" in openssl("ocsp", *asked, ok=False).stdout
    assert "unauthorized" in gnutls(case, leaf).lower() and "unauthorized" in opencert(case, leaf)


def twice(text: str, *, safe: str) -> str:
    return quote(quote(text, safe=safe), safe=safe)


def thrice(text: str, *, safe: str) -> str:
    return quote(twice(text, safe=safe), safe=safe)


def bare(text: str, *, safe: str) -> str:
    return text


def small(text: str, *, safe: str) -> str:
    return text.replace("/", "%2f").replace("+", "%2b").replace("=", "%3d")


def awkward(case: Case, *characters: str) -> tuple[bytes, int]:
    """A request in whose base64 these stand, and the serial that it asks about."""
    issuer = x509.load_pem_x509_certificate(case.issuer.read_bytes())
    name_hash, key_hash = hash_issuer(issuer.public_bytes(Encoding.DER), "sha1")
    for _ in range(100_000):
        serial = x509.random_serial_number() >> 8 * secrets.randbelow(3)
        builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, hashes.SHA1())
        request = builder.build().public_bytes(Encoding.DER)
        text = base64.b64encode(request).decode()
        if all(character in text for character in characters):
            return request, serial
    raise AssertionError(characters)


@pytest.mark.parametrize("disguise", [bare, quote, small, twice])
def test_curl_gets_whatever_base64_has_in_it(case: Case, disguise: Callable[..., str]) -> None:
    for characters in (("+", "/", "="), ("+", "/", "=="), ("//", "+"), ("++",)):
        request, serial = awkward(case, *characters)
        answer = get(case.ca, request, disguise)
        assert (answer.serial_number, answer.certificate_status) == (serial, ocsp.OCSPCertStatus.UNKNOWN)


def test_what_is_encoded_too_often_is_malformed_in_so_many_words(case: Case) -> None:
    request, _ = awkward(case, "+", "/", "=")
    assert get(case.ca, request, thrice).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


# Programs that ask by themselves.

STAPLING = """
{user}
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_stapling on;
        ssl_stapling_verify on;
        ssl_trusted_certificate {trusted};
    }}
}}
"""


def stapled(case: Case, place: Path) -> str:
    """What nginx staples, or what is in its log when that is nothing."""
    place.mkdir()
    place.chmod(0o755)
    chain, trusted, port = place / "chain.pem", place / "trusted.pem", free_port()
    chain.write_bytes(case.device.certificate_file.read_bytes() + case.issuer.read_bytes())
    trusted.write_bytes(case.issuer.read_bytes() + case.ca.trust_anchors.read_bytes())
    files = {"chain": chain, "trusted": trusted, "key": case.device.key_file}
    with serving(place, STAPLING.format(place=place, user=USER, port=port, **files), port):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # nginx asks when somebody comes, and staples for those who come later
            said = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-status", ok=False).stdout.decode()
            if "OCSP Response Status: successful" in said:
                return said
            time.sleep(0.2)
    return (place / "error.log").read_text()


def test_nginx_staples_what_is_good_and_nothing_of_what_is_revoked(case: Case) -> None:
    assert "Cert Status: good" in stapled(case, case.directory / "good")
    case.cert("revoke", "--reason", "keyCompromise")
    time.sleep(SHOWS)
    assert 'certificate status "revoked" in the OCSP response' in stapled(case, case.directory / "revoked")


def test_certbot_sees_a_revocation_and_renews(ca: Daemon, tmp_path: Path) -> None:
    certbot = Certbot(ca, tmp_path)
    name = "ocsp.certbot.test"
    certbot("certonly", *standalone(ca), "-d", name)
    assert b"REVOKED" not in certbot("certificates").stdout
    first = certbot.certificate(name)
    revoke(ca, Identity(certbot.live(name, "cert.pem"), certbot.live(name, "privkey.pem")), "superseded")
    time.sleep(SHOWS)
    assert b"INVALID: REVOKED" in certbot("certificates").stdout
    certbot("renew", "--no-random-sleep-on-renew", "--cert-name", name)
    assert certbot.certificate(name).serial_number != first.serial_number
    assert b"REVOKED" not in certbot("certificates").stdout


@pytest.mark.parametrize("case", ["rsa"], indirect=True)
def test_all_agree_about_certificates_of_a_retired_ca(case: Case) -> None:
    """Last: it signs nothing after that."""
    run("opencert", "ca", "retire", "rsa", "--state-dir", case.ca.state)
    time.sleep(3 * SHOWS)
    agree(case, "good")
    case.cert("revoke", "--reason", "superseded")
    time.sleep(SHOWS)
    agree(case, "revoked", "superseded")
