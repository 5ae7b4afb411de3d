"""RFC 7030 §4.1 to §4.3: the CA's certificates, enrolment and its renewal."""

from __future__ import annotations

import base64
import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc5652
from twisted.web.iweb import IRequest

from opencertd.asn1 import der
from opencertd.est import resource
from opencertd.keys.channel_binding import ChannelBinding
from opencertd.model.requester import NameGrant
from tests.conformance import shows
from tests.est.conformance.people import (
    EST,
    LABELS,
    Answer,
    asked,
    certificates,
    certified,
    is_sentence,
    media_type,
    post,
)
from tests.est.rig import USER, Rig, holder, issuers, new_csr, some_key, some_rsa_key
from tests.est.test_approval import Counter
from tests.est.test_binding import linked_csr
from tests.est.test_change_subject import change
from tests.est.test_change_subject import csr as changing
from tests.service.test_rollover import Rig as Ceremony


async def cacerts(rig: Rig, label: str = "") -> Answer:
    return await rig.ask("GET", f"{EST}{label}/cacerts", User_Agent="test")


def signed_data(body: bytes) -> Any:
    """A certs-only body, as pyasn1 reads it by the module of RFC 5652."""
    info, rest = decoder.decode(base64.b64decode(body), asn1Spec=rfc5652.ContentInfo())
    assert not rest and info["contentType"] == rfc5652.id_signedData
    data, rest = decoder.decode(info["content"], asn1Spec=rfc5652.SignedData())
    assert not rest
    return data


def is_certs_only(body: bytes) -> bool:
    """A Simple PKI Response: SignedData without content and without signers (RFC 5272 §4.1)."""
    data = signed_data(body)
    content = data["encapContentInfo"]
    return (
        len(data["signerInfos"]) == 0 and content["eContentType"] == rfc5652.id_data and not content["eContent"].isValue
    )


@shows("7030 §4.1.2/1")
async def test_4_1_2_for_anybody() -> None:
    for label in LABELS:
        assert (await cacerts(Rig(), label))[0].code == 200


@shows("7030 §4.1.3/1")
async def test_4_1_3_ok() -> None:
    answer = await cacerts(Rig())
    assert answer[0].code == 200 and media_type(answer) == "application/pkcs7-mime"


@shows("7030 §4.1.3/2")
async def test_4_1_3_certs_only() -> None:
    assert is_certs_only((await cacerts(Rig()))[1])


@shows("7030 §4.1.3/3")
async def test_4_1_3_the_root() -> None:
    found = certificates((await cacerts(Rig()))[1])
    roots = {issuer.root_der for issuer in issuers().all()}
    assert roots and roots <= {one.public_bytes(Encoding.DER) for one in found if one.issuer == one.subject}


@shows("7030 §4.1.3/4")
async def test_4_1_3_what_is_between() -> None:
    rig = asked()
    found = certificates((await cacerts(rig))[1])
    for key in (some_key(), some_rsa_key()):
        below = await certified(rig, new_csr("CN=device", key=key))
        steps = 0
        while below.issuer != below.subject:
            (below,) = [one for one in found if is_issued_by(below, one)]
            steps += 1
        assert steps == 2


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


@shows("7030 §4.1.3/5")
async def test_4_1_3_old_and_new_root(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    old = ceremony.issuer("ecdsa-root").certificate
    ceremony.roll_over("ecdsa-root")
    new = ceremony.issuer("ecdsa-root-2").certificate
    found = certificates((await cacerts(Rig(authority=ceremony.authority())))[1])
    assert old in found and new in found
    (with_new,) = [one for one in found if one.public_key() == old.public_key() and one != old]
    (with_old,) = [one for one in found if one.public_key() == new.public_key() and one != new]
    with_new.verify_directly_issued_by(new)
    with_old.verify_directly_issued_by(old)


@shows("7030 §4.2/1")
async def test_4_2_who_asks() -> None:
    for operation in ("simpleenroll", "simplereenroll", "rsa/simpleenroll"):
        rig = Rig()
        answer = await post(rig, operation)
        assert answer[0].code == 401 and is_sentence(answer) and not rig.store.records


@shows("7030 §4.2/2")
async def test_4_2_what_for() -> None:
    rig = Rig()
    rig.door.who = dataclasses.replace(USER, grant=NameGrant(patterns=("mine.test",)))
    assert (await post(rig, "simpleenroll", new_csr("CN=mine.test", "mine.test")))[0].code == 200
    assert (await post(rig, "simpleenroll", new_csr("CN=mine.test", "mine.test", "yours.test")))[0].code == 403
    assert len(rig.store.records) == 1


@shows("7030 §4.2/3")
async def test_4_2_on_which_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for binding in (ChannelBinding("tls-unique", bytes(12)), ChannelBinding("tls-exporter", bytes(32))):

        def of(_: IRequest, binding: ChannelBinding = binding) -> ChannelBinding:
            return binding

        monkeypatch.setattr(resource, "request_binding", of)
        rig = asked()
        wrong = base64.b64encode(b"x" * len(binding.value)).decode()
        assert (await post(rig, "simpleenroll", linked_csr(wrong)))[0].code == 400
        rig.door.who = holder(await certified(rig, linked_csr(binding.text)))
        assert (await post(rig, "simplereenroll", linked_csr(wrong)))[0].code == 400
        assert (await post(rig, "simplereenroll", linked_csr(binding.text)))[0].code == 200


@shows("7030 §4.2.1/1")
async def test_4_2_1_pkcs10() -> None:
    rig = asked()
    assert (await post(rig, "simpleenroll"))[0].code == 200
    for wrong, code in [
        ({"Content_Type": "application/pkcs7-mime"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": ""}, 415),
    ]:
        answer = await post(rig, "simpleenroll", **wrong)
        assert answer[0].code == code and is_sentence(answer)
    certificate = next(iter(issuers().all())).certificate_der
    assert (await post(rig, "simpleenroll", certificate))[0].code == 400


@shows("7030 §4.2.1/2")
async def test_4_2_1_another_certificate() -> None:
    rig = asked()
    first = await certified(rig, new_csr("CN=device", "a.test"))
    rig.door.who = holder(first)
    second = await certified(rig, new_csr("CN=device", "a.test", key=some_rsa_key()))
    assert second.public_key() != first.public_key()


@shows("7030 §4.2.2/1")
async def test_4_2_2_the_same_names() -> None:
    rig = asked()
    rig.door.who = holder(await certified(rig, new_csr("CN=device", "a.test", "b.test")))
    assert (await post(rig, "simplereenroll", new_csr("CN=device", "a.test", "b.test")))[0].code == 200
    for other in (
        new_csr("CN=other", "a.test", "b.test"),
        new_csr("CN=device", "a.test"),
        new_csr("CN=device", "a.test", "b.test", "c.test"),
        new_csr("", "a.test", "b.test"),
    ):
        answer = await post(rig, "simplereenroll", other)
        assert answer[0].code == 403 and is_sentence(answer)


@shows("7030 §4.2.2/2")
async def test_4_2_2_other_names() -> None:
    rig = asked(est={"client_certificate_may_enrol_any_name": True})
    rig.door.who = holder(await certified(rig, new_csr("CN=old,O=Ex", "a.test", "b.test")))
    renewed = await certified(rig, changing(change("CN=new", "new.test")), "simplereenroll")
    assert renewed.subject.rfc4514_string() == "CN=new"


@shows("7030 §4.2.2/3")
async def test_4_2_2_renewed() -> None:
    rig = asked()
    held = await certified(rig, new_csr("CN=device"))
    rig.door.who = holder(held)
    rig.clock.advance(timedelta(days=1))
    renewed = await certified(rig, new_csr("CN=device"), "simplereenroll")
    assert renewed.public_key() == held.public_key() and renewed.subject == held.subject
    assert renewed.serial_number != held.serial_number and renewed.not_valid_after_utc > held.not_valid_after_utc


@shows("7030 §4.2.2/4")
async def test_4_2_2_rekeyed() -> None:
    rig = asked()
    held = await certified(rig, new_csr("CN=device"))
    rig.door.who = holder(held)
    rekeyed = await certified(rig, new_csr("CN=device", key=some_key(1)), "simplereenroll")
    assert rekeyed.public_key() == some_key(1).public_key() != held.public_key()
    assert rekeyed.subject == held.subject


@shows("7030 §4.2.3/1")
async def test_4_2_3_ok() -> None:
    rig = asked()
    answer = await post(rig, "simpleenroll")
    assert answer[0].code == 200 and media_type(answer) == "application/pkcs7-mime; smime-type=certs-only"
    (certificate,) = certificates(answer[1])
    rig.door.who = holder(certificate)
    answer = await post(rig, "simplereenroll")
    assert answer[0].code == 200 and media_type(answer) == "application/pkcs7-mime; smime-type=certs-only"


@shows("7030 §4.2.3/2")
async def test_4_2_3_alone() -> None:
    rig = asked()
    for label in LABELS:
        _, body = await post(rig, f"{label}/simpleenroll".lstrip("/"))
        assert is_certs_only(body) and len(signed_data(body)["certificates"]) == 1
        (certificate,) = certificates(body)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert spki == some_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


BAD: list[tuple[bytes, dict[str, str], int]] = [
    (b"rubbish", {}, 400),
    (der.sequence(), {}, 400),
    (new_csr("CN=device"), {"Content_Type": "text/plain"}, 415),
    (new_csr("CN=device"), {"Accept": "image/png"}, 406),
    (new_csr("CN=device", "*.*.test"), {}, 400),
]


@shows("7030 §4.2.3/3")
async def test_4_2_3_4xx() -> None:
    rig = asked()
    for body, headers, code in BAD:
        assert (await post(rig, "simpleenroll", body, **headers))[0].code == code, body
    assert not rig.store.records


@shows("7030 §4.2.3/4")
async def test_4_2_3_sentences() -> None:
    rig = asked()
    for body, headers, _ in BAD:
        assert is_sentence(await post(rig, "simpleenroll", body, **headers))


@shows("7030 §4.2.3/5")
async def test_4_2_3_retry_after() -> None:
    answer = await post(Counter(), "cameras/simpleenroll", new_csr("CN=cam", key=some_key(5)))
    assert answer[0].code == 202 and is_sentence(answer)
    (seconds,) = answer[0].headers.getRawHeaders("retry-after")
    assert int(seconds) > 0


@shows("7030 §4.2.3/6")
async def test_4_2_3_it_is_known_again() -> None:
    """By a request for the same that need not be the same octets."""
    counter = Counter()
    for _ in range(2):
        assert (await post(counter, "cameras/simpleenroll", new_csr("CN=cam", key=some_key(5))))[0].code == 202
    await counter.desk.decide()
    certificate = await certified(counter, new_csr("CN=cam", key=some_key(5)), "cameras/simpleenroll")
    assert certificate.public_key() == some_key(5).public_key()


@shows("7030 §4.3/1")
async def test_4_3_left_out() -> None:
    for label in LABELS:
        answer = await post(asked(), f"{label}/fullcmc".lstrip("/"))
        assert answer[0].code == 501 and is_sentence(answer) and b"simpleenroll" in answer[1]


@shows("7030 §4.3.1/1")
async def test_4_3_1_refused() -> None:
    rig = asked()
    for body in (b"", b"rubbish", new_csr("CN=device")):
        kind = "application/pkcs7-mime; smime-type=CMC-request"
        assert (await post(rig, "fullcmc", body, Content_Type=kind))[0].code == 501
    assert not rig.store.records
