"""ChangeSubjectName in simplereenroll: from the names that TLS proved to others that their holder may have."""

from __future__ import annotations

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc6402

from opencertd.asn1 import der
from opencertd.asn1.dn import format_dn, parse_dn
from tests.est.rig import Rig, some_key
from tests.est.test_server import EST, PKCS10, assert_sentence, enrolled, first_certificate

ATTRIBUTE = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")


def change(subject: str | None, *names: str) -> bytes:
    """The attribute's value, which the module of RFC 6402 reads as it was meant."""
    parts = [] if subject is None else [parse_dn(subject).public_bytes()]
    if names:
        encoded = x509.SubjectAlternativeName([x509.DNSName(name) for name in names]).public_bytes()
        parts.append(der.tlv(0xA1, der.read_only(encoded, der.SEQUENCE).content(encoded)))
    value = der.sequence(*parts)
    read, rest = decoder.decode(value, asn1Spec=rfc6402.ChangeSubjectName())
    assert not rest and [str(name["dNSName"]) for name in read["subjectAlt"]] == list(names)
    return value


def csr(value: bytes, dn: str = "CN=old,O=Ex", names: tuple[str, ...] = ("a.test", "b.test")) -> bytes:
    """With the attribute spliced in: the builder of `cryptography` makes attributes of strings only."""
    key = some_key()
    general = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder(parse_dn(dn)).add_extension(general, critical=False)
    plain = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    information, algorithm, _ = der.children(plain, der.read_only(plain, der.SEQUENCE))
    *head, attributes = der.children(plain, information)
    attribute = der.sequence(der.oid(ATTRIBUTE.dotted_string), der.tlv(der.SET, value))
    inside = b"".join(sorted((attributes.content(plain), attribute)))
    changed = der.sequence(*(part.raw(plain) for part in head), der.tlv(0xA0, inside))
    signature = key.sign(changed, ec.ECDSA(hashes.SHA256()))
    return der.sequence(changed, algorithm.raw(plain), der.bit_string(signature))


def names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


@pytest_twisted.ensureDeferred
async def test_names_may_become_fewer() -> None:
    rig = Rig()
    await first_certificate(rig, "CN=old,O=Ex", "a.test", "b.test")
    renewed = await enrolled(rig, csr(change(None, "b.test")), f"{EST}/simplereenroll")
    assert (format_dn(renewed.subject), names_of(renewed)) == ("CN=old,O=Ex", ["b.test"])


@pytest_twisted.ensureDeferred
async def test_other_names_need_the_right_to_them() -> None:
    wish = csr(change("CN=new", "new.test"))
    rig = Rig()
    await first_certificate(rig, "CN=old,O=Ex", "a.test", "b.test")
    response, body = await rig.ask("POST", f"{EST}/simplereenroll", wish, **PKCS10)
    assert response.code == 403
    assert b"new.test" in body
    assert_sentence(response, body)
    opened = Rig(est={"client_certificate_may_enrol_any_name": True})
    await first_certificate(opened, "CN=old,O=Ex", "a.test", "b.test")
    renewed = await enrolled(opened, wish, f"{EST}/simplereenroll")
    assert (format_dn(renewed.subject), names_of(renewed)) == ("CN=new", ["new.test"])
    only = await enrolled(opened, csr(change("CN=new")), f"{EST}/simplereenroll")
    assert (format_dn(only.subject), names_of(only)) == ("CN=new", ["a.test", "b.test"])


@pytest_twisted.ensureDeferred
async def test_the_names_to_change_from_are_those_that_tls_proved() -> None:
    rig = Rig(est={"client_certificate_may_enrol_any_name": True})
    await first_certificate(rig, "CN=old,O=Ex", "a.test", "b.test")
    response, _ = await rig.ask("POST", f"{EST}/simplereenroll", csr(change("CN=new"), dn="CN=other"), **PKCS10)
    assert response.code == 403


@pytest.mark.parametrize(
    "value",
    [
        der.sequence(),
        der.null(),
        der.sequence(der.integer(1)),
        der.sequence(der.sequence(der.integer(1))),
        der.sequence(der.tlv(0xA1, b"\x82\x03a..")),
        der.sequence(der.tlv(0xA1, b"")),
        der.sequence(der.tlv(0xA1, b"\x84\x01x")),
        der.sequence(der.sequence(), der.sequence()),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_such_attribute_is_a_bad_request(value: bytes) -> None:
    rig = Rig(est={"client_certificate_may_enrol_any_name": True})
    await first_certificate(rig, "CN=old,O=Ex", "a.test", "b.test")
    response, body = await rig.ask("POST", f"{EST}/simplereenroll", csr(value), **PKCS10)
    assert response.code == 400, body
    assert_sentence(response, body)
