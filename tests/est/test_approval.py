"""Edges say in their protocols' words that somebody is to decide, and give what was decided to whoever comes back."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from email import message_from_bytes
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key, pkcs7

from opencertd.model.requester import Requester
from tests.est.rig import USER, Rig, holder, new_csr
from tests.issuance.test_approvals import Desk

ensure = pytest_twisted.ensureDeferred
EST = "/.well-known/est/cameras"
ENROL = f"{EST}/simpleenroll"
PKCS10 = {"Content_Type": "application/pkcs10", "User_Agent": "test"}


class Counter(Rig):
    """EST and `/ca` before a CA whose profile `cameras` wants approval. `desk` decides."""

    def __init__(self, **resource: Any) -> None:
        self.desk = Desk()
        super().__init__(authority=self.desk.authority, **resource)
        self.door.who = USER

    async def enrol(self, csr: bytes, path: str = ENROL) -> tuple[Any, bytes]:
        return await self.ask("POST", path, csr, **PKCS10)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate_of(answer: tuple[Any, bytes]) -> x509.Certificate:
    response, body = answer
    assert response.code == 200, body
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return certificate


def check_waits(answer: tuple[Any, bytes]) -> None:
    """RFC 7030 §4.2.3: 202 with Retry-After, which is whole seconds and not 0, and words for people."""
    response, body = answer
    assert response.code == 202, body
    assert response.headers.getRawHeaders("retry-after") == ["60"]
    assert response.headers.getRawHeaders("content-type") == ["text/plain; charset=utf-8"]
    assert response.length == len(body)
    assert b"waits for somebody to decide" in body


@ensure
async def test_simpleenroll_waits_and_then_has_the_certificate() -> None:
    counter, key = Counter(), new_key()
    for _ in range(2):
        check_waits(await counter.enrol(new_csr("CN=cam", "cam.test", key=key)))
    await counter.desk.decide()
    first = certificate_of(await counter.enrol(new_csr("CN=cam", "cam.test", key=key)))
    assert first.public_key() == key.public_key()
    assert certificate_of(await counter.enrol(new_csr("CN=cam", "cam.test", key=key))) == first


@ensure
async def test_the_rejected_are_told_why_and_the_status_is_403() -> None:
    counter, csr = Counter(), new_csr("CN=cam", key=new_key())
    check_waits(await counter.enrol(csr))
    await counter.desk.decide(approved=False, reason="no device of ours")
    response, body = await counter.enrol(csr)
    assert response.code == 403
    assert body.endswith(b"was rejected: no device of ours.\n")
    assert response.headers.getRawHeaders("retry-after") is None


@ensure
async def test_what_is_wrong_is_said_at_once_and_asks_nobody() -> None:
    counter = Counter()
    response, _ = await counter.enrol(b"rubbish")
    assert response.code == 400
    response, _ = await counter.enrol(new_csr("CN=a b", "bad_name!", key=new_key()))
    assert response.code in {400, 403}
    assert await counter.desk.waiting() == []


@ensure
async def test_renewals_wait_too() -> None:
    counter, key = Counter(), new_key()
    csr = new_csr("CN=cam", "cam.test", key=key)
    check_waits(await counter.enrol(csr))
    await counter.desk.decide()
    old = certificate_of(await counter.enrol(csr))
    counter.door.who = holder(old)
    anew = new_csr("CN=cam", "cam.test", key=new_key())
    check_waits(await counter.enrol(anew, f"{EST}/simplereenroll"))
    waiting = await counter.desk.decide()
    assert waiting.requester.startswith("tls-certificate:")
    assert certificate_of(await counter.enrol(anew, f"{EST}/simplereenroll")).subject == old.subject


@ensure
async def test_other_labels_wait_for_nobody() -> None:
    counter = Counter()
    certificate_of(await counter.enrol(new_csr("CN=cam", key=new_key()), "/.well-known/est/simpleenroll"))


@ensure
async def test_too_many_that_wait_are_429() -> None:
    counter = Counter()
    for _ in range(3):
        check_waits(await counter.enrol(new_csr("CN=cam", key=new_key())))
    response, body = await counter.enrol(new_csr("CN=cam", key=new_key()))
    assert response.code == 429 and response.headers.getRawHeaders("retry-after"), body


async def keygen(counter: Counter, csr: bytes) -> tuple[Any, bytes]:
    return await counter.enrol(csr, f"{EST}/serverkeygen")


def key_and_certificate(answer: tuple[Any, bytes]) -> tuple[Any, x509.Certificate]:
    response, body = answer
    assert response.code == 200, body
    content_type = response.headers.getRawHeaders("content-type")[0]
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    key_part, certificate_part = (part.get_payload(decode=True) for part in message.get_payload())
    (certificate,) = pkcs7.load_der_pkcs7_certificates(certificate_part)
    return load_der_private_key(key_part, None), certificate


@ensure
async def test_serverkeygen_makes_its_key_when_it_was_approved_and_tells_it_once() -> None:
    counter = Counter()
    csr = new_csr("CN=cam", "cam.test", key=new_key())
    for _ in range(2):
        check_waits(await keygen(counter, csr))
    decided = await counter.desk.decide()
    assert decided.key == "made by this CA"
    key, certificate = key_and_certificate(await keygen(counter, csr))
    assert _spki(key.public_key()) == _spki(certificate.public_key())
    check_waits(await keygen(counter, csr))


@ensure
async def test_an_approval_of_serverkeygen_is_none_of_the_clients_own_key() -> None:
    counter = Counter()
    csr = new_csr("CN=cam", "cam.test", key=new_key())
    check_waits(await keygen(counter, csr))
    await counter.desk.decide()
    check_waits(await counter.enrol(csr))


@ensure
async def test_a_key_that_reached_nobody_is_not_told_and_the_next_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was killed after it had issued; or another worker is at the same request."""
    counter = Counter()
    csr = new_csr("CN=cam", key=new_key())
    check_waits(await keygen(counter, csr))
    await counter.desk.decide()
    with monkeypatch.context() as killed:
        killed.setattr(counter.desk.authority.approvals, "spend", Desk.pends)  # ends in a TypeError
        await keygen(counter, csr)
    response, body = await keygen(counter, csr)
    assert response.code == 409, body
    check_waits(await keygen(counter, csr))
    page = await counter.desk.authority.store.inventory(0, 1000)
    assert [record.subject for record in page].count("CN=cam") == 1


def _spki(key: Any) -> bytes:
    spki: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


@ensure
async def test_the_ca_api_says_202_in_json_and_gives_the_chain_later() -> None:
    counter, csr = Counter(), new_csr("CN=cam", "cam.test", key=new_key())
    response, body = await counter.ask("POST", "/ca/csr?profile=cameras", csr)
    assert (response.code, response.headers.getRawHeaders("retry-after")) == (202, ["60"])
    assert response.headers.getRawHeaders("content-type") == ["application/json"]
    assert json.loads(body)["status"] == "pending"
    await counter.desk.decide()
    response, body = await counter.ask("POST", "/ca/csr?profile=cameras", csr)
    assert response.code == 200
    assert x509.load_pem_x509_certificates(body)[0].subject.rfc4514_string() == "CN=cam"
    other = new_csr("CN=cam2", key=new_key())
    await counter.ask("POST", "/ca/csr?profile=cameras", other)
    await counter.desk.decide(approved=False, reason="no")
    response, body = await counter.ask("POST", "/ca/csr?profile=cameras", other)
    assert response.code == 403
    assert json.loads(body)["detail"].endswith("was rejected: no")


@ensure
async def test_somebody_elses_approval_is_of_no_use() -> None:
    counter, csr = Counter(), new_csr("CN=cam", "cam.test", key=new_key())
    check_waits(await counter.enrol(csr))
    await counter.desk.decide()
    counter.door.who = Requester(USER.proof, "other", "estuser", USER.grant)
    check_waits(await counter.enrol(csr))


@pytest.mark.parametrize("after", [timedelta(minutes=59), timedelta(hours=1)])
@ensure
async def test_an_answer_that_was_lost_can_be_had_again_for_an_hour(after: timedelta) -> None:
    counter, csr = Counter(), new_csr("CN=cam", key=new_key())
    check_waits(await counter.enrol(csr))
    await counter.desk.decide()
    first = certificate_of(await counter.enrol(csr))
    counter.desk.clock.advance(after)
    if after < timedelta(hours=1):
        assert certificate_of(await counter.enrol(csr)) == first
    else:
        check_waits(await counter.enrol(csr))
