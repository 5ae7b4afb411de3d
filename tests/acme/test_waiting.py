"""A look at an authorization waits a moment for a validation that this worker is at, and never for long."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from opencertd.acme.authorizations import PATIENCE
from tests.acme.rig import Client, Reply, Rig
from tests.acme.test_lane import request, wire


class Looking:
    """An authorization whose challenge the worker is validating, as far as the worker knows."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.client = Client(self.rig)
        self.ending: Deferred[None] = Deferred()

    async def begin(self) -> None:
        await self.client.register()
        (self.url,) = (await self.client.order("a.example")).json["authorizations"]
        challenge = (await self.client.post(self.url)).json["challenges"][0]["url"]
        await self.client.post(challenge, {})
        self.rig.endings[challenge.rpartition("/")[2]] = self.ending

    def look(self) -> Deferred[Reply]:
        return Deferred.fromCoroutine(self.client.post(self.url))


@pytest_twisted.ensureDeferred
async def test_what_ends_soon_is_told_at_once() -> None:
    looking = Looking()
    await looking.begin()
    look = looking.look()
    looking.rig.reactor.advance(PATIENCE - 0.1)
    assert not look.called
    await looking.rig.work_off()
    looking.ending.callback(None)
    looking.rig.treq.flush()
    assert (await look).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_what_takes_longer_is_told_as_it_is() -> None:
    looking = Looking()
    await looking.begin()
    look = looking.look()
    looking.rig.reactor.advance(PATIENCE)
    looking.rig.treq.flush()
    reply = await look
    assert (reply.json["status"], reply.headers["retry-after"]) == ("pending", ["1"])


@pytest_twisted.ensureDeferred
async def test_nobody_waits_to_give_up_an_authorization() -> None:
    looking = Looking()
    await looking.begin()
    assert (await looking.client.post(looking.url, {"status": "deactivated"})).json["status"] == "deactivated"
    assert not looking.ending.called


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_what_is_settled_anyway() -> None:
    looking = Looking()
    await looking.begin()
    await looking.rig.work_off()
    assert (await looking.client.post(looking.url)).json["status"] == "valid"
    assert not looking.ending.called


@pytest.mark.parametrize("express", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_hangs_up_waits_no_longer(express: bool) -> None:
    looking = Looking()
    await looking.begin()
    ended: list[type[BaseException] | None] = []
    looking.ending.addErrback(lambda failure: ended.append(failure.type))
    peer = wire(looking.rig, express=express)
    assert peer.send(request(looking.url, await looking.client.signed(looking.url))) == b""
    assert ended == []
    peer.channel.connectionLost(Failure(ConnectionDone()))
    assert ended == [CancelledError]
