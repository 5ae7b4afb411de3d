"""An order under a profile that wants approval stays `processing` until somebody has decided."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import timedelta

import pytest_twisted
from cryptography import x509

from opencertd.issuance.approvals import Approvals, ApprovalTerms
from opencertd.model.approval import ApprovalRequest, Decision
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.approvals import SqlApprovalStore
from tests.acme.rig import LEASE, Client, Reply, Rig
from tests.acme.signing import csr_for, ec_key

ensure = pytest_twisted.ensureDeferred
OPERATOR = Requester(Proof.OPERATOR, "root", "root", ANY_NAME)
PAUSE = timedelta(seconds=300)
WEEK = timedelta(days=7)


class Watched(Rig):
    """A CA that issues nothing which nobody has approved."""

    def __init__(self) -> None:
        super().__init__()
        self.approvals = SqlApprovalStore(self.database, self.clock)
        profiles = {
            name: dataclasses.replace(each, approval=each.public) for name, each in self.authority.profiles.items()
        }
        self.authority.adopt(self.authority.issuers, profiles, self.authority.policies)
        reactor = self.authority._reactor
        terms = ApprovalTerms(expires=2 * WEEK, retry_after=int(PAUSE.total_seconds()))
        self.authority.approvals = Approvals(
            self.approvals, clock=self.clock, reactor=reactor, random=secrets.token_bytes, terms=terms
        )

    async def decide(self, approved: bool, reason: str = "") -> ApprovalRequest:
        ((_, one),) = await self.approvals.waiting(0, 10)
        decision = Decision(approved, reason)
        return await self.approvals.decide(one.id, decision, OPERATOR, self.clock.now() + WEEK)


async def finalized(rig: Watched, client: Client) -> Reply:
    """An order that was finalized, and is processing."""
    order = await client.ready("a.example")
    reply = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert (reply.status, reply.json["status"]) == (200, "processing"), reply.body
    return reply


@ensure
async def test_it_is_processing_with_a_time_to_come_back_until_it_is_approved() -> None:
    rig = Watched()
    client = Client(rig)
    order = await finalized(rig, client)
    assert order.headers["retry-after"] == ["60"], "clients take a longer one for an error"
    rig.clock.advance(LEASE)
    for _ in range(3):
        assert await rig.work_off() == 1
        assert (await client.post(order.location)).json["status"] == "processing"
        assert await rig.work_off() == 0, "it is not asked again before its time"
        rig.clock.advance(PAUSE)
    waiting = await rig.decide(approved=True)
    assert (waiting.protocol, [str(name.value) for name in waiting.names]) == ("acme", ["a.example"])
    await rig.work_off()
    done = await client.post(order.location)
    assert done.json["status"] == "valid"
    assert "retry-after" not in done.headers
    pem = (await client.post(done.json["certificate"])).body
    leaf, *_ = x509.load_pem_x509_certificates(pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]


@ensure
async def test_a_rejected_order_is_invalid_and_says_why() -> None:
    rig = Watched()
    client = Client(rig)
    order = await finalized(rig, client)
    await rig.decide(approved=False, reason="not in the inventory")
    rig.clock.advance(LEASE)
    await rig.work_off()
    done = (await client.post(order.location)).json
    assert done["status"] == "invalid"
    assert done["error"]["type"].endswith(":unauthorized")
    assert done["error"]["detail"].endswith("was rejected: not in the inventory")


@ensure
async def test_an_order_that_nobody_decides_ends_when_it_expires() -> None:
    rig = Watched()
    client = Client(rig)
    order = await finalized(rig, client)
    rig.clock.advance(WEEK)
    await rig.work_off()
    assert (await client.post(order.location)).json["status"] == "invalid"
    assert await rig.work_off() == 0


@ensure
async def test_another_order_for_the_same_is_another_request() -> None:
    rig = Watched()
    client = Client(rig)
    key = ec_key()
    for _ in range(2):
        order = await client.ready("a.example")
        await client.finalize(order, csr_for(key, "a.example"))
    assert len(await rig.approvals.waiting(0, 10)) == 2
