"""csrattrs: what a profile wants of a request, in bytes that another library reads by the modules of the RFCs."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc8951, rfc9908

from opencertd.asn1 import der
from opencertd.asn1.csr_attributes import (
    EC,
    RSA,
    CsrAttributes,
    WantedExtension,
    WantedKey,
    decode_csr_attributes,
    encode_csr_attributes,
)
from opencertd.est.wishes import wanted_attributes
from opencertd.issuance.profiles import Profile
from opencertd.model.names import AltNameKind
from tests.est.rig import USER, Rig

EST = "/.well-known/est"
SAN = ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string
EKU = ExtensionOID.EXTENDED_KEY_USAGE.dotted_string
NAMED = frozenset({AltNameKind.DNS})


def profile(**fields: Any) -> Profile:
    return Profile("p", ("rsa",), **fields)


def judged(data: bytes | None) -> tuple[list[str], list[tuple[str, Any]], Any]:
    """Bare OIDs, attributes and the template, as pyasn1 reads them by the modules of RFC 8951 and RFC 9908."""
    assert data is not None
    parsed, rest = decoder.decode(data, asn1Spec=rfc8951.CsrAttrs())
    assert not rest and len(parsed) > 0
    oids = [str(one["oid"]) for one in parsed if one.getName() == "oid"]
    attributes = [(str(one["attribute"][0]), one["attribute"][1]) for one in parsed if one.getName() != "oid"]
    template = None
    for oid, values in attributes:
        if oid == str(rfc9908.id_aa_certificationRequestInfoTemplate):
            (value,) = values
            template, rest = decoder.decode(bytes(value), asn1Spec=rfc9908.CertificationRequestInfoTemplate())
            assert not rest and int(template["version"]) == 0 and not template["subject"].isValue
    return oids, attributes, template


def extensions(template: Any) -> dict[str, bytes | None]:
    (attribute,) = template["attributes"]
    assert str(attribute[0]) in {
        "1.2.840.113549.1.9.14",
        str(rfc9908.id_aa_extensionReqTemplate),
    }
    (value,) = attribute[1]
    found, rest = decoder.decode(bytes(value), asn1Spec=rfc9908.ExtensionReqTemplate())
    assert not rest
    return {str(one["extnID"]): bytes(one["extnValue"]) if one["extnValue"].isValue else None for one in found}


def test_purposes_and_names_are_in_the_template() -> None:
    wanted = wanted_attributes(profile(names_required=NAMED))
    oids, attributes, template = judged(encode_csr_attributes(wanted))
    assert (oids, len(attributes)) == ([], 1)
    assert not template["subjectPKInfo"].isValue
    found = extensions(template)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    assert found == {EKU: usages.public_bytes(), SAN: None}


def test_whole_extensions_are_in_an_extension_request_and_others_in_its_template() -> None:
    for wishes, oid in [
        ({}, "1.2.840.113549.1.9.14"),
        ({"names_required": NAMED}, "1.2.840.113549.1.9.16.2.62"),
    ]:
        data = encode_csr_attributes(wanted_attributes(profile(**wishes)))
        assert data is not None
        assert der.oid(oid) in data


@pytest.mark.parametrize(
    ("name", "algorithm", "value"),
    [
        ("p-256", EC, der.oid("1.2.840.10045.3.1.7")),
        ("p-384", EC, der.oid("1.3.132.0.34")),
        ("p-521", EC, der.oid("1.3.132.0.35")),
        ("rsa", RSA, der.integer(3072)),
        ("ed25519", "1.3.101.112", None),
        ("ml-dsa-65", "2.16.840.1.101.3.4.3.18", None),
    ],
)
def test_the_only_kind_of_key_is_in_both_forms(name: str, algorithm: str, value: bytes | None) -> None:
    wanted = wanted_attributes(profile(key_types=frozenset({name}), rsa_bits=(3072, 4096)))
    data = encode_csr_attributes(wanted)
    _, ((oid, values), _), template = judged(data)
    assert oid == algorithm
    assert [bytes(one) for one in values] == ([] if value is None else [value])
    info = template["subjectPKInfo"]
    assert str(info["algorithm"]["algorithm"]) == algorithm
    assert info["subjectPublicKey"].isValue == (name == "rsa")
    if name == "rsa":
        field = der.sequence(
            der.sequence(der.oid(RSA), der.null()), der.bit_string(info["subjectPublicKey"].asOctets())
        )
        key: Any = load_der_public_key(field)
        assert key.key_size == 3072
    assert data is not None
    assert decode_csr_attributes(data) == wanted


def test_a_choice_of_keys_and_keys_that_cannot_ask_are_not_said() -> None:
    for names in ({"rsa", "p-256"}, {"ml-kem-768"}):
        assert wanted_attributes(profile(key_types=frozenset(names))).key is None


def test_nothing_wanted_is_never_an_empty_sequence() -> None:
    assert encode_csr_attributes(wanted_attributes(profile(extended_key_usages=()))) is None


def test_binding_is_asked_by_the_oid_that_no_template_hides() -> None:
    wanted = wanted_attributes(profile(key_types=frozenset({"p-256"})), binding=True)
    oids, attributes, template = judged(encode_csr_attributes(wanted))
    assert oids == ["1.2.840.113549.1.9.7"]
    assert [oid for oid, _ in attributes] == [EC]
    assert template is None


def test_what_is_not_known_is_named_and_the_template_counts() -> None:
    old = der.sequence(der.oid(RSA), der.tlv(der.SET, der.integer(4096)))
    other = der.oid("1.3.6.1.1.1.1.22")
    assert decode_csr_attributes(der.sequence(other, old)) == CsrAttributes(
        key=WantedKey(RSA, bits=4096), others=("1.3.6.1.1.1.1.22",)
    )
    template = encode_csr_attributes(CsrAttributes(extensions=(WantedExtension(SAN, critical=True),)))
    assert template is not None
    inner = der.read_only(template, der.SEQUENCE).content(template)
    assert decode_csr_attributes(der.sequence(other, old, inner)) == CsrAttributes(
        extensions=(WantedExtension(SAN, critical=True),)
    )


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_nothing_but_a_value_error_comes_of_any_bytes(noise: bytes, place: int, octet: int) -> None:
    good = encode_csr_attributes(wanted_attributes(profile(key_types=frozenset({"rsa"}), names_required=NAMED)))
    assert good is not None
    bent = bytearray(good)
    bent[place % len(bent)] = octet
    for data in (noise, bytes(bent), good[:place]):
        try:
            decode_csr_attributes(data)
        except ValueError:
            continue


@pytest_twisted.ensureDeferred
async def test_they_are_told_to_those_who_say_who_they_are_unless_the_setting_opens_them() -> None:
    closed, opened = Rig(), Rig(open_csrattrs=True)
    response, _ = await closed.ask("GET", f"{EST}/csrattrs")
    assert response.code == 401
    assert response.headers.getRawHeaders("www-authenticate")
    closed.door.who = USER
    for rig in (closed, opened):
        response, body = await rig.ask("GET", f"{EST}/tls-server/csrattrs", User_Agent="test")
        assert response.code == 200
        assert response.headers.getRawHeaders("content-type") == ["application/csrattrs"]
        assert response.headers.getRawHeaders("content-transfer-encoding") == ["base64"]
        assert response.length == len(body)
        _, _, template = judged(base64.b64decode(body))
        assert set(extensions(template)) == {EKU, SAN}


@pytest_twisted.ensureDeferred
async def test_a_profile_that_wants_nothing_answers_204() -> None:
    rig = Rig(open_csrattrs=True)
    plain = dataclasses.replace(rig.authority.profiles["default"], extended_key_usages=())
    rig.authority.profiles = {**rig.authority.profiles, "default": plain}
    response, body = await rig.ask("GET", f"{EST}/csrattrs")
    assert (response.code, body) == (204, b"")
