"""Revocation: by the account that got it, by the certificate's key, once, for a usable reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from opencertd.model.certificates import RevocationReason
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import IssuanceRequest, RevocationRequest, Transaction
from opencertd.model.requester import NameGrant, Proof, Requester
from tests.acme.rig import Client, Rig, issuers
from tests.acme.signing import b64, ec_key, rsa_key, spki_of


async def issued(client: Client, key: Any = None) -> bytes:
    _, pem = await client.certificate("a.example", key=key)
    return x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)


@pytest_twisted.ensureDeferred
async def test_the_account_that_got_it_revokes_once() -> None:
    rig = Rig()
    client = Client(rig)
    certificate = b64(await issued(client))
    reply = await client.post("/revoke-cert", {"certificate": certificate, "reason": 1})
    assert (reply.status, reply.body) == (200, b"")
    assert rig.authority.revoked[0].reason is RevocationReason.KEY_COMPROMISE
    again = await client.post("/revoke-cert", {"certificate": certificate})
    assert (again.status, again.problem) == (400, "alreadyRevoked")


@pytest.mark.parametrize("key", [ec_key(), rsa_key()], ids=["ec", "rsa"])
@pytest_twisted.ensureDeferred
async def test_the_certificates_key_revokes_without_an_account(key: Any) -> None:
    rig = Rig()
    certificate = b64(await issued(Client(rig), key))
    reply = await Client(rig, key).post("/revoke-cert", {"certificate": certificate, "reason": 4})
    assert (reply.status, reply.body) == (200, b"")


@pytest_twisted.ensureDeferred
async def test_nobody_else_revokes() -> None:
    rig = Rig()
    owner, other = Client(rig), Client(rig)
    certificate = b64(await issued(owner))
    await other.register()
    for options in ({}, {"by_key": True}):
        reply = await other.post("/revoke-cert", {"certificate": certificate}, **options)
        assert (reply.status, reply.problem) == (403, "unauthorized")
    reply = await owner.post("/revoke-cert", {"certificate": certificate}, by_key=True)
    assert reply.problem == "unauthorized"  # an account's key counts by its kid only
    assert rig.authority.revoked == []


@pytest.mark.parametrize("reason", [6, 7, 8, 11, -1, "1", True])
@pytest_twisted.ensureDeferred
async def test_an_unusable_reason_is_refused(reason: Any) -> None:
    rig = Rig()
    client = Client(rig)
    certificate = b64(await issued(client))
    reply = await client.post("/revoke-cert", {"certificate": certificate, "reason": reason})
    assert (reply.status, reply.problem) == (400, "badRevocationReason")
    assert rig.authority.revoked == []


@pytest_twisted.ensureDeferred
async def test_only_certificates_of_this_ca_are_revoked() -> None:
    rig = Rig()
    client = Client(rig)
    certificate = await issued(client)
    changed = certificate[:-1] + bytes([certificate[-1] ^ 1])
    for unknown in (changed, b"\x30\x00", b"", issuers().all()[0].certificate_der):
        reply = await client.post("/revoke-cert", {"certificate": b64(unknown)})
        assert (reply.status, reply.problem) == (404, "malformed")
    for junk in ({}, {"certificate": 5}, {"certificate": "a b"}):
        reply = await client.post("/revoke-cert", junk)
        assert (reply.status, reply.problem) == (400, "malformed")


@pytest_twisted.ensureDeferred
async def test_a_closed_account_revokes_nothing_but_the_key_still_does() -> None:
    rig = Rig()
    client, key = Client(rig), ec_key()
    certificate = b64(await issued(client, key))
    await client.post(str(client.kid), {"status": "deactivated"})
    assert (await client.post("/revoke-cert", {"certificate": certificate})).status == 401
    assert (await Client(rig, key).post("/revoke-cert", {"certificate": certificate})).status == 200


async def held(rig: Rig, certificate_der: bytes) -> None:
    record = await rig.authority.recognise(certificate_der)
    assert record is not None
    operator = Requester(Proof.PASSWORD, "op", "op", NameGrant())
    hold = RevocationReason.CERTIFICATE_HOLD
    await rig.authority.revoke(RevocationRequest(record.issuer_id, record.serial, hold, operator))


@pytest_twisted.ensureDeferred
async def test_what_is_on_hold_is_revoked_for_good() -> None:
    rig = Rig()
    client = Client(rig)
    certificate = await issued(client)
    await held(rig, certificate)
    payload = {"certificate": b64(certificate), "reason": 4}
    assert (await client.post("/revoke-cert", payload)).status == 200
    assert (await client.post("/revoke-cert", payload)).problem == "alreadyRevoked"


@pytest_twisted.ensureDeferred
async def test_the_certificates_key_shows_a_compromise_later() -> None:
    """Whoever signs with the key has shown that it is not the owner's alone, whatever reason was given before."""
    rig = Rig()
    key = ec_key()
    owner = Client(rig)
    certificate = b64(await issued(owner, key))
    assert (await owner.post("/revoke-cert", {"certificate": certificate, "reason": 4})).status == 200
    compromised = {"certificate": certificate, "reason": 1}
    assert (await owner.post("/revoke-cert", compromised)).problem == "alreadyRevoked"
    assert (await Client(rig, key).post("/revoke-cert", compromised)).status == 200
    assert (await Client(rig, key).post("/revoke-cert", compromised)).problem == "alreadyRevoked"


@pytest_twisted.ensureDeferred
async def test_7_6_an_account_that_controls_all_names_revokes_what_another_got() -> None:
    rig = Rig()
    owner, other = Client(rig), Client(rig)
    _, pem = await owner.certificate("a.example", "*.b.example")
    certificate = b64(x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER))
    await other.ready("a.example", "b.example")  # a name is not the wildcard below it
    reply = await other.post("/revoke-cert", {"certificate": certificate})
    assert (reply.status, reply.problem) == (403, "unauthorized")
    (lacking,) = reply.json["subproblems"]
    assert lacking["identifier"] == {"type": "dns", "value": "*.b.example"}
    assert lacking["type"] == "urn:ietf:params:acme:error:unauthorized"
    await other.ready("*.b.example")
    reply = await other.post("/revoke-cert", {"certificate": certificate, "reason": 4})
    assert (reply.status, reply.body) == (200, b"")
    assert rig.authority.revoked[0].requester.id == str(other.kid).rpartition("/")[2]


@pytest_twisted.ensureDeferred
async def test_7_6_only_authorizations_that_are_valid_now_count() -> None:
    rig = Rig()
    owner, other = Client(rig), Client(rig)
    certificate = {"certificate": b64(await issued(owner))}
    pending = await other.register() and await other.order("a.example")
    assert (await other.post("/revoke-cert", certificate)).status == 403
    await other.post(pending.json["authorizations"][0], {"status": "deactivated"})
    assert (await other.post("/revoke-cert", certificate)).status == 403
    order = await other.ready("a.example")
    await other.post(order.json["authorizations"][0], {"status": "deactivated"})
    assert (await other.post("/revoke-cert", certificate)).status == 403
    order = await other.ready("a.example")
    rig.clock.advance(timedelta(days=8))
    assert (await other.post("/revoke-cert", certificate)).status == 403
    assert rig.authority.revoked == []


@pytest_twisted.ensureDeferred
async def test_7_6_no_account_controls_a_certificate_without_names_or_for_somebody() -> None:
    """Control of no names is nobody's, and a common name that no authorization is for is a person's or a device's."""
    rig = Rig()
    client = Client(rig)
    await client.ready("a.example")
    operator = Requester(Proof.PASSWORD, "op", "op", NameGrant(patterns=("*",)))
    for names in ((), (AltName(AltNameKind.DNS, "a.example"),)):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ann Example")])
        wish = IssuanceRequest(spki_of(ec_key()), subject, names, "default", operator, Transaction(f"t{len(names)}"))
        made = await rig.authority.issue(wish)
        reply = await client.post("/revoke-cert", {"certificate": b64(made.record.certificate_der or b"")})
        assert (reply.status, reply.problem) == (403, "unauthorized")
    assert rig.authority.revoked == []
