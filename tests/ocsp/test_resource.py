"""OCSP over HTTP, in memory, and once over a socket to OpenSSL."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from cryptography.x509 import ocsp as peer
from twisted.internet.utils import getProcessOutputAndValue

from opencertd.asn1 import ocsp
from opencertd.clock import FixedClock, SystemClock
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.ocsp.resource import edge
from opencertd.web.site import build_site
from tests.ocsp.browser import Browser, header
from tests.ocsp.pki import NOW, pki, write_pem
from tests.ocsp.rig import Rig, build_cert_id, build_request

TYPE = {"Content-Type": "application/ocsp-request"}


class Web(Browser):
    """The OCSP edge."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.edge = edge(server=self.rig.server, clock=self.rig.clock)
        super().__init__(self.edge)

    def path(self, *serials: int, prefix: str = "/ca/ocsp", **options: Any) -> str:
        return f"{prefix}/{quote(base64.b64encode(self.rig.request(*serials, **options)), safe='')}"


def status_of(body: bytes) -> peer.OCSPResponseStatus:
    return peer.load_der_ocsp_response(body).response_status


@pytest.mark.parametrize("path", ["/ca/ocsp", "/ca/ocsp/", "/ca/rsa/ocsp", "/ca/rsa/ocsp/"])
@pytest_twisted.ensureDeferred
async def test_post(path: str) -> None:
    web = Web()
    response, body = await web.ask("POST", path, web.rig.request(1), TYPE)
    assert (response.code, header(response, "Content-Type")) == (200, "application/ocsp-response")
    assert header(response, "Cache-Control") == "no-store"
    assert response.length == len(body)
    assert peer.load_der_ocsp_response(body).certificate_status is peer.OCSPCertStatus.GOOD


def awkward_request() -> bytes:
    """One whose base64 has `//` in it: serials can be chosen until it does."""
    for serial in range(0xFFFFFF00, 0xFFFFFFFF):
        for shift in range(3):
            request = build_request(build_cert_id(pki().ecdsa.issuer, serial << (8 * (shift + 4))))
            if b"//" in base64.b64encode(request):
                return request
    raise AssertionError


@pytest.mark.parametrize("prefix", ["/ca/ocsp", "/ca/ecdsa/ocsp"])
@pytest_twisted.ensureDeferred
async def test_slashes_pluses_and_padding_survive_the_way_through_http(prefix: str) -> None:
    web = Web()
    text = base64.b64encode(awkward_request()).decode()
    assert "//" in text
    for disguise in (text, quote(text, safe=""), "/" + text, "//" + quote(text, safe=""), text.rstrip("=")):
        response, body = await web.ask("GET", f"{prefix}/{disguise}")
        assert response.code == 200
        single = peer.load_der_ocsp_response(body)
        assert single.certificate_status is peer.OCSPCertStatus.UNKNOWN, disguise


@pytest_twisted.ensureDeferred
async def test_get_may_be_kept_until_next_update() -> None:
    web = Web()
    await web.ask("GET", web.path(1))
    web.rig.pass_time(timedelta(minutes=20))
    response, body = await web.ask("GET", web.path(1))
    assert header(response, "Cache-Control") == "max-age=2399, public, no-transform, must-revalidate"
    assert header(response, "Expires") == "Fri, 17 May 2030 13:30:15 GMT"
    assert header(response, "Last-Modified") == "Fri, 17 May 2030 12:30:16 GMT"
    assert peer.load_der_ocsp_response(body).next_update_utc == NOW.replace(microsecond=0) + timedelta(hours=1)


@pytest.mark.parametrize("precondition", ["If-None-Match", "If-Modified-Since"])
@pytest_twisted.ensureDeferred
async def test_who_has_it_already_gets_304_until_it_changes(precondition: str) -> None:
    web = Web()
    await web.ask("GET", web.path(1))
    web.rig.pass_time(timedelta(minutes=1))
    response, _ = await web.ask("GET", web.path(1))
    validator = header(response, {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}[precondition])
    assert validator is not None
    again, body = await web.ask("GET", web.path(1), headers={precondition: validator})
    assert (again.code, body) == (304, b"")
    assert header(again, "ETag") == header(response, "ETag")
    assert header(again, "Cache-Control") is not None
    web.rig.revoke(1)
    web.rig.server.note_revoked(pki().ecdsa.issuer.id, 1)
    changed, body = await web.ask("GET", web.path(1), headers={precondition: validator})
    assert changed.code == 200
    assert peer.load_der_ocsp_response(body).certificate_status is peer.OCSPCertStatus.REVOKED


@pytest_twisted.ensureDeferred
async def test_nonces_unknown_certificates_and_errors_are_not_kept() -> None:
    web = Web()
    paths = [web.path(1, nonce=b"nonce"), web.path(999), "/ca/ocsp/MAAA", "/ca/ocsp", "/ca/ocsp/"]
    for path in paths:
        response, _ = await web.ask("GET", path)
        assert (response.code, header(response, "Cache-Control")) == (200, "no-store"), path
        assert header(response, "ETag") is None


@pytest_twisted.ensureDeferred
async def test_head_has_the_headers_only() -> None:
    web = Web()
    response, body = await web.ask("HEAD", web.path(1))
    assert (response.code, body) == (200, b"")
    assert header(response, "ETag") is not None


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/ca/ocsp", b"garbage", TYPE),
        ("POST", "/ca/ocsp", b"", TYPE),
        ("POST", "/ca/ocsp", b"x=1", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("GET", "/ca/ocsp", None, {}),
        ("GET", "/ca/ocsp/!!!", None, {}),
        ("GET", "/ca/ocsp/a/b/c", None, {}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_request_is_malformed_request_in_200(
    method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    response, answer = await Web().ask(method, path, body, headers)
    assert (response.code, header(response, "Content-Type")) == (200, "application/ocsp-response")
    assert status_of(answer) is peer.OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize("media_type", [None, "application/ocsp-request; charset=x", "Application/OCSP-Request"])
@pytest_twisted.ensureDeferred
async def test_media_types_that_will_do(media_type: str | None) -> None:
    web = Web()
    headers = {} if media_type is None else {"Content-Type": media_type}
    _, body = await web.ask("POST", "/ca/ocsp", web.rig.request(1), headers)
    assert status_of(body) is peer.OCSPResponseStatus.SUCCESSFUL


@pytest_twisted.ensureDeferred
async def test_another_method_is_405_and_says_which_will_do() -> None:
    response, _ = await Web().ask("PUT", "/ca/ocsp", b"", TYPE)
    assert response.code == 405
    assert set((header(response, "Allow") or "").split(", ")) == {"GET", "HEAD", "POST"}


@pytest_twisted.ensureDeferred
async def test_a_fault_of_our_own_is_internal_error_in_200() -> None:
    web = Web()

    async def broken(request_der: bytes) -> None:
        raise ZeroDivisionError

    web.rig.server.answer = broken
    response, body = await web.ask("POST", "/ca/ocsp", web.rig.request(1), TYPE)
    assert (response.code, status_of(body)) == (200, peer.OCSPResponseStatus.INTERNAL_ERROR)


def test_which_paths_are_claimed() -> None:
    claims = Web().edge.claims
    assert all(claims(tuple(path.split("/"))) for path in ("ca/ocsp", "ca/ocsp/x", "ca/ocsp//x", "ca/rsa/ocsp/x/y"))
    assert not any(
        claims(tuple(path.split("/"))) for path in ("ca", "ca/crl", "ca/rsa/crl", "ocsp", "x/ocsp", "ca/a/b/ocsp")
    )


@pytest.fixture
def loopback(tmp_path: Path) -> AsyncIterator[tuple[Rig, int]]:
    """The server on a real socket in the real present."""
    from twisted.internet import reactor

    rig = Rig(clock=SystemClock())
    site = build_site([edge(server=rig.server, clock=rig.clock)], reactor=reactor, plain=True)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    yield rig, port.getHost().port
    pytest_twisted.blockon(port.stopListening())


async def openssl_ocsp(port: int, tmp_path: Path, *arguments: str, ca: str = "ecdsa") -> str:
    issuer = pki().ca_of(pki().issuers.by_name(ca))
    anchors = write_pem(tmp_path / "anchors.pem", pki().root.certificate, pki().rsa.certificate)
    write_pem(tmp_path / "issuer.pem", issuer.certificate)
    command = ["ocsp", "-issuer", tmp_path / "issuer.pem", *arguments, "-url", f"http://127.0.0.1:{port}/ca/ocsp"]
    command += ["-CAfile", anchors, "-verify_other", tmp_path / "issuer.pem"]
    out, err, _ = await getProcessOutputAndValue("/usr/bin/openssl", [str(word) for word in command])
    return (out + err).decode()


@pytest.mark.interop
@pytest.mark.parametrize("options", [(), ("-no_nonce",)])
@pytest.mark.parametrize("ca", ["ecdsa", "rsa", "ecdsa-root"])
@pytest_twisted.ensureDeferred
async def test_openssl_believes_it(
    loopback: tuple[Rig, int], tmp_path: Path, options: tuple[str, ...], ca: str
) -> None:
    rig, port = loopback
    issuer = pki().ca_of(pki().issuers.by_name(ca))
    revocation = Revocation(rig.clock.now().replace(microsecond=0), RevocationReason.SUPERSEDED)
    rig.store.revoke(issuer, 2, revocation)
    serials = ("-serial", "1", "-sha256", "-serial", "2", "-serial", "3", "-serial", "77")
    said = await openssl_ocsp(port, tmp_path, *options, *serials, ca=ca)
    assert "Response verify OK" in said, said
    assert "WARNING" not in said
    for line in ("1: good", "2: revoked", "3: good", "77: unknown", "Reason: superseded"):
        assert line in said, said


@pytest.mark.interop
@pytest_twisted.ensureDeferred
async def test_openssl_shows_why_it_was_refused(loopback: tuple[Rig, int], tmp_path: Path) -> None:
    rig, port = loopback
    other = write_pem(tmp_path / "other.pem", pki().rsa.certificate)
    said = await openssl_ocsp(port, tmp_path, "-serial", "1", "-issuer", str(other), "-serial", "1")
    assert "Responder Error: unauthorized (6)" in said
    rig.store.away = OSError("gone")
    assert "trylater (3)" in await openssl_ocsp(port, tmp_path, "-serial", "1")


def test_the_largest_request_fits_the_body_limit() -> None:
    issuer = pki().ecdsa.issuer
    cert_ids = [build_cert_id(issuer, (1 << 158) + number, "sha512") for number in range(ocsp.MOST_CERT_IDS)]
    request = build_request(*cert_ids, nonce=b"n" * 128)
    assert len(ocsp.parse_request(request).cert_ids) == ocsp.MOST_CERT_IDS
    assert len(request) < Web().edge.body_limit
    assert isinstance(Web().rig.clock, FixedClock)
