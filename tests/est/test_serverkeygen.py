"""serverkeygen: a key that fits its certificate, told once; what is encrypted is opened by OpenSSL, and by no other."""

from __future__ import annotations

import base64
import dataclasses
import email
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from twisted.internet.defer import Deferred

from opencertd.asn1 import der
from opencertd.asn1.dn import parse_dn
from opencertd.est.generation import ASYMMETRIC_DECRYPT_KEY, DECRYPT_KEY, SMIME_CAPABILITIES
from opencertd.model.requester import NameGrant
from tests.est.rig import USER, Rig, holder, issuers, new_csr, some_key, some_rsa_key
from tests.est.test_server import EST, PKCS10, assert_sentence, certificates, enrolled

AES128, AES256, DES3 = "2.16.840.1.101.3.4.1.2", "2.16.840.1.101.3.4.1.42", "1.2.840.113549.3.7"
OAEP = "1.2.840.113549.1.1.7"
SECRET, NAME = bytes(range(32)), b"\x0a\x1b"


def capabilities(*oids: str) -> bytes:
    return der.sequence(*(der.sequence(der.oid(oid)) for oid in oids))


def asking(*attributes: tuple[x509.ObjectIdentifier, bytes], key: Any = None, dn: str = "CN=device") -> bytes:
    """A request with attributes, under a signature that does not verify: nobody may look at it."""
    plain = new_csr(dn, key=key)
    information, algorithm, signature = der.children(plain, der.read_only(plain, der.SEQUENCE))
    *head, _ = der.children(plain, information)
    inside = b"".join(sorted(der.sequence(der.oid(o.dotted_string), der.tlv(der.SET, v)) for o, v in attributes))
    changed = der.sequence(*(part.raw(plain) for part in head), der.tlv(0xA0, inside))
    return der.sequence(changed, algorithm.raw(plain), signature.raw(plain))


async def generated(rig: Rig, request: bytes, path: str = f"{EST}/serverkeygen") -> tuple[str, bytes, x509.Certificate]:
    """The key part's type and bytes, and the certificate, as a MIME reader finds them."""
    response, body = await rig.ask("POST", path, request, **PKCS10)
    assert response.code == 200, body
    assert response.length == len(body)
    assert response.headers.getRawHeaders("cache-control") == ["no-store"]
    (kind,) = response.headers.getRawHeaders("content-type")
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    assert message.get_content_type() == "multipart/mixed" and not message.defects
    parts: Any = message.get_payload()
    first, second = parts
    for part in (first, second):
        assert part["Content-Transfer-Encoding"] == "base64" and not part.defects
    assert second["Content-Type"] == "application/pkcs7-mime; smime-type=certs-only"
    (certificate,) = certificates(base64.b64encode(second.get_payload(decode=True)))
    return first["Content-Type"], first.get_payload(decode=True), certificate


def fits(key: Any, certificate: x509.Certificate) -> bool:
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return bool(key.public_key().public_bytes(*spki) == certificate.public_key().public_bytes(*spki))


def nowhere(rig: Rig, secret: bytes) -> None:
    """No part of the secret is in what the store and the audit chain were told."""
    told = repr(rig.store.records) + repr(rig.store.audit)
    for text in (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()):
        assert text not in told
    assert all(secret not in (record.certificate_der or b"") for record in rig.store.records.values())


@pytest_twisted.ensureDeferred
async def test_the_key_is_plain_pkcs8_and_fits_the_certificate() -> None:
    rig = Rig()
    rig.door.who = USER
    kind, part, certificate = await generated(rig, asking(key=some_rsa_key()))
    assert kind == "application/pkcs8"
    key: Any = load_der_private_key(part, None)
    assert isinstance(key, rsa.RSAPrivateKey) and key.key_size == 2048
    assert fits(key, certificate) and not fits(some_rsa_key(), certificate)
    assert certificate.subject == parse_dn("CN=device")
    nowhere(rig, key.private_numbers().d.to_bytes(256, "big"))
    again: Any = load_der_private_key((await generated(rig, asking(key=some_rsa_key())))[1], None)
    assert not fits(again, certificate)


@pytest.mark.parametrize(
    ("asked", "fields", "kind", "bits"),
    [
        (some_key(), {}, ec.EllipticCurvePrivateKey, 256),
        (some_rsa_key(), {"rsa_bits": (3072, 4096)}, rsa.RSAPrivateKey, 3072),
        (some_rsa_key(), {"key_types": frozenset({"p-384"})}, ec.EllipticCurvePrivateKey, 384),
        (some_key(), {"key_types": frozenset({"p-521", "rsa"})}, rsa.RSAPrivateKey, 2048),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_kind_is_the_requests_where_the_profile_has_it(
    asked: Any, fields: dict[str, Any], kind: type, bits: int
) -> None:
    rig = Rig()
    rig.door.who = USER
    change(rig, **fields)
    _, part, certificate = await generated(rig, asking(key=asked))
    key: Any = load_der_private_key(part, None)
    assert isinstance(key, kind) and key.key_size == bits
    assert fits(key, certificate)


def change(rig: Rig, **fields: Any) -> None:
    changed = dataclasses.replace(rig.authority.profiles["default"], **fields)
    rig.authority.profiles = {**rig.authority.profiles, "default": changed}


def opened(tmp_path: Path, part: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "part").write_bytes(part)
    words = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", str(tmp_path / "part"), *arguments]
    return subprocess.run(words, capture_output=True, check=False)


def package_of(tmp_path: Path, signed_data: bytes) -> tuple[Any, ...]:
    """The keys in the package, when its signature is that of one of our CAs."""
    content = der.sequence(der.oid("1.2.840.113549.1.7.2"), der.explicit(0, signed_data))
    (tmp_path / "signed").write_bytes(content)
    words = ["openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", str(tmp_path / "signed")]
    words += ["-signer", str(tmp_path / "signer")]
    done = subprocess.run(words, capture_output=True, check=True)
    signer = x509.load_pem_x509_certificate((tmp_path / "signer").read_bytes())
    assert signer in [issuer.certificate for issuer in issuers().all()]
    package = done.stdout
    return tuple(
        load_der_private_key(one.raw(package), None)
        for one in der.children(package, der.read_only(package, der.SEQUENCE))
    )


def pem_of(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("listed", [(), (AES128,), (DES3, AES256, OAEP)])
@pytest.mark.parametrize("held", ["ec", "rsa"])
@pytest_twisted.ensureDeferred
async def test_openssl_opens_what_is_for_the_client_certificate(
    held: str, listed: tuple[str, ...], tmp_path: Path
) -> None:
    rig = Rig()
    rig.door.who = USER
    own = some_key(3) if held == "ec" else some_rsa_key()
    certificate = await enrolled(rig, new_csr("CN=device", key=own))
    rig.door.who = holder(certificate)
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    attributes = [(ASYMMETRIC_DECRYPT_KEY, der.octet_string(identifier))]
    attributes += [(SMIME_CAPABILITIES, capabilities(*listed))] if listed else []
    kind, part, issued = await generated(rig, asking(*attributes, key=some_key()))
    assert kind == "application/pkcs7-mime; smime-type=server-generated-key"
    (tmp_path / "cert").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key").write_bytes(pem_of(own))
    recipient = ("-recip", str(tmp_path / "cert"), "-inkey", str(tmp_path / "key"))
    done = opened(tmp_path, part, *recipient)
    assert done.returncode == 0, done.stderr
    (key,) = package_of(tmp_path, done.stdout)
    assert fits(key, issued)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    assert secret not in part
    nowhere(rig, secret)
    assert (der.oid(AES128) in part) == (listed == (AES128,))
    if held == "rsa":
        assert (der.oid(OAEP) in part) == (OAEP in listed)
    (tmp_path / "key").write_bytes(pem_of(some_key(4) if held == "ec" else rsa.generate_private_key(65537, 2048)))
    assert opened(tmp_path, part, "-inkey", str(tmp_path / "key")).stdout != done.stdout


@pytest_twisted.ensureDeferred
async def test_openssl_opens_what_is_for_a_registered_secret(tmp_path: Path) -> None:
    rig = Rig(est={"decrypt_keys": {"password:estuser": {NAME: SECRET}}})
    rig.door.who = USER
    kind, part, issued = await generated(rig, asking((DECRYPT_KEY, der.octet_string(NAME)), key=some_key()))
    assert kind == "application/pkcs7-mime; smime-type=server-generated-key"
    done = opened(tmp_path, part, "-secretkey", SECRET.hex(), "-secretkeyid", NAME.hex())
    assert done.returncode == 0, done.stderr
    (key,) = package_of(tmp_path, done.stdout)
    assert fits(key, issued)
    assert opened(tmp_path, part, "-secretkey", bytes(32).hex(), "-secretkeyid", NAME.hex()).returncode != 0


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ([(DECRYPT_KEY, der.octet_string(b"other"))], b"no key of that DecryptKeyIdentifier"),
        ([(ASYMMETRIC_DECRYPT_KEY, der.octet_string(b"x"))], b"TLS client certificate"),
        ([(DECRYPT_KEY, der.octet_string(NAME)), (ASYMMETRIC_DECRYPT_KEY, der.octet_string(b"x"))], b"both"),
        ([(SMIME_CAPABILITIES, capabilities(DES3))], b"SMIMECapabilities name none"),
        ([(SMIME_CAPABILITIES, der.integer(5))], b"SMIMECapabilities"),
        ([(SMIME_CAPABILITIES, der.sequence(der.sequence()))], b"not well-formed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_hidden_is_not_told(attributes: Any, words: bytes) -> None:
    rig = Rig(est={"decrypt_keys": {"password:estuser": {NAME: SECRET}}})
    rig.door.who = USER
    response, body = await rig.ask("POST", f"{EST}/serverkeygen", asking(*attributes), **PKCS10)
    assert response.code == 400
    assert words in body
    assert_sentence(response, body)
    assert not rig.store.records


@pytest_twisted.ensureDeferred
async def test_another_requesters_secret_is_not_used() -> None:
    rig = Rig(est={"decrypt_keys": {"password:somebody": {NAME: SECRET}}})
    rig.door.who = USER
    response, _ = await rig.ask("POST", f"{EST}/serverkeygen", asking((DECRYPT_KEY, der.octet_string(NAME))), **PKCS10)
    assert response.code == 400


@pytest_twisted.ensureDeferred
async def test_who_may_have_which_names_is_as_for_enrolment() -> None:
    rig = Rig()
    response, _ = await rig.ask("POST", f"{EST}/serverkeygen", b"rubbish", Content_Type="text/plain")
    assert response.code == 401
    rig.door.who = USER
    certificate = await enrolled(rig, new_csr("CN=device"))
    rig.door.who = holder(certificate)
    response, body = await rig.ask("POST", f"{EST}/serverkeygen", asking(dn="CN=other"), **PKCS10)
    assert response.code == 403
    assert_sentence(response, body)
    response, _ = await rig.ask("POST", f"{EST}/serverkeygen", asking(), **PKCS10, Accept="text/html")
    assert response.code == 406


@pytest_twisted.ensureDeferred
async def test_the_setting_takes_it_away() -> None:
    rig = Rig(serverkeygen=False)
    rig.door.who = USER
    response, body = await rig.ask("POST", f"{EST}/serverkeygen", asking(), **PKCS10)
    assert response.code == 404
    assert_sentence(response, body)


@pytest_twisted.ensureDeferred
async def test_bent_requests_are_answered_or_refused() -> None:
    source = random.Random(30)
    rig = Rig(est={"decrypt_keys": {"password:estuser": {NAME: SECRET}}})
    rig.door.who = USER
    attributes = [(DECRYPT_KEY, der.octet_string(NAME)), (SMIME_CAPABILITIES, capabilities(OAEP, AES128))]
    good = asking(*attributes, key=some_key())
    seen = set()
    for _ in range(300):
        bent = bytearray(good)
        for _ in range(source.randrange(1, 4)):
            bent[source.randrange(len(bent))] = source.randrange(256)
        response, body = await rig.ask("POST", f"{EST}/ecdsa/serverkeygen", bytes(bent), **PKCS10)
        assert response.code == 200 or 400 <= response.code < 500, (bytes(bent).hex(), body)
        seen.add(response.code)
    assert seen >= {200, 400}


@pytest_twisted.ensureDeferred
async def test_keys_are_made_two_at_a_time_for_those_who_may_have_them_and_few_wait() -> None:
    making: list[Deferred[Any]] = []

    def slowly(make: Any) -> Deferred[Any]:
        making.append(Deferred().addCallback(lambda _: make()))
        return making[-1]

    rig = Rig(est={"elsewhere": slowly})
    rig.door.who = dataclasses.replace(USER, grant=NameGrant(patterns=("mine.test",)))
    refused, _ = await rig.ask("POST", f"{EST}/serverkeygen", new_csr("", "other.test"), **PKCS10)
    assert (refused.code, making) == (403, [])
    request = new_csr("", "mine.test")
    asked = [Deferred.fromCoroutine(rig.ask("POST", f"{EST}/serverkeygen", request, **PKCS10)) for _ in range(22)]
    assert len(making) == 2
    busy, body = await rig.ask("POST", f"{EST}/serverkeygen", request, **PKCS10)
    assert (busy.code, busy.headers.getRawHeaders("retry-after")) == (503, ["10"])
    assert_sentence(busy, body)
    for done in making:  # grows while it is walked through
        done.callback(None)
        rig.treq.flush()
    assert [(await one)[0].code for one in asked] == [200] * 22
    assert len(rig.store.records) == 22
