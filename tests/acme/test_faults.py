"""A server that makes mistakes on purpose makes those it says, tells of it in every answer, and gives nothing away."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Reactor

from opencertd.acme.faults import HEADER, Faults, FaultTerms
from opencertd.acme.faulty import FaultyWork, SlowValidator
from opencertd.acme.orders import OrderTerms
from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind
from tests.acme.rig import BASE, Client, PlayedValidator, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key

ensure = pytest_twisted.ensureDeferred
NONE = FaultTerms(nonces=0, seconds=0, reuse=0, orders=0)
QUESTION = ControlQuestion(
    type="dns-01",
    name=AltName(AltNameKind.DNS, "a.example"),
    token="t",
    key_authorization="t.k",
    account_url="https://ca.example/account/a",
    wildcard=False,
)


def drawn(*values: float) -> Callable[[int], bytes]:
    """Randomness that is these parts of 1, in turn."""
    left = list(values)
    return lambda count: int(left.pop(0) * 256**count).to_bytes(count, "big")


def faults(terms: FaultTerms, *values: float) -> Faults:
    return Faults(terms, drawn(*values) if values else random.Random(1).randbytes)


def rig_with(made: Faults, **options: Any) -> Rig:
    return Rig(faults=made, work=partial(FaultyWork, made), **options)


def test_what_is_drawn_decides_and_nothing_else() -> None:
    half = FaultTerms(nonces=50, seconds=8, reuse=50, orders=25)
    assert [faults(half, part).seconds() for part in (0, 0.5, 0.75)] == [0, 4, 6]
    assert [faults(half, part).reuses() for part in (0, 0.49, 0.5, 0.99)] == [True, True, False, False]
    assert [faults(half, part).spoils_order() for part in (0, 0.24, 0.25, 0.99)] == [True, True, False, False]
    every = faults(FaultTerms(orders=0, every_order=3))
    assert [every.spoils_order() for _ in range(7)] == [False, False, True, False, False, True, False]
    never, always = FaultTerms(0, 0, 0, 0), FaultTerms(100, 0, 100, 100)
    for part in (0, 0.999999):
        assert (faults(never, part).reuses(), faults(never, part).spoils_order()) == (False, False)
        assert (faults(always, part).reuses(), faults(always, part).spoils_order()) == (True, True)


@pytest.mark.parametrize("percent", [0, 5, 50, 100])
def test_so_many_nonces_of_a_hundred_are_refused_the_same_by_every_worker(percent: int) -> None:
    one, other = faults(FaultTerms(nonces=percent)), Faults(FaultTerms(nonces=percent), drawn(0.5))
    nonces = [f"nonce-{number}" for number in range(4000)]
    refused = [nonce for nonce in nonces if one.refuses_nonce(nonce)]
    assert abs(len(refused) - 40 * percent) <= 120
    assert refused == [nonce for nonce in nonces if other.refuses_nonce(nonce)]


@ensure
async def test_a_good_nonce_is_refused_with_another_and_for_good() -> None:
    rig = rig_with(faults(FaultTerms(nonces=50, seconds=0, reuse=0)))
    client = Client(rig)
    outcomes: list[tuple[int, str]] = []
    for _ in range(40):
        body = await client.signed(f"{BASE}/new-account", {"termsOfServiceAgreed": True}, by_key=True)
        reply = await client.send(f"{BASE}/new-account", body)
        outcomes.append((reply.status, reply.problem))
        if reply.problem == "badNonce":
            assert "on purpose" in reply.json["detail"]
        again = await client.send(f"{BASE}/new-account", body)
        assert again.problem == "badNonce", "used up or refused, it is of no more use"
    assert {problem for _, problem in outcomes} == {"", "badNonce"}


@ensure
async def test_orders_become_invalid_when_they_are_finalized_and_no_certificate_is_made() -> None:
    rig = rig_with(faults(FaultTerms(nonces=0, seconds=0, reuse=0, every_order=2)))
    client = Client(rig)
    await client.register()
    seen = []
    for number in range(4):
        order = await client.ready(f"n{number}.example")
        final = await client.finalize(order, csr_for(ec_key(), f"n{number}.example"))
        seen.append(final.json["status"])
        if seen[-1] == "invalid":
            assert final.json["error"]["type"].endswith(":serverInternal")
            assert "on purpose" in final.json["error"]["detail"]
            assert (await client.post(order.location)).json == final.json
    assert seen == ["valid", "invalid", "valid", "invalid"]
    assert len(rig.authority.asked) == 2


@ensure
async def test_some_orders_take_proofs_of_before_and_others_do_not() -> None:
    made = faults(FaultTerms(nonces=0, seconds=0, reuse=50, orders=0))
    rig = rig_with(made, terms=OrderTerms("default"))
    client = Client(rig)
    await client.ready("a.example")
    statuses = {(await client.order("a.example")).json["status"] for _ in range(20)}
    assert statuses == {"ready", "pending"}
    fresh = await client.order("b.example")
    assert fresh.json["status"] == "pending", "never without a proof"


@ensure
async def test_without_reuse_nothing_is_taken_though_the_settings_would() -> None:
    rig = rig_with(faults(NONE), terms=OrderTerms("default", reuse=OrderTerms("default").lifetime))
    client = Client(rig)
    await client.ready("a.example")
    assert {(await client.order("a.example")).json["status"] for _ in range(5)} == {"pending"}


def test_a_validation_takes_its_time_and_comes_to_the_same_verdict() -> None:
    reactor, played = Reactor(), PlayedValidator()
    validator: Any = SlowValidator(played, faults(FaultTerms(seconds=10), 0.5, 0.25), reactor)  # type: ignore[arg-type]
    played.verdicts["a.example"] = FailedProof(FailureKind.UNAUTHORIZED, "no")
    results: list[object] = []
    Deferred.fromCoroutine(validator.validate(QUESTION)).addCallback(results.append)
    reactor.advance(4.9)
    assert (results, played.asked) == ([], [])
    reactor.advance(0.2)
    assert results == [played.verdicts["a.example"]]
    Deferred.fromCoroutine(validator.check_caa(QUESTION)).addCallback(results.append)
    assert results[1:] == [None]


def check_marked(reply: Reply, terms: FaultTerms) -> None:
    assert reply.headers[HEADER.lower()] == [str(terms)]


@ensure
async def test_every_answer_and_the_directory_say_so() -> None:
    rig = rig_with(faults(NONE))
    assert rig.edge.lane is None, "what goes by the lane is not marked"
    terms = "nonces=0%, validation=0s, reuse=0%, invalid-orders=0%, invalid-order-every=off"
    assert str(NONE) == terms
    directory = await ask(rig, "GET", f"{BASE}/directory")
    assert directory.json["meta"]["testFaults"] == terms
    check_marked(directory, NONE)
    for method, path in (
        ("HEAD", "/new-nonce"),
        ("GET", "/new-nonce"),
        ("GET", "/account/x"),
        ("GET", "/directory/x/y/z"),
        ("DELETE", "/directory"),
        ("OPTIONS", "/new-order"),
        ("GET", "/renewal-info/x.y"),
        ("POST", "/new-order"),
    ):
        check_marked(await ask(rig, method, BASE + path), NONE)
    client = Client(rig)
    check_marked(await client.register(), NONE)
    order = await client.order("a.example")
    check_marked(order, NONE)
    check_marked(await client.post(order.location), NONE)
    check_marked(await client.post("/order/nothing"), NONE)


@ensure
async def test_a_server_without_faults_says_nothing_of_them() -> None:
    rig = Rig()
    directory = await ask(rig, "GET", f"{BASE}/directory")
    assert HEADER.lower() not in directory.headers
    assert "testFaults" not in directory.json["meta"]
