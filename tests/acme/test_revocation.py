"""Revocation: by the account that got it, by the certificate's key, once, for a usable reason."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.model.certificates import RevocationReason
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import NameGrant, Proof, Requester
from tests.acme.rig import Client, Rig, issuers
from tests.acme.signing import b64, ec_key, rsa_key


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
