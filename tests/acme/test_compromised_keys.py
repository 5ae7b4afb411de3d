"""A key that was revoked for keyCompromise: no certificate for it, no account either."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.model.certificates import RevocationReason
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester
from tests.acme.rig import BASE, Client, Rig
from tests.acme.signing import csr_for, ec_key, jwk_of, sign

NAME = "a.example"


@pytest_twisted.ensureDeferred
async def test_finalize_refuses_it_and_leaves_the_order_ready() -> None:
    rig = Rig()
    client = Client(rig)
    key = ec_key()
    await compromise(rig, client, key)
    order = await client.ready(NAME)
    reply = await client.finalize(order, csr_for(key, NAME))
    assert (reply.status, reply.problem) == (400, "badCSR")
    assert "compromised" in reply.json["detail"]
    assert (await client.post(order.location)).json["status"] == "ready"
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_no_account_gets_it() -> None:
    """RFC 8555 §6.7: badPublicKey, for a new account (§7.3) and for a new key (§7.3.5)."""
    rig = Rig()
    client = Client(rig)
    key = ec_key()
    await compromise(rig, client, key)
    reply = await Client(rig, key).register()
    assert (reply.status, reply.problem) == (400, "badPublicKey")
    content = {"account": client.kid, "oldKey": jwk_of(client.key)}
    inner = sign(key, {"jwk": jwk_of(key), "url": f"{BASE}/key-change"}, json.dumps(content).encode())
    reply = await client.post("/key-change", inner)
    assert (reply.status, reply.problem) == (400, "badPublicKey")
    assert (await client.post(str(client.kid))).status == 200


async def compromise(rig: Rig, client: Client, key: Any) -> None:
    """Have a certificate of the key, and have it revoked for keyCompromise."""
    _, pem = await client.certificate(NAME, key=key)
    leaf = x509.load_pem_x509_certificates(pem)[0]
    record = await rig.authority.recognise(leaf.public_bytes(Encoding.DER))
    assert record
    operator = Requester(Proof.PASSWORD, "operator", "operator", ANY_NAME)
    wish = RevocationRequest(record.issuer_id, record.serial, RevocationReason.KEY_COMPROMISE, operator)
    await rig.authority.revoke(wish)
