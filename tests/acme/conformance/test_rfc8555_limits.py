"""RFC 8555 §6.6: rate limits."""

from __future__ import annotations

from datetime import timedelta

from opencertd.acme.limits import Limit, Limits, Rate
from tests.acme.conformance.people import certified, registered
from tests.acme.rig import Client, Reply, Rig
from tests.conformance import shows

ONE = Rate(1, timedelta(hours=1))


async def beyond(limit: Limit) -> tuple[Client, Reply]:
    """The first answer that a limit of one in an hour refuses."""
    rig = Rig(limits=Limits({limit: ONE}))
    client = await registered(rig)
    if limit is Limit.ACCOUNTS:
        other = Client(rig)
        return other, await other.register()
    await certified(client, "a.example")
    return client, await client.order("a.example")


@shows("8555 §6.6/1")
async def test_6_6_is_told_so() -> None:
    for limit in (Limit.ACCOUNTS, Limit.ORDERS, Limit.CERTIFICATES):
        _, reply = await beyond(limit)
        assert (reply.status, reply.problem) == (429, "rateLimited"), limit


@shows("8555 §6.6/2")
async def test_6_6_and_when_to_come_again() -> None:
    client, reply = await beyond(Limit.ORDERS)
    wait = int(reply.headers["retry-after"][0])
    assert 0 < wait <= 3600
    client.rig.clock.advance(timedelta(seconds=wait))
    assert (await client.order("a.example")).status == 201
