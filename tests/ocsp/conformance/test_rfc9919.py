"""RFC 9919: OCSP for high volume."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.x509 import ocsp as peer

from opencertd.asn1 import der
from opencertd.ocsp.resource import edge
from opencertd.ocsp.terms import OcspTerms
from tests.conformance import shows
from tests.ocsp.browser import header
from tests.ocsp.conformance.answers import (
    GOOD,
    NONCE,
    POST,
    Status,
    answered,
    browser,
    own_responder,
    path,
    request_with,
    times,
)
from tests.ocsp.pki import pki
from tests.ocsp.rig import Rig, build_cert_id, build_request


@shows("9919 §3.1.1/1")
async def test_3_1_1_hashes() -> None:
    rig = Rig()
    for hash_name in ("sha256", "sha1"):
        assert (await rig.ask(1, hash_name=hash_name)).certificate_status is GOOD


@shows("9919 §3.1.2/1")
async def test_3_1_2_a_name_without_a_signature() -> None:
    rig = Rig()
    name = der.explicit(1, der.explicit(4, pki().rsa.certificate.subject.public_bytes()))
    assert (await answered(rig, request_with(rig, name=name))).certificate_status is GOOD


@shows("9919 §3.2.1/1")
async def test_3_2_1_speaks_of_it() -> None:
    (single,) = (await Rig().ask(1)).responses
    assert single.serial_number == 1


@shows("9919 §3.2.1/2")
async def test_3_2_1_no_extensions() -> None:
    assert len((await Rig().ask(1)).extensions) == 0


@shows("9919 §3.2.1/3")
async def test_3_2_1_the_most_there_is() -> None:
    response = await Rig(terms=OcspTerms(nonces=False)).ask(1, nonce=NONCE)
    assert response.certificate_status is GOOD and len(response.extensions) == 0


@shows("9919 §3.2.2/1")
async def test_3_2_2_the_delegate_is_there() -> None:
    rig = Rig()
    for nonce in (None, NONCE):
        (delegate,) = (await rig.ask(1, nonce=nonce)).certificates
        delegate.verify_directly_issued_by(rig.pki.ecdsa.certificate)


@shows("9919 §3.2.2/2")
def test_3_2_2_nobody_asks_about_it() -> None:
    certificate, _ = own_responder()
    found = {type(each.value) for each in certificate.extensions}
    assert x509.OCSPNoCheck in found
    assert not found & {x509.AuthorityInformationAccess, x509.CRLDistributionPoints}


@shows("9919 §3.2.2/3")
async def test_3_2_2_short_lived_and_renewed() -> None:
    certificate, _ = own_responder()
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=31)
    rig = Rig()
    (first,) = (await rig.ask(1)).certificates
    rig.pass_time(rig.life * 2 / 3 + timedelta(hours=1))
    await rig.ask(1)
    await rig.tasks.wait()
    rig.pass_time(timedelta(hours=1))
    (second,) = (await rig.ask(1)).certificates
    assert second.not_valid_after_utc > first.not_valid_after_utc


@shows("9919 §3.2.2/4")
async def test_3_2_2_by_key() -> None:
    assert (await Rig().ask(1)).responder_key_hash is not None


@shows("9919 §3.2.3/1")
async def test_3_2_3_unauthorized() -> None:
    request = build_request(build_cert_id(pki().ecdsa.issuer, 1, "md5"))
    assert (await answered(Rig(), request)).response_status is Status.UNAUTHORIZED


@shows("9919 §3.2.4/1")
async def test_3_2_4_next_update() -> None:
    for serial in (1, 999):
        response = await Rig().ask(serial)
        assert response.next_update_utc is not None and response.next_update_utc > response.this_update_utc


async def written() -> list[bytes]:
    rig = Rig()
    body = (await rig.server.answer(rig.request(1))).body
    return times(peer.load_der_ocsp_response(body), body)


@shows("9919 §3.2.4/2")
async def test_3_2_4_gmt_with_seconds() -> None:
    found = await written()
    assert len(found) == 3 and all(re.fullmatch(rb"\d{14}Z", time) for time in found)


@shows("9919 §3.2.4/3")
async def test_3_2_4_no_fractions() -> None:
    assert Rig().clock.now().microsecond
    assert not any(b"." in time for time in await written())


async def got(rig: Rig, target: str) -> Any:
    response, _ = await browser(rig).ask("GET", target)
    return response


@shows("9919 §6/1")
def test_6_plain_http() -> None:

    rig = Rig()
    assert edge(server=rig.server, clock=rig.clock).plain_http


@shows("9919 §6/2")
async def test_6_get_and_post() -> None:
    rig = Rig()
    response, _ = await browser(rig).ask("POST", "/ca/ocsp", rig.request(1), POST)
    assert response.code == (await got(rig, path(rig, 1))).code == 200


@shows("9919 §6/3")
async def test_6_headers() -> None:
    rig = Rig()
    await got(rig, path(rig, 1))
    rig.pass_time(timedelta(seconds=1))  # within its first second nobody can say since when it is as it is
    response = await got(rig, path(rig, 1))
    for name in ("ETag", "Last-Modified", "Expires", "Cache-Control", "Date"):
        assert header(response, name), name
    assert "max-age=" in str(header(response, "Cache-Control"))
    rig.pass_time(timedelta(minutes=1))
    repeated = await got(rig, path(rig, 1))
    assert header(repeated, "ETag") == header(response, "ETag")


@shows("9919 §6/4")
async def test_6_max_age() -> None:
    rig = Rig()
    for minutes in (0, 7, 20):
        rig.pass_time(timedelta(minutes=minutes))
        response, content = await browser(rig).ask("GET", path(rig, 1))
        found = re.search(r"max-age=(\d+)", str(header(response, "Cache-Control")))
        assert found
        until = peer.load_der_ocsp_response(content).next_update_utc
        assert until is not None and rig.clock.now() + timedelta(seconds=int(found[1])) <= until


@shows("9919 §7.2/1")
async def test_7_2_proxies() -> None:
    rig = Rig()
    said = str(header(await got(rig, path(rig, 1)), "Cache-Control"))
    assert "public" in said and "no-store" not in said and "no-cache" not in said


@shows("9919 §7.2/3")
async def test_7_2_errors_are_not_kept() -> None:
    rig = Rig()
    for target in ("/ca/ocsp/garbage", path(rig, 999)):
        assert header(await got(rig, target), "Cache-Control") == "no-store"
