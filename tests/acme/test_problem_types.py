"""Every problem type of RFC 8555 §6.7 is what a client is told when its time comes, and none else."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.acme.documents import Meta
from opencertd.errors import Refusal, RefusalKind
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import BASE, Client, Rig
from tests.acme.signing import b64, csr_for, ec_key, rsa_key

SECTION_6_7 = {
    *("accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason"),
    *("badSignatureAlgorithm", "caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse"),
    *("invalidContact", "malformed", "orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal", "tls"),
    *("unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired"),
}
PREFIX = "urn:ietf:params:acme:error:"


async def of_requests() -> set[str]:
    """Those that a request is answered with at once."""
    rig = Rig()
    client = Client(rig)
    found = {(await client.post("/new-account", {"onlyReturnExisting": True})).problem}
    found.add((await client.register(contact=["tel:+1"])).problem)
    found.add((await client.register(contact=["mailto:a@b.example,c@d.example"])).problem)
    await client.register()
    found.add((await client.post("/new-order", {"identifiers": []})).problem)
    found.add((await client.post("/new-order", {}, nonce="bm9uY2U")).problem)
    found.add((await client.post("/new-order", {}, alg="none")).problem)
    found.add((await Client(rig, rsa_key(1024)).register()).problem)
    found.add((await client.post("/new-order", {"identifiers": [{"type": "pigeon", "value": "x"}]})).problem)
    found.add((await client.order(*(f"n{number}.example" for number in range(101)))).problem)
    found.add((await client.post("/order/x/finalize", {"csr": ""}, url=f"{BASE}/new-order")).problem)
    order = await client.order("a.example")
    found.add((await client.finalize(order, csr_for(ec_key(), "a.example"))).problem)
    await client.prove(order)
    found.add((await client.finalize(order, csr_for(ec_key(), "b.example"))).problem)
    _, pem = await client.certificate("c.example")
    certificate = b64(x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER))
    found.add((await client.post("/revoke-cert", {"certificate": certificate, "reason": 7})).problem)
    await client.post("/revoke-cert", {"certificate": certificate})
    found.add((await client.post("/revoke-cert", {"certificate": certificate})).problem)
    return found


async def of_settings(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Those that need a setting, or a core that has its reasons."""
    rig = Rig(meta=Meta(external_account_required=True))
    found = {(await Client(rig).register()).problem}
    before = Rig()
    client = Client(before)
    await client.register()
    client.rig = Rig(meta=Meta(terms_of_service="https://ca.example/terms"), database=before.database)
    found.add((await client.order("a.example")).problem)
    client.rig = before
    for kind in (RefusalKind.RATE_LIMITED, RefusalKind.UNAVAILABLE):

        def refuse(*_: Any, kind: RefusalKind = kind) -> None:
            raise Refusal(kind, "not now", retry_after=7)

        monkeypatch.setattr(before.authority, "check_order", refuse)
        reply = await client.order("a.example")
        assert reply.headers["retry-after"] == ["7"]
        found.add(reply.problem)
    return found


async def of_challenges() -> set[str]:
    """Those that a challenge, or the order above it, ends with."""
    found = set()
    for kind in set(FailureKind) - {FailureKind.BAD_ATTESTATION}:  # a draft's, and only devices'
        rig = Rig()
        client = Client(rig)
        await client.register()
        rig.validator.verdicts |= {name: FailedProof(kind, "so it is") for name in ("a.example", "b.example")}
        order = await client.order("a.example", "b.example")
        await client.prove(order)
        (failed,) = (
            challenge["error"]["type"]
            for challenge in (await client.post(order.json["authorizations"][0])).json["challenges"]
            if "error" in challenge
        )
        found.add(failed.removeprefix(PREFIX))
        error = (await client.post(order.location)).json["error"]
        assert [one["identifier"]["value"] for one in error["subproblems"]] == ["a.example", "b.example"]
        found.add(error["type"].removeprefix(PREFIX))
    return found


@pytest_twisted.ensureDeferred
async def test_6_7_each_type_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await of_requests() | await of_settings(monkeypatch) | await of_challenges() == SECTION_6_7
