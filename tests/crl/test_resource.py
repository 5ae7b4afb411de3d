"""CRLs over HTTP, in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509

from opencertd.asn1.pem import parse_pem
from opencertd.crl.messages import CrlForm, choose_form
from opencertd.crl.resource import edge
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.web.refusals import HTTP_STATUS
from tests.crl.rig import Rig
from tests.ocsp.browser import Browser, header
from tests.ocsp.pki import pki

EC, RSA = pki().ecdsa, pki().rsa


class Web(Browser):
    """The CRL edge; the profiles are `default` and `servers`, both of the ECDSA issuer."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.edge = edge(server=self.rig.server, issuer_for=self.issuer_for, clock=self.rig.clock)
        super().__init__(self.edge)

    def issuer_for(self, profile: str, spki_der: bytes | None) -> Issuer:
        if profile in ("default", "servers"):
            return EC.issuer
        raise Refusal(RefusalKind.NOT_FOUND, f"there is no profile {profile!r}")


async def ready() -> Web:
    web = Web()
    await web.rig.server.ensure()
    return web


@pytest.mark.parametrize(
    ("path", "ca"),
    [
        ("/ca/crl", EC),
        ("/ca/default/crl", EC),
        ("/ca/servers/crl", EC),
        ("/ca/ecdsa/crl", EC),
        ("/ca/rsa/crl", RSA),
        ("/ca/ecdsa-root/crl", pki().root),
    ],
)
@pytest_twisted.ensureDeferred
async def test_every_name_has_its_crl(path: str, ca: Any) -> None:
    response, body = await (await ready()).ask("GET", path)
    assert (response.code, header(response, "Content-Type")) == (200, "application/pkix-crl")
    assert response.length == len(body)
    assert x509.load_der_x509_crl(body).issuer == ca.certificate.subject


@pytest.mark.parametrize(
    ("path", "headers", "count"),
    [
        ("/ca/crl?format=pem", {}, 3),
        ("/ca/rsa/crl?format=pem", {}, 1),
        ("/ca/rsa/crl", {"Accept": "application/x-pem-file"}, 1),
        ("/ca/crl", {"Accept": "text/html, Application/X-PEM-file;q=0.9"}, 3),
    ],
)
@pytest_twisted.ensureDeferred
async def test_pem_is_one_crl_or_those_of_all_issuers(path: str, headers: dict[str, str], count: int) -> None:
    response, body = await (await ready()).ask("GET", path, headers=headers)
    assert header(response, "Content-Type") == "application/x-pem-file"
    assert header(response, "Vary") == "Accept"
    blocks = parse_pem(body)
    assert [label for label, _ in blocks] == ["X509 CRL"] * count
    assert len({x509.load_der_x509_crl(der).issuer.rfc4514_string() for _, der in blocks}) == count


@pytest.mark.parametrize(
    ("uri", "accept", "form"),
    [
        (b"/ca/crl", None, CrlForm.DER),
        (b"/ca/crl", "*/*", CrlForm.DER),
        (b"/ca/crl", "application/pkix-crl, application/x-pem-file", CrlForm.DER),
        (b"/ca/crl?format=DER", "application/x-pem-file", CrlForm.DER),
        (b"/ca/crl?format=PEM", None, CrlForm.PEM),
        (b"/ca/crl?other=1", None, CrlForm.DER),
    ],
)
def test_which_form_is_meant(uri: bytes, accept: str | None, form: CrlForm) -> None:
    assert choose_form(uri, accept) is form


@pytest.mark.parametrize("path", ["/ca/crl", "/ca/crl?format=pem"])
@pytest.mark.parametrize("precondition", ["If-None-Match", "If-Modified-Since"])
@pytest_twisted.ensureDeferred
async def test_a_new_crl_shows_at_once_to_those_who_ask_again(path: str, precondition: str) -> None:
    web = await ready()
    web.rig.clock.advance(timedelta(seconds=2))
    response, _ = await web.ask("GET", path)
    assert header(response, "Cache-Control") == "public, no-cache, no-transform"
    validator = header(response, {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}[precondition])
    assert validator is not None
    again, body = await web.ask("GET", path, headers={precondition: validator})
    assert (again.code, body) == (304, b"")
    web.rig.store.revoke(EC, 5)
    await web.rig.other.publish(EC.issuer.id)
    changed, body = await web.ask("GET", path, headers={precondition: validator})
    assert changed.code == 200
    if path == "/ca/crl":
        assert [entry.serial_number for entry in x509.load_der_x509_crl(body)] == [5]


@pytest_twisted.ensureDeferred
async def test_two_crls_of_one_second_share_no_validator() -> None:
    web = await ready()
    first, _ = await web.ask("GET", "/ca/crl")
    web.rig.store.revoke(EC, 5)
    await web.rig.server.publish(EC.issuer.id)
    second, _ = await web.ask("GET", "/ca/crl")
    assert header(first, "ETag") != header(second, "ETag")
    assert header(first, "Last-Modified") is None  # its second was not over


@pytest_twisted.ensureDeferred
async def test_der_and_pem_share_no_etag() -> None:
    web = await ready()
    der, _ = await web.ask("GET", "/ca/rsa/crl")
    pem, _ = await web.ask("GET", "/ca/rsa/crl?format=pem")
    assert header(der, "ETag") != header(pem, "ETag")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/ca/nobody/crl", 404),
        ("GET", "/ca/crl?format=xml", 400),
        ("POST", "/ca/crl", 405),
        ("GET", "/ca/a/b/crl", 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_are_plain_words(method: str, path: str, code: int) -> None:
    response, body = await (await ready()).ask(method, path)
    assert response.code == code
    assert body
    assert b"<" not in body


@pytest_twisted.ensureDeferred
async def test_before_the_first_crl_it_is_unavailable() -> None:
    response, _ = await Web().ask("GET", "/ca/crl")
    assert (response.code, header(response, "Retry-After")) == (503, "2")


@pytest_twisted.ensureDeferred
async def test_the_table_is_the_one_of_http_and_complete() -> None:
    assert set(HTTP_STATUS) == set(RefusalKind)
    web = await ready()
    for kind in RefusalKind:

        def refuse(profile: str, spki_der: bytes | None, kind: RefusalKind = kind) -> Issuer:
            raise Refusal(kind, "a reason", allowed=("GET",))

        browser = Browser(edge(server=web.rig.server, issuer_for=refuse, clock=web.rig.clock))
        response, body = await browser.ask("GET", "/ca/x/crl")
        assert (response.code, body) == (HTTP_STATUS[kind], b"a reason\n")
