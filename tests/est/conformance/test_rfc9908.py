"""RFC 9908: csrattrs, and the template in it, as another library reads them by the RFC's module."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc9908

from opencertd.asn1 import der
from opencertd.model.names import AltNameKind
from tests.conformance import shows
from tests.est.conformance.test_rfc7030_csrattrs import csrattrs
from tests.est.test_csrattrs import EKU, SAN, judged

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.62"
RSA = "1.2.840.113549.1.1.1"
WISHES: list[dict[str, Any]] = [
    {},
    {"key_types": frozenset({"rsa"})},
    {"key_types": frozenset({"p-384"}), "names_required": frozenset({AltNameKind.DNS})},
    {"names_required": frozenset({AltNameKind.DNS})},
    {"key_types": frozenset({"ed25519"}), "extended_key_usages": ()},
    {"key_types": frozenset({"rsa", "p-256"}), "extended_key_usage_critical": True},
]


async def told(**fields: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Attributes and the template."""
    _, body = await csrattrs(**fields)
    _, attributes, template = judged(base64.b64decode(body))
    return attributes, template


def of_extensions(template: Any) -> list[tuple[str, list[bytes]]]:
    """The template's attributes for extensions, with their values."""
    kinds = {EXTENSION_REQUEST, EXTENSION_TEMPLATE}
    found = [(str(oid), [bytes(value) for value in values]) for oid, values in attributes_of(template)]
    return [one for one in found if one[0] in kinds]


def attributes_of(template: Any) -> Iterable[tuple[Any, Any]]:
    return ((one[0], one[1]) for one in template["attributes"])


def requested(values: list[bytes]) -> list[Any]:
    """The extensions of an attribute's one value."""
    (value,) = values
    found, rest = decoder.decode(value, asn1Spec=rfc9908.ExtensionReqTemplate())
    assert not rest
    return list(found)


@shows("9908 §3.2/1")
async def test_3_2_extension_request() -> None:
    _, template = await told()
    ((oid, values),) = of_extensions(template)
    assert oid == EXTENSION_REQUEST and [str(one["extnID"]) for one in requested(values)] == [EKU]


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.2/2")
async def test_3_2_one_attribute(fields: dict[str, Any]) -> None:
    attributes, template = await told(**fields)
    outside = [oid for oid, _ in attributes if oid == EXTENSION_REQUEST]
    assert len(outside) <= 1 and len(of_extensions(template)) <= 1


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.2/3")
async def test_3_2_one_element(fields: dict[str, Any]) -> None:
    for _, values in of_extensions((await told(**fields))[1]):
        assert len(values) == 1 and requested(values)


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.2/4")
async def test_3_2_each_extension_once(fields: dict[str, Any]) -> None:
    for _, values in of_extensions((await told(**fields))[1]):
        oids = [str(one["extnID"]) for one in requested(values)]
        assert len(oids) == len(set(oids))


@shows("9908 §3.2/5")
async def test_3_2_kind_of_key() -> None:
    for kind, oid in [("rsa", RSA), ("p-384", "1.2.840.10045.2.1"), ("ed448", "1.3.101.113")]:
        attributes, _ = await told(key_types=frozenset({kind}))
        assert [name for name, _ in attributes].count(oid) == 1


@shows("9908 §3.2/6")
async def test_3_2_its_parameters() -> None:
    for kind, value in [
        ("rsa", [der.integer(2048)]),
        ("p-384", [der.oid("1.3.132.0.34")]),
        ("ed25519", []),
    ]:
        attributes, _ = await told(key_types=frozenset({kind}))
        assert [bytes(one) for one in attributes[0][1]] == value


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.4/1")
async def test_3_4_no_subject(fields: dict[str, Any]) -> None:
    """No profile wants anything of a request's subject: what it must be is made of other things."""
    assert not (await told(**fields))[1]["subject"].isValue


@shows("9908 §3.4/2")
async def test_3_4_key() -> None:
    assert (await told(key_types=frozenset({"p-256"})))[1]["subjectPKInfo"].isValue
    assert not (await told(key_types=None))[1]["subjectPKInfo"].isValue


@shows("9908 §3.4/3")
async def test_3_4_rsa_size() -> None:
    for bits in (2048, 3072):
        _, template = await told(key_types=frozenset({"rsa"}), rsa_bits=(bits, 4096))
        octets = template["subjectPKInfo"]["subjectPublicKey"].asOctets()
        algorithm = der.sequence(der.oid(RSA), der.null())
        key: Any = load_der_public_key(der.sequence(algorithm, der.bit_string(octets)))
        assert key.key_size == bits


@shows("9908 §3.4/4")
async def test_3_4_no_public_key() -> None:
    for kind in ("p-256", "p-521", "ed25519", "ml-dsa-65"):
        _, template = await told(key_types=frozenset({kind}))
        assert not template["subjectPKInfo"]["subjectPublicKey"].isValue


@shows("9908 §3.4/5")
async def test_3_4_whole_extensions() -> None:
    for fields, oid, holes in [
        ({}, EXTENSION_REQUEST, set()),
        ({"names_required": frozenset({AltNameKind.DNS})}, EXTENSION_TEMPLATE, {SAN}),
    ]:
        ((found, values),) = of_extensions((await told(**fields))[1])  # type: ignore[arg-type]
        assert found == oid
        assert {str(one["extnID"]) for one in requested(values) if not one["extnValue"].isValue} == holes


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.4/6")
async def test_3_4_version(fields: dict[str, Any]) -> None:
    assert int((await told(**fields))[1]["version"]) == 0


@pytest.mark.parametrize("fields", WISHES)
@shows("9908 §3.4/7")
async def test_3_4_one_attribute_for_extensions(fields: dict[str, Any]) -> None:
    assert len(of_extensions((await told(**fields))[1])) <= 1


@shows("9908 §3.4/8")
async def test_3_4_one_element() -> None:
    ((oid, values),) = of_extensions((await told(names_required=frozenset({AltNameKind.DNS})))[1])
    assert oid == EXTENSION_TEMPLATE and len(values) == 1
