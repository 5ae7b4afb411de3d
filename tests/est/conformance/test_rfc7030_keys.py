"""RFC 7030 §4.4: keys that the server makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc5652

from opencertd.asn1 import der
from opencertd.est.generation import ASYMMETRIC_DECRYPT_KEY, DECRYPT_KEY, SMIME_CAPABILITIES
from opencertd.model.requester import NameGrant
from tests.conformance import shows
from tests.est.conformance.people import asked, certified, is_sentence, media_type, offered, parts, post
from tests.est.rig import USER, Rig, holder, new_csr, some_key, some_rsa_key
from tests.est.test_serverkeygen import (
    AES256,
    DES3,
    NAME,
    SECRET,
    asking,
    capabilities,
    fits,
    opened,
    package_of,
    pem_of,
)

BY_SECRET = (DECRYPT_KEY, der.octet_string(NAME))


def knowing() -> Rig:
    """A CA that has a secret of USER's."""
    return asked(est={"decrypt_keys": {"password:estuser": {NAME: SECRET}}})


async def by_certificate(key: Any) -> tuple[x509.Certificate, Any]:
    """A client's certificate for that key, and the part with a key that is encrypted to it."""
    rig = asked()
    certificate = await certified(rig, new_csr("CN=device", key=key))
    rig.door.who = holder(certificate)
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    request = asking((ASYMMETRIC_DECRYPT_KEY, der.octet_string(identifier)), key=some_key())
    return certificate, parts(await post(rig, "serverkeygen", request))[0]


def enveloped(part: bytes) -> Any:
    """As pyasn1 reads it by the module of RFC 5652."""
    info, rest = decoder.decode(part, asn1Spec=rfc5652.ContentInfo())
    assert not rest and info["contentType"] == rfc5652.id_envelopedData
    found, rest = decoder.decode(info["content"], asn1Spec=rfc5652.EnvelopedData())
    assert not rest
    return found


def recipient(part: bytes) -> tuple[str, Any]:
    """The one recipient: of which kind, and what is said of it."""
    (one,) = enveloped(part)["recipientInfos"]
    return one.getName(), one.getComponent()


@shows("7030 §4.4/1")
async def test_4_4_who_asks() -> None:
    rig = Rig()
    answer = await post(rig, "serverkeygen", asking())
    assert answer[0].code == 401 and is_sentence(answer) and not rig.store.records


@shows("7030 §4.4/2")
def test_4_4_no_suite_encrypts_nothing() -> None:
    assert offered() and not any("NULL" in suite for suite in offered())


@shows("7030 §4.4/3")
def test_4_4_suites_are_strong() -> None:
    """Authenticated encryption under at least 128 bits, which RSA-3072 and P-256 are said to have."""
    assert all(any(word in suite for word in ("GCM", "CHACHA20")) for suite in offered()), offered()


@shows("7030 §4.4.1/1")
async def test_4_4_1_as_for_enrolment() -> None:
    rig = Rig()
    rig.door.who = dataclasses.replace(USER, grant=NameGrant(patterns=("mine.test",)))
    assert (await post(rig, "serverkeygen", new_csr("", "yours.test")))[0].code == 403
    assert (await post(rig, "serverkeygen", new_csr("", "mine.test"), Content_Type="text/plain"))[0].code == 415
    assert (await post(rig, "serverkeygen", b"rubbish"))[0].code == 400
    assert (await post(rig, "serverkeygen", new_csr("", "mine.test")))[0].code == 200


@shows("7030 §4.4.1/2")
async def test_4_4_1_key_and_signature_mean_nothing() -> None:
    rig = asked()
    key, certificate = parts(await post(rig, "serverkeygen", asking(key=some_key())))
    made: Any = load_der_private_key(key.get_payload(decode=True), None)
    assert made.public_key() != some_key().public_key()
    await certified(rig, new_csr("CN=device"))
    for broken in (b"\x00", bytes(71)):
        plain = new_csr("CN=device")
        information, algorithm, _ = der.children(plain, der.read_only(plain, der.SEQUENCE))
        csr = der.sequence(information.raw(plain), algorithm.raw(plain), der.bit_string(broken))
        assert (await post(rig, "serverkeygen", csr))[0].code == 200
    assert certificate.get_payload(decode=True)


@shows("7030 §4.4.1.1/1")
async def test_4_4_1_1_no_such_secret() -> None:
    rig = knowing()
    answer = await post(rig, "serverkeygen", asking((DECRYPT_KEY, der.octet_string(b"other"))))
    assert answer[0].code == 400 and is_sentence(answer) and not rig.store.records
    no_common = (SMIME_CAPABILITIES, capabilities(DES3))
    assert (await post(rig, "serverkeygen", asking(BY_SECRET, no_common)))[0].code == 400


@shows("7030 §4.4.1.2/1")
async def test_4_4_1_2_no_such_key() -> None:
    rig = asked()
    request = asking((ASYMMETRIC_DECRYPT_KEY, der.octet_string(b"other")))
    for _ in range(2):
        answer = await post(rig, "serverkeygen", request)
        assert answer[0].code == 400 and is_sentence(answer)
        rig.door.who = holder(await certified(asked(), new_csr("CN=device")))


@shows("7030 §4.4.2/1")
async def test_4_4_2_two_parts() -> None:
    answer = await post(asked(), "serverkeygen", asking())
    assert answer[0].code == 200 and media_type(answer).startswith("multipart/mixed")
    assert [part.get_content_type() for part in parts(answer)] == ["application/pkcs8", "application/pkcs7-mime"]


@shows("7030 §4.4.2/2")
async def test_4_4_2_pkcs8() -> None:
    key, certificate = parts(await post(asked(), "serverkeygen", asking()))
    assert (key["Content-Type"], key["Content-Transfer-Encoding"]) == ("application/pkcs8", "base64")
    (issued,) = certificates_of(certificate)
    assert fits(load_der_private_key(key.get_payload(decode=True), None), issued)


def certificates_of(part: Any) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(part.get_payload(decode=True))


@shows("7030 §4.4.2/3")
async def test_4_4_2_signed_and_enveloped(tmp_path: Path) -> None:
    key, certificate = parts(await post(knowing(), "serverkeygen", asking(BY_SECRET, key=some_key())))
    assert key["Content-Type"] == "application/pkcs7-mime; smime-type=server-generated-key"
    part = key.get_payload(decode=True)
    done = opened(tmp_path, part, "-secretkey", SECRET.hex(), "-secretkeyid", NAME.hex())
    assert done.returncode == 0, done.stderr
    assert str(enveloped(part)["encryptedContentInfo"]["contentType"]) == "1.2.840.113549.1.7.2"
    (made,) = package_of(tmp_path, done.stdout)  # verified there, as signed by one of the CA's
    assert fits(made, certificates_of(certificate)[0])


@shows("7030 §4.4.2/4")
async def test_4_4_2_kekri() -> None:
    key, _ = parts(await post(knowing(), "serverkeygen", asking(BY_SECRET, key=some_key())))
    kind, said = recipient(key.get_payload(decode=True))
    assert (kind, int(said["version"]), bytes(said["kekid"]["keyIdentifier"])) == ("kekri", 4, NAME)


@shows("7030 §4.4.2/5")
async def test_4_4_2_ktri(tmp_path: Path) -> None:
    certificate, key = await by_certificate(some_rsa_key())
    part = key.get_payload(decode=True)
    kind, said = recipient(part)
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert (kind, int(said["version"])) == ("ktri", 2)
    assert bytes(said["rid"]["subjectKeyIdentifier"]) == identifier
    assert opens(tmp_path, part, certificate, some_rsa_key())


@shows("7030 §4.4.2/6")
async def test_4_4_2_kari(tmp_path: Path) -> None:
    certificate, key = await by_certificate(some_key(3))
    part = key.get_payload(decode=True)
    kind, said = recipient(part)
    assert (kind, int(said["version"])) == ("kari", 3)
    assert opens(tmp_path, part, certificate, some_key(3))


def opens(directory: Path, part: bytes, certificate: x509.Certificate, key: Any) -> bool:
    (directory / "cert").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "key").write_bytes(pem_of(key))
    return opened(directory, part, "-recip", str(directory / "cert"), "-inkey", str(directory / "key")).returncode == 0


@shows("7030 §4.4.2/7")
async def test_4_4_2_the_content_key_is_strong() -> None:
    for key in (some_rsa_key(), some_key(3)):
        part = (await by_certificate(key))[1].get_payload(decode=True)
        algorithm = enveloped(part)["encryptedContentInfo"]["contentEncryptionAlgorithm"]["algorithm"]
        assert str(algorithm) == AES256


@shows("7030 §4.4.2/8")
async def test_4_4_2_the_certificate_is_as_enrolled() -> None:
    rig = asked()
    _, certificate = parts(await post(rig, "serverkeygen", asking()))
    assert certificate["Content-Type"] == media_type(await post(rig, "simpleenroll"))
    assert len(certificates_of(certificate)) == 1
    assert certificate["Content-Transfer-Encoding"] == "base64"


BAD = (b"rubbish", asking((SMIME_CAPABILITIES, der.integer(5))), asking(BY_SECRET))


@shows("7030 §4.4.2/9")
async def test_4_4_2_4xx() -> None:
    rig = asked()
    for body in BAD:
        assert (await post(rig, "serverkeygen", body))[0].code == 400
    assert not rig.store.records


@shows("7030 §4.4.2/10")
async def test_4_4_2_sentences() -> None:
    for body in BAD:
        assert is_sentence(await post(asked(), "serverkeygen", body))
