"""Certificates for IP addresses (RFC 8738), alone and beside names."""

from __future__ import annotations

import ipaddress

import pytest
import pytest_twisted
from cryptography import x509

from opencertd.acme.orders import OrderTerms
from opencertd.model.names import AltName, AltNameKind
from tests.acme.rig import Client, Reply, Rig
from tests.acme.signing import b64, csr_for, ec_key

TERMS = OrderTerms("default", challenges=("http-01", "dns-01", "tls-alpn-01", "dns-account-01"))
SANS: list[x509.GeneralName] = [
    x509.DNSName("a.example"),
    x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
    x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
]
IDENTIFIERS = [
    {"type": "dns", "value": "a.example"},
    {"type": "ip", "value": "192.0.2.7"},
    {"type": "ip", "value": "2001:db8::7"},
]


async def ordered(client: Client) -> Reply:
    await client.register()
    return await client.post("/new-order", {"identifiers": IDENTIFIERS})


@pytest_twisted.ensureDeferred
async def test_are_offered_what_can_prove_them_and_come_back_as_ordered() -> None:
    client = Client(Rig(terms=TERMS))
    order = await ordered(client)
    assert order.status == 201 and order.json["identifiers"] == IDENTIFIERS
    found = [(await client.post(url)).json for url in order.json["authorizations"]]
    assert [each["identifier"] for each in found] == IDENTIFIERS
    assert [[challenge["type"] for challenge in each["challenges"]] for each in found] == [
        ["http-01", "dns-01", "tls-alpn-01", "dns-account-01"],
        ["http-01", "tls-alpn-01"],
        ["http-01", "tls-alpn-01"],
    ]


@pytest_twisted.ensureDeferred
async def test_are_validated_as_addresses_and_get_into_the_certificate() -> None:
    rig = Rig(terms=TERMS)
    client = Client(rig)
    order = await ordered(client)
    await client.prove(order, "tls-alpn-01")
    assert rig.validator.asked[1].name == AltName(AltNameKind.IP, "192.0.2.7")
    final = await client.finalize(order, csr_for(ec_key(), sans=SANS))
    assert final.json["status"] == "valid"
    chain = (await client.post(final.json["certificate"])).body
    made = x509.load_pem_x509_certificates(chain)[0]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names) == set(SANS) and not list(made.subject)


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest_twisted.ensureDeferred
async def test_a_csr_must_ask_for_all_of_them(missing: int) -> None:
    client = Client(Rig(terms=TERMS))
    order = await ordered(client)
    await client.prove(order, "http-01")
    sans = [name for at, name in enumerate(SANS) if at != missing]
    refused = await client.post(order.json["finalize"], {"csr": b64(csr_for(ec_key(), sans=sans))})
    assert refused.problem == "badCSR" and IDENTIFIERS[missing]["value"] in refused.json["detail"]


@pytest.mark.parametrize(
    ("challenges", "identifier"),
    [(("dns-01",), {"type": "ip", "value": "192.0.2.7"}), (("http-01",), {"type": "dns", "value": "*.a.example"})],
)
@pytest_twisted.ensureDeferred
async def test_what_nothing_here_could_prove_is_refused_at_once(
    challenges: tuple[str, ...], identifier: dict[str, str]
) -> None:
    client = Client(Rig(terms=OrderTerms("default", challenges=challenges)))
    await client.register()
    refused = await client.post("/new-order", {"identifiers": [identifier]})
    assert (refused.status, refused.problem) == (400, "rejectedIdentifier")
    assert challenges[0] in refused.json["detail"] and refused.json["subproblems"][0]["identifier"] == identifier
