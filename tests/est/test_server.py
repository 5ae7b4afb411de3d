"""EST over HTTP against the real core: who gets which certificate, and in which words everybody else is refused."""

from __future__ import annotations

import base64
import dataclasses
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from opencertd.asn1.dn import format_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.est.messages import BodyForm
from opencertd.model.certificates import CertificateState, RevocationReason
from opencertd.model.request import IssuanceRequest, RevocationRequest
from opencertd.model.requester import NameGrant
from tests.est.rig import USER, Rig, holder, issuers, new_csr, some_key, some_rsa_key

EST = "/.well-known/est"
PKCS10 = {"Content_Type": "application/pkcs10", "User_Agent": "test"}


def certificates(body: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))


async def enrolled(rig: Rig, csr: bytes, path: str = f"{EST}/simpleenroll") -> x509.Certificate:
    response, body = await rig.ask("POST", path, csr, **PKCS10)
    assert response.code == 200, body
    (certificate,) = certificates(body)
    return certificate


async def first_certificate(rig: Rig, dn: str = "CN=device,O=Ex", *names: str) -> x509.Certificate:
    """A certificate got by password; from then on, its holder asks."""
    rig.door.who = USER
    certificate = await enrolled(rig, new_csr(dn, *names))
    rig.door.who = holder(certificate)
    return certificate


@pytest.mark.parametrize("label", ["", "/default", "/rsa", "/ecdsa"])
@pytest_twisted.ensureDeferred
async def test_cacerts_holds_all_authorities_for_anybody(label: str) -> None:
    response, body = await Rig().ask("GET", f"{EST}{label}/cacerts", User_Agent="curl")
    assert response.code == 200
    found = {c.public_bytes(Encoding.DER) for c in certificates(body)}
    assert found == {issuer.certificate_der for issuer in issuers().all()}
    headers = response.headers
    assert headers.getRawHeaders("content-type") == ["application/pkcs7-mime"]
    assert headers.getRawHeaders("content-transfer-encoding") == ["base64"]
    assert response.length == len(body)
    assert body.count(b"\n") > 2


@pytest_twisted.ensureDeferred
async def test_body_forms_follow_the_user_agent_and_the_setting() -> None:
    for form, agent, lines in [
        (BodyForm.AUTO, {}, 1),
        (BodyForm.SINGLE, {"User_Agent": "curl"}, 1),
        (BodyForm.AUTO, {"User_Agent": "curl"}, 2),
    ]:
        _, body = await Rig(body_form=form).ask("GET", f"{EST}/cacerts", **agent)
        assert min(body.count(b"\n"), 2) == lines


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/cacerts/more", 404),
        ("GET", "/nowhere/cacerts", 404),
        ("GET", "/daemon-tls/cacerts", 404),
        ("GET", "/cacerts/cacerts", 404),
        ("GET", "/simpleenroll/cacerts", 404),
        ("GET", "/nothing", 404),
        ("GET", "/default", 404),
        ("GET", "/default/nothing", 404),
        ("GET", "/a/b/cacerts", 404),
        ("GET", "/" + "%C3%BC" * 50 + "/cacerts", 404),
        ("POST", "/nowhere/simpleenroll", 404),
        ("POST", "/nowhere/serverkeygen", 404),
        ("GET", "/serverkeygen", 405),
        ("POST", "/rsa/fullcmc", 501),
        ("POST", "/nowhere/fullcmc", 404),
        ("POST", "/cacerts", 405),
        ("GET", "/simpleenroll", 405),
        ("PUT", "/default/simpleenroll", 405),
        ("DELETE", "/simplereenroll", 405),
        ("GET", "/csrattrs", 200),
        ("GET", "/rsa/csrattrs", 200),
        ("GET", "/nowhere/csrattrs", 404),
        ("HEAD", "/cacerts", 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_paths_and_methods(method: str, path: str, code: int) -> None:
    rig = Rig()
    rig.door.who = USER
    response, body = await rig.ask(method, EST + path)
    assert response.code == code
    if code == 405:
        assert response.headers.getRawHeaders("allow")
    if code >= 400:
        assert_sentence(response, body)


def assert_sentence(response: Any, body: bytes) -> None:
    """Errors are one line of plain text, with a length."""
    assert response.headers.getRawHeaders("content-type") == ["text/plain; charset=utf-8"]
    assert response.length == len(body)
    assert body.count(b"\n") == 1 and body.endswith((b".\n", b"!\n"))


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll", "rsa/simpleenroll"])
@pytest_twisted.ensureDeferred
async def test_the_unauthenticated_are_refused_before_their_body_is_looked_at(operation: str) -> None:
    response, body = await Rig().ask("POST", f"{EST}/{operation}", b"rubbish", Content_Type="text/plain")
    assert response.code == 401
    challenges = response.headers.getRawHeaders("www-authenticate")
    assert [challenge.split()[0] for challenge in challenges] == ["Basic", "Digest"]
    assert_sentence(response, body)


@pytest_twisted.ensureDeferred
async def test_simpleenroll_answers_only_the_issued_certificate() -> None:
    rig = Rig()
    rig.door.who = USER
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", new_csr("CN=a.test", "a.test", "b.test"), **PKCS10)
    assert response.code == 200
    assert response.headers.getRawHeaders("content-type") == ["application/pkcs7-mime; smime-type=certs-only"]
    assert response.headers.getRawHeaders("content-transfer-encoding") == ["base64"]
    assert response.length == len(body)
    (certificate,) = certificates(body)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "b.test"]
    (record,) = rig.store.records.values()
    assert record.state is CertificateState.ISSUED
    assert record.certificate_der == certificate.public_bytes(Encoding.DER)
    assert record.requester == "password:estuser"


@pytest_twisted.ensureDeferred
async def test_a_common_name_is_not_made_an_alternative_name() -> None:
    rig = Rig()
    rig.door.who = USER
    certificate = await enrolled(rig, new_csr("CN=only.test"))
    assert format_dn(certificate.subject) == "CN=only.test"
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest_twisted.ensureDeferred
async def test_the_label_chooses_the_issuer() -> None:
    rig = Rig()
    rig.door.who = USER
    for label, key, issuer in [
        ("", some_rsa_key(), "rsa"),
        ("", some_key(), "ecdsa"),
        ("/rsa", some_key(), "rsa"),
        ("/ecdsa", some_rsa_key(), "ecdsa"),
    ]:
        certificate = await enrolled(rig, new_csr("CN=x", key=key), f"{EST}{label}/simpleenroll")
        found = issuers().by_name(issuer)
        assert found is not None
        certificate.verify_directly_issued_by(found.certificate)


@pytest_twisted.ensureDeferred
async def test_a_password_gets_what_it_is_granted_and_no_more() -> None:
    rig = Rig()
    rig.door.who = dataclasses.replace(USER, grant=NameGrant(patterns=("*.shop.test",)))
    await enrolled(rig, new_csr("CN=a.shop.test", "a.shop.test"))
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", new_csr("", "bank.test"), **PKCS10)
    assert response.code == 403
    assert b"bank.test" in body
    assert_sentence(response, body)


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (new_csr("CN=a"), "application/octet-stream", 415),
        (b"", "application/pkcs10", 400),
        (b"\x30\x03\x02\x01\x01", "application/pkcs10", 400),
        (new_csr("CN=a") + b"\n", "application/pkcs10", 400),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n%%%\n-----END CERTIFICATE REQUEST-----\n", "application/pkcs10", 400),
        (b"-----BEGIN nothing", "application/pkcs10", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_bodies(body: bytes, content_type: str, code: int) -> None:
    rig = Rig()
    rig.door.who = USER
    response, text = await rig.ask("POST", f"{EST}/simpleenroll", body, Content_Type=content_type)
    assert response.code == code
    assert_sentence(response, text)


@pytest_twisted.ensureDeferred
async def test_a_repeated_request_gets_the_same_certificate_for_a_minute() -> None:
    rig = Rig()
    rig.door.who = USER
    csr = new_csr("CN=again.test")
    first = await enrolled(rig, csr)
    rig.clock.advance(timedelta(seconds=59))
    assert await enrolled(rig, base64.encodebytes(csr)) == first
    assert await enrolled(rig, csr, f"{EST}/rsa/simpleenroll") != first
    rig.clock.advance(timedelta(seconds=2))
    assert await enrolled(rig, csr) != first
    rig.door.who = dataclasses.replace(USER, id="other")
    assert len({await enrolled(rig, csr), first}) == 2


@pytest_twisted.ensureDeferred
async def test_a_revoked_certificate_is_not_given_again() -> None:
    rig = Rig()
    rig.door.who = USER
    csr = new_csr("CN=gone.test")
    certificate = await enrolled(rig, csr)
    (record,) = rig.store.records.values()
    wish = RevocationRequest(record.issuer_id, certificate.serial_number, RevocationReason.SUPERSEDED, USER)
    await rig.authority.revoke(wish)
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", csr, **PKCS10)
    assert response.code == 409
    assert b"revoked" in body


@pytest_twisted.ensureDeferred
async def test_reenrolment_renews_and_rekeys() -> None:
    rig = Rig()
    held = await first_certificate(rig, "CN=Device,O=Ex", "a.test", "b.test")
    for csr in (
        new_csr("CN=Device,O=Ex", "a.test", "b.test"),
        new_csr("CN=Device,O=Ex", "b.test", "A.TEST", key=some_rsa_key()),
        new_csr("CN=device,O=ex", "a.test", "b.test", key=some_key(1)),
    ):
        renewed = await enrolled(rig, csr, f"{EST}/simplereenroll")
        assert renewed.serial_number != held.serial_number
        key = renewed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        asked = x509.load_der_x509_csr(csr).public_key()
        assert key == asked.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest_twisted.ensureDeferred
async def test_a_certificate_with_only_a_common_name_can_be_renewed() -> None:
    rig = Rig()
    await first_certificate(rig, "CN=Pump 7")
    assert await enrolled(rig, new_csr("CN=Pump 7"), f"{EST}/simplereenroll")
    assert await enrolled(rig, new_csr("CN=Pump 7", key=some_key(2)))


@pytest.mark.parametrize(
    ("dn", "names"),
    [
        ("CN=device,O=Ex", ("a.test",)),
        ("CN=device,O=Ex", ("a.test", "b.test", "c.test")),
        ("CN=device,O=Ex", ()),
        ("CN=device", ("a.test", "b.test")),
        ("", ("a.test", "b.test")),
        ("O=Ex,CN=device", ("a.test", "b.test")),
        ("CN=other,O=Ex", ("a.test", "b.test")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_reenrolment_keeps_subject_and_names(dn: str, names: tuple[str, ...]) -> None:
    rig = Rig()
    await first_certificate(rig, "CN=device,O=Ex", "a.test", "b.test")
    response, body = await rig.ask("POST", f"{EST}/simplereenroll", new_csr(dn, *names), **PKCS10)
    assert response.code == 403
    assert b"Subject and SubjectAltName" in body
    assert_sentence(response, body)
    assert len(rig.store.records) == 1


@pytest_twisted.ensureDeferred
async def test_reenrolment_needs_the_client_certificate() -> None:
    rig = Rig()
    rig.door.who = USER
    response, body = await rig.ask("POST", f"{EST}/simplereenroll", new_csr("CN=a"), **PKCS10)
    assert response.code == 401
    assert b"client certificate" in body
    assert response.headers.getRawHeaders("www-authenticate")
    assert not rig.store.records


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_enrols_for_its_own_names_only() -> None:
    rig = Rig()
    await first_certificate(rig, "CN=device,O=Ex", "a.test", "b.test")
    await enrolled(rig, new_csr("CN=device,O=Ex", "b.test"))
    await enrolled(rig, new_csr("", "a.test"))
    for csr in (
        new_csr("CN=device,O=Ex", "b.test", "bank.test"),
        new_csr("CN=bank.test", "a.test"),
        new_csr("CN=device", "a.test"),
    ):
        response, body = await rig.ask("POST", f"{EST}/simpleenroll", csr, **PKCS10)
        assert response.code == 403
        assert b"only for the names it already has" in body and b"operator" in body
        assert_sentence(response, body)


@pytest_twisted.ensureDeferred
async def test_the_setting_opens_simpleenroll_but_not_reenrolment() -> None:
    rig = Rig(est={"client_certificate_may_enrol_any_name": True})
    await first_certificate(rig, "CN=operator")
    certificate = await enrolled(rig, new_csr("CN=new.test", "new.test"))
    assert format_dn(certificate.subject) == "CN=new.test"
    response, _ = await rig.ask("POST", f"{EST}/simplereenroll", new_csr("CN=new2.test"), **PKCS10)
    assert response.code == 403


@pytest.mark.parametrize("kind", RefusalKind)
@pytest_twisted.ensureDeferred
async def test_every_refusal_has_an_answer(kind: RefusalKind, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.door.who = USER

    async def refuse(request: IssuanceRequest) -> None:
        raise Refusal(kind, "because")

    monkeypatch.setattr(rig.authority, "issue", refuse)
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", new_csr("CN=a"), **PKCS10)
    assert response.code == {
        RefusalKind.PENDING: 202,
        RefusalKind.UNAVAILABLE: 503,
        RefusalKind.RATE_LIMITED: 429,
        RefusalKind.REJECTED_NAME: 403,
        RefusalKind.INTERNAL: 500,
    }.get(kind, response.code)
    assert response.code == 202 or 400 <= response.code < 600
    passing = kind in (RefusalKind.PENDING, RefusalKind.UNAVAILABLE, RefusalKind.RATE_LIMITED)
    retry = response.headers.getRawHeaders("retry-after")
    assert (retry is not None and retry[0].isdigit()) if passing else retry is None
    assert body == b"Because.\n"
    assert_sentence(response, body)


@pytest_twisted.ensureDeferred
async def test_retry_after_is_the_refusals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.door.who = USER

    async def refuse(request: IssuanceRequest) -> None:
        raise Refusal(RefusalKind.PENDING, "a person decides", retry_after=3600)

    monkeypatch.setattr(rig.authority, "issue", refuse)
    response, _ = await rig.ask("POST", f"{EST}/simpleenroll", new_csr("CN=a"), **PKCS10)
    assert (response.code, response.headers.getRawHeaders("retry-after")) == (202, ["3600"])


@pytest_twisted.ensureDeferred
async def test_a_hang_up_does_not_stop_an_issuance() -> None:
    rig = Rig()
    rig.door.who = USER
    gate: Deferred[None] = Deferred()
    rig.store.before_complete.append(gate)
    asking = Deferred.fromCoroutine(rig.ask("POST", f"{EST}/simpleenroll", new_csr("CN=slow.test"), **PKCS10))
    outcome: list[Any] = []
    asking.addBoth(outcome.append)
    assert [r.state for r in rig.store.records.values()] == [CertificateState.INTENDED]
    asking.cancel()
    rig.treq.flush()
    gate.callback(None)
    await rig.tasks.wait()
    assert isinstance(outcome[0], Failure)
    assert [r.state for r in rig.store.records.values()] == [CertificateState.ISSUED]
    rig.store.before_complete.clear()
    again = await enrolled(rig, new_csr("CN=slow.test"))
    assert again.public_bytes(Encoding.DER) != b""
