"""Orders for devices: device-attest-01 offered, answered and judged, and certificates for the attested key alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.acme.limits import Limit, Limits, Rate
from opencertd.acme.limits import registered as registered_as
from opencertd.acme.orders import OrderTerms
from opencertd.asn1 import der
from opencertd.model.names import AltNameKind, parse_alt_name
from tests.acme.rig import Client, Reply, Rig
from tests.acme.signing import b64, csr_for, ec_key, thumbprint_of
from tests.validation.devices import attestation, cbor, issue, make_ca, other, sha256

ROOT = make_ca("Maker Root")
TERMS = OrderTerms(
    "default",
    challenges=("http-01", "dns-01", "device-attest-01"),
    devices=dict.fromkeys(("tpm", "apple", "step"), (ROOT.certificate,)),
)
PERMANENT, MODULE = "permanent-identifier", "hardware-module"
PERMANENT_OID = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.3")


def rig() -> Rig:
    return Rig(terms=TERMS)


async def registered(where: Rig) -> Client:
    client = Client(where)
    await client.register()
    return client


async def order_of(client: Client, *names: tuple[str, str]) -> Reply:
    return await client.post("/new-order", {"identifiers": [{"type": kind, "value": name} for kind, name in names]})


async def challenge_of(client: Client, order: Reply, place: int = 0) -> dict[str, Any]:
    authorization = await client.post(order.json["authorizations"][place])
    found: dict[str, Any] = authorization.json["challenges"][0]
    return found


def answer(client: Client, challenge: dict[str, Any], key: Any, serial: int = 12345678) -> dict[str, str]:
    """What a YubiKey's holder sends."""
    says = f"{challenge['token']}.{thumbprint_of(client.key)}"
    leaf = issue(key.public_key(), "YubiKey", ROOT, other("1.3.6.1.4.1.41482.3.7", der.integer(serial)))
    signature = key.sign(says.encode(), ec.ECDSA(hashes.SHA256()))
    statement = {"sig": cbor(signature), "x5c": [leaf.public_bytes(Encoding.DER)], "alg": -7}
    return {"attObj": b64(attestation("step", statement))}


async def attested(client: Client, key: Any, *names: tuple[str, str]) -> Reply:
    """An order whose devices have all attested the key."""
    order = await order_of(client, *(names or ((PERMANENT, "12345678"),)))
    for place in range(len(order.json["authorizations"])):
        challenge = await challenge_of(client, order, place)
        if challenge["type"] == "device-attest-01":
            settled = await client.post(challenge["url"], answer(client, challenge, key))
            assert settled.json["status"] == "valid", settled.body
    return order


async def issued(client: Client, final: Reply) -> x509.Certificate:
    assert final.json["status"] == "valid", final.body
    return x509.load_pem_x509_certificate((await client.post(final.json["certificate"])).body)


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


NAMED = x509.OtherName(PERMANENT_OID, der.sequence(der.tlv(0x0C, b"12345678")))  # RFC 4043, spelled out


@pytest_twisted.ensureDeferred
async def test_a_device_gets_a_certificate_that_names_it() -> None:
    client, key = await registered(rig()), ec_key()
    order = await order_of(client, (PERMANENT, "12345678"))
    assert order.json["identifiers"] == [{"type": PERMANENT, "value": "12345678"}]
    challenge = await challenge_of(client, order)
    assert challenge["type"] == "device-attest-01" and challenge["status"] == "pending"
    settled = await client.post(challenge["url"], answer(client, challenge, key))
    assert settled.status == 200 and settled.json["status"] == "valid" and "validated" in settled.json
    assert "retry-after" not in settled.headers and client.rig.kicks == 0  # nothing is left to a job
    assert (await client.post(order.location)).json["status"] == "ready"
    found = await issued(client, await client.finalize(order, csr_for(key, sans=[NAMED])))
    assert found.public_key() == key.public_key()
    assert names_of(found) == [NAMED]


@pytest_twisted.ensureDeferred
async def test_a_request_need_not_name_the_device_and_may_call_it_by_its_common_name() -> None:
    """As Apple's do, whose profiles say what is in the request."""
    client, key = await registered(rig()), ec_key()
    order = await attested(client, key)
    found = await issued(client, await client.finalize(order, csr_for(key, common_name="12345678")))
    assert names_of(found) == [NAMED] and found.subject.rfc4514_string() == "CN=12345678"
    order = await attested(client, key)
    found = await issued(client, await client.finalize(order, csr_for(key, common_name="Somebody's telephone")))
    assert names_of(found) == [NAMED] and not found.subject.rdns


@pytest_twisted.ensureDeferred
async def test_the_certificate_is_for_the_attested_key_and_no_other() -> None:
    client, key = await registered(rig()), ec_key()
    order = await attested(client, key)
    refused = await client.finalize(order, csr_for(ec_key(), sans=[NAMED]))
    assert refused.problem == "badCSR" and "12345678 attested" in refused.json["detail"]
    assert not client.rig.authority.asked
    await issued(client, await client.finalize(order, csr_for(key)))  # the order is what it was


@pytest_twisted.ensureDeferred
async def test_two_devices_in_one_order_must_have_attested_one_key() -> None:
    client, key = await registered(rig()), ec_key()
    order = await order_of(client, (PERMANENT, "12345678"), (PERMANENT, "87654321"))
    for place, each in enumerate((key, ec_key())):
        challenge = await challenge_of(client, order, place)
        serial = int((await client.post(order.json["authorizations"][place])).json["identifier"]["value"])
        assert (await client.post(challenge["url"], answer(client, challenge, each, serial))).json["status"] == "valid"
    assert (await client.finalize(order, csr_for(key))).problem == "badCSR"


@pytest_twisted.ensureDeferred
async def test_hosts_in_the_same_order_are_proven_their_own_way_and_must_be_asked() -> None:
    client, key = await registered(rig()), ec_key()
    order = await attested(client, key, ("dns", "a.example"), (PERMANENT, "12345678"))
    offered = (await client.post(order.json["authorizations"][0])).json["challenges"]
    assert {each["type"] for each in offered} == {"http-01", "dns-01"}
    assert (await client.finalize(order, csr_for(key, "a.example"))).problem == "orderNotReady"
    await client.prove(order)
    refused = await client.finalize(order, csr_for(key))
    assert refused.problem == "badCSR" and "lacks dns:a.example" in refused.json["detail"]
    found = await issued(client, await client.finalize(order, csr_for(key, "a.example")))
    assert names_of(found) == [x509.DNSName("a.example"), NAMED]


@pytest_twisted.ensureDeferred
async def test_a_device_of_another_name_is_refused_for_good() -> None:
    client, key = await registered(rig()), ec_key()
    order = await order_of(client, (PERMANENT, "another"))
    challenge = await challenge_of(client, order)
    settled = await client.post(challenge["url"], answer(client, challenge, key))
    assert settled.status == 200 and settled.json["status"] == "invalid"
    assert settled.json["error"]["type"] == "urn:ietf:params:acme:error:badAttestationStatement"
    assert "not of the device another" in settled.json["error"]["detail"]
    seen = (await client.post(order.location)).json
    assert seen["status"] == "invalid" and seen["error"]["type"].endswith(":badAttestationStatement")
    again = await client.post(challenge["url"], answer(client, challenge, key))
    assert again.json["status"] == "invalid"


@pytest_twisted.ensureDeferred
async def test_an_answer_is_bound_to_its_challenge_and_account() -> None:
    where, key = rig(), ec_key()
    thief, client = await registered(where), await registered(where)
    mine = await challenge_of(client, await order_of(client, (PERMANENT, "12345678")))
    theirs = await challenge_of(thief, await order_of(thief, (PERMANENT, "12345678")))
    told = answer(client, mine, key)
    assert (await thief.post(theirs["url"], told)).json["status"] == "invalid"
    assert (await thief.post(mine["url"], told)).problem == "unauthorized"
    assert (await client.post(mine["url"], told)).json["status"] == "valid"


@pytest.mark.parametrize("payload", [{}, {"attObj": None}, {"attObj": 7}, {"attObj": "*"}, {"attObj": ["eA"]}])
@pytest_twisted.ensureDeferred
async def test_answers_without_an_attestation_leave_the_challenge_as_it_was(payload: dict[str, Any]) -> None:
    client, key = await registered(rig()), ec_key()
    challenge = await challenge_of(client, await order_of(client, (PERMANENT, "12345678")))
    refused = await client.post(challenge["url"], payload)
    assert refused.problem == "malformed" and "attObj" in refused.json["detail"]
    assert (await client.post(challenge["url"])).json["status"] == "pending"  # a read changes nothing either
    assert (await client.post(challenge["url"], answer(client, challenge, key))).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_statements_that_fail_count_as_failed_validations() -> None:
    limits = Limits({Limit.FAILURES: Rate(1, timedelta(hours=1))})
    client = await registered(Rig(terms=TERMS, limits=limits))
    challenge = await challenge_of(client, await order_of(client, (PERMANENT, "12345678")))
    await client.post(challenge["url"], {"attObj": b64(b"x")})
    assert (await order_of(client, (PERMANENT, "12345678"))).problem == "rateLimited"
    assert not (await order_of(client, (PERMANENT, "87654321"))).problem


def test_devices_are_counted_one_by_one() -> None:
    """Their names may look like a host's, or end alike."""
    names = ("www.example.com", "7/1.2.3.4", "8/1.2.3.4")
    counted = {registered_as(parse_alt_name(AltNameKind.PERMANENT_IDENTIFIER, name)) for name in names}
    assert len(counted) == 3 and "example.com" not in counted


@pytest_twisted.ensureDeferred
async def test_a_device_attests_for_each_order_also_where_proofs_serve_again() -> None:
    terms = replace(TERMS, reuse=timedelta(days=1))
    client = await registered(Rig(terms=terms))
    for key in (ec_key(), ec_key()):
        order = await attested(client, key)
        await issued(client, await client.finalize(order, csr_for(key)))
    ahead = await client.post("/new-authz", {"identifier": {"type": PERMANENT, "value": "12345678"}})
    assert ahead.problem == "rejectedIdentifier" and "each order" in ahead.json["detail"]


@pytest_twisted.ensureDeferred
async def test_garbage_and_what_is_too_long_is_a_bad_statement() -> None:
    client = await registered(rig())
    for made in (b"", b"\xff", cbor({"fmt": "tpm"}), bytes(33_000)):
        challenge = await challenge_of(client, await order_of(client, (PERMANENT, "12345678")))
        settled = await client.post(challenge["url"], {"attObj": b64(made)})
        assert settled.json["error"]["type"].endswith(":badAttestationStatement"), made[:10]


@pytest_twisted.ensureDeferred
async def test_nobody_is_asked_for_caa_of_devices_when_a_proof_is_old() -> None:
    client, key = await registered(rig()), ec_key()
    order = await attested(client, key)
    client.rig.clock.advance(timedelta(hours=9))
    await issued(client, await client.finalize(order, csr_for(key)))
    assert client.rig.validator.caa_asked == []


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (PERMANENT, "", "is empty"),
        (PERMANENT, "a/b", "no OID"),
        (PERMANENT, "*.example.com", "wildcard"),
        (PERMANENT, "a\x00b", "cannot be seen"),
        (PERMANENT, "9" * 201, "200 characters"),
        (MODULE, "9", "has no OID"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_device_names_that_are_none(kind: str, value: str, words: str) -> None:
    client = await registered(rig())
    refused = await order_of(client, (kind, value))
    assert refused.problem == "malformed" and words in refused.json["detail"]


@pytest_twisted.ensureDeferred
async def test_without_roots_there_are_no_orders_for_devices() -> None:
    client = await registered(Rig())
    refused = await order_of(client, (PERMANENT, "12345678"))
    assert refused.problem == "rejectedIdentifier" and "none of the challenges" in refused.json["detail"]


@pytest_twisted.ensureDeferred
async def test_a_serial_number_does_not_pass_for_a_host() -> None:
    """Makers choose serial numbers; clients that look at common names must not read one as their server's."""
    client, key = await registered(rig()), ec_key()
    order = await order_of(client, (PERMANENT, "www.example.com"))
    challenge = await challenge_of(client, order)
    leaf = issue(
        key.public_key(), "device", ROOT, other("1.2.840.113635.100.8.9.1", b"www.example.com"),
        other("1.2.840.113635.100.8.11.1", sha256(challenge["token"])),
    )  # fmt: skip
    made = attestation("apple", {"x5c": [leaf.public_bytes(Encoding.DER)]})
    assert (await client.post(challenge["url"], {"attObj": b64(made)})).json["status"] == "valid"
    found = await issued(client, await client.finalize(order, csr_for(key, common_name="www.example.com")))
    assert not found.subject.rdns
    assert all(isinstance(name, x509.OtherName) for name in names_of(found))
