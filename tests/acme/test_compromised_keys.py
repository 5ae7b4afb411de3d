"""A key that was revoked for keyCompromise ends a finalize, and the order waits for another key."""

from __future__ import annotations

import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.model.certificates import RevocationReason
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester
from tests.acme.rig import Client, Rig
from tests.acme.signing import csr_for, ec_key

NAME = "a.example"


@pytest_twisted.ensureDeferred
async def test_finalize_refuses_it_and_leaves_the_order_ready() -> None:
    rig = Rig()
    client = Client(rig)
    key = ec_key()
    _, pem = await client.certificate(NAME, key=key)
    leaf = x509.load_pem_x509_certificates(pem)[0]
    record = await rig.authority.recognise(leaf.public_bytes(Encoding.DER))
    assert record
    operator = Requester(Proof.PASSWORD, "operator", "operator", ANY_NAME)
    wish = RevocationRequest(record.issuer_id, record.serial, RevocationReason.KEY_COMPROMISE, operator)
    await rig.authority.revoke(wish)
    order = await client.ready(NAME)
    reply = await client.finalize(order, csr_for(key, NAME))
    assert (reply.status, reply.problem) == (400, "badCSR")
    assert "compromised" in reply.json["detail"]
    assert (await client.post(order.location)).json["status"] == "ready"
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).json["status"] == "valid"
