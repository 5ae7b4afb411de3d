"""Orders and authorizations: what is offered, what is validated, and what follows from it."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.acme.nonces import Nonces
from opencertd.acme.orders import OrderTerms
from opencertd.acme.server import AcmeServer
from opencertd.acme.store import VALIDATE
from opencertd.acme.urls import Urls, is_id
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import BASE, LEASE, START, Client, Reply, Rig
from tests.acme.signing import ec_key, thumbprint_of


async def registered(rig: Rig) -> Client:
    client = Client(rig)
    await client.register()
    return client


async def authorizations(client: Client, order: Reply) -> list[Any]:
    return [(await client.post(url)).json for url in order.json["authorizations"]]


@pytest_twisted.ensureDeferred
async def test_a_new_order_shows_its_names_as_normalised() -> None:
    client = await registered(Rig())
    order = await client.order("WWW.Example.ORG.", "*.example.org", "www.example.org")
    assert (order.status, order.json["status"]) == (201, "pending")
    names = ["www.example.org", "*.example.org"]
    assert order.json["identifiers"] == [{"type": "dns", "value": name} for name in names]
    assert order.location.startswith(f"{BASE}/order/")
    assert order.json["finalize"] == f"{order.location}/finalize"
    assert order.json["expires"] == "2031-05-13T07:08:09Z"
    read = await client.post(order.location)
    assert (read.status, read.location, read.json) == (200, order.location, order.json)


@pytest_twisted.ensureDeferred
async def test_each_name_gets_its_own_authorization_and_a_wildcard_only_dns() -> None:
    client = await registered(Rig())
    plain, wild = await authorizations(client, await client.order("example.org", "*.example.org"))
    assert plain["identifier"] == wild["identifier"] == {"type": "dns", "value": "example.org"}
    assert wild["wildcard"] is True
    assert "wildcard" not in plain
    assert [each["type"] for each in plain["challenges"]] == ["http-01", "dns-01"]
    assert [each["type"] for each in wild["challenges"]] == ["dns-01"]
    tokens = {each["token"] for each in plain["challenges"] + wild["challenges"]}
    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)
    again = await authorizations(client, await client.order("example.org"))
    assert again[0]["challenges"][0]["url"] != plain["challenges"][0]["url"]


@pytest_twisted.ensureDeferred
async def test_the_terms_of_orders_are_settings() -> None:
    terms = OrderTerms("default", timedelta(hours=2), timedelta(hours=1), ("http-01",))
    rig = Rig(terms=terms)
    client = await registered(rig)
    order = await client.order("a.example")
    (authorization,) = await authorizations(client, order)
    assert order.json["expires"] == "2031-05-06T09:08:09Z"
    assert authorization["expires"] == "2031-05-06T08:08:09Z"
    assert [each["type"] for each in authorization["challenges"]] == ["http-01"]


@pytest.mark.parametrize(
    ("identifier", "problem", "words"),
    [
        ({"type": "email", "value": "a@b.example"}, "unsupportedIdentifier", "'email'"),
        ({"type": "ip", "value": "a.example"}, "malformed", "not an IP address"),
        ({"type": "ip", "value": "192.0.2.01"}, "malformed", "not an IP address"),
        ({"type": "ip", "value": "2001:DB8::1"}, "malformed", "write 2001:db8::1"),
        ({"type": "ip", "value": "2001:db8:0::1"}, "malformed", "write 2001:db8::1"),
        ({"type": "ip", "value": "fe80::1%eth0"}, "malformed", "zone"),
        ({"type": "ip", "value": "192.0.2.0/24"}, "malformed", "not an IP address"),
        ({"type": "dns", "value": "192.0.2.1"}, "malformed", "it is an IP address"),
        ({"type": "dns", "value": "a..example"}, "malformed", "empty"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_refused_identifier_is_named(identifier: dict[str, str], problem: str, words: str) -> None:
    client = await registered(Rig())
    good = {"type": "dns", "value": "good.example"}
    reply = await client.post("/new-order", {"identifiers": [good, identifier]})
    assert (reply.status, reply.problem) == (400, problem)
    assert words in reply.json["detail"]
    assert [each["identifier"] for each in reply.json["subproblems"]] == [identifier]


@pytest_twisted.ensureDeferred
async def test_an_answered_challenge_is_validated_by_a_job() -> None:
    rig = Rig()
    client = await registered(rig)
    order = await client.order("a.example")
    (authorization,) = await authorizations(client, order)
    http, dns = authorization["challenges"]
    answer = await client.post(http["url"], {})
    assert (answer.status, answer.json["status"], answer.json["url"]) == (200, "processing", http["url"])
    assert f'<{order.json["authorizations"][0]}>;rel="up"' in answer.headers["link"]
    assert answer.headers["retry-after"] == ["1"]
    assert (rig.kicks, rig.validator.asked) == (1, [])
    assert (await client.post(order.json["authorizations"][0])).headers["retry-after"] == ["1"]

    assert await rig.work_off() == 1
    (question,) = rig.validator.asked
    assert (question.type, question.name.value, question.token) == ("http-01", "a.example", http["token"])
    assert question.key_authorization == f"{http['token']}.{thumbprint_of(client.key)}"
    (after,) = await authorizations(client, order)
    assert after["status"] == "valid"
    assert after["challenges"] == [{**http, "status": "valid", "validated": "2031-05-06T07:08:09Z"}]
    assert (await client.post(order.location)).json["status"] == "ready"
    for url in (http["url"], dns["url"]):
        settled = await client.post(url, {})
        assert (settled.status, "retry-after" in settled.headers) == (200, False)
    assert (rig.kicks, await rig.work_off()) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_free_hands_take_the_validation_on() -> None:
    rig = Rig()
    rig.hands_free = True
    client = await registered(rig)
    order = await client.order("a.example")
    (authorization,) = await authorizations(client, order)
    url = authorization["challenges"][0]["url"]
    for _ in range(2):
        assert (await client.post(url, {})).json["status"] == "processing"
    (job,) = rig.taken_on
    assert (rig.kicks, await rig.work_off()) == (0, 0)  # nobody else may have it
    await rig.work.validate(job)
    assert (await client.post(order.location)).json["status"] == "ready"
    rig.clock.advance(LEASE)
    assert await rig.work_off() == 0


@pytest.mark.parametrize("payload", [{"keyAuthorization": "abc", "resource": "challenge"}, {"type": "dns-01"}])
@pytest_twisted.ensureDeferred
async def test_a_legacy_body_is_an_answer_too(payload: dict[str, str]) -> None:
    client = await registered(Rig())
    (authorization,) = await authorizations(client, await client.order("a.example"))
    reply = await client.post(authorization["challenges"][0]["url"], payload)
    assert reply.json["status"] == "processing"


@pytest_twisted.ensureDeferred
async def test_reading_a_challenge_starts_nothing() -> None:
    rig = Rig()
    client = await registered(rig)
    (authorization,) = await authorizations(client, await client.order("a.example"))
    reply = await client.post(authorization["challenges"][0]["url"])
    assert (reply.status, reply.json["status"]) == (200, "pending")
    assert await rig.work_off() == 0


@pytest_twisted.ensureDeferred
async def test_a_challenge_answered_twice_is_validated_once() -> None:
    rig = Rig()
    client = await registered(rig)
    (authorization,) = await authorizations(client, await client.order("a.example"))
    for _ in range(3):
        await client.post(authorization["challenges"][0]["url"], {})
    await rig.work_off()
    assert len(rig.validator.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_validation_whose_worker_died_is_done_by_another_and_settled_once() -> None:
    rig = Rig()
    client = await registered(rig)
    order = await client.order("a.example")
    (authorization,) = await authorizations(client, order)
    await client.post(authorization["challenges"][0]["url"], {})
    (lost,) = await rig.jobs.claim((VALIDATE,), "dead", rig.clock.now(), LEASE, 10)
    assert await rig.work_off() == 0
    rig.clock.advance(LEASE)
    assert await rig.work_off() == 1
    rig.validator.verdicts["a.example"] = FailedProof(FailureKind.DNS, "too late to matter")
    assert await rig.work.validate(lost) is None
    assert (await client.post(order.location)).json["status"] == "ready"


@pytest.mark.parametrize("kind", FailureKind)
@pytest_twisted.ensureDeferred
async def test_a_failed_proof_invalidates_the_order_and_says_why(kind: FailureKind) -> None:
    rig = Rig()
    client = await registered(rig)
    rig.validator.verdicts["bad.example"] = FailedProof(kind, "as it was found")
    order = await client.order("good.example", "bad.example")
    await client.prove(order, "http-01")
    good, bad = await authorizations(client, order)
    assert (good["status"], bad["status"]) == ("valid", "invalid")
    error = {"type": f"urn:ietf:params:acme:error:{kind.value}", "detail": "as it was found"}
    assert [each["error"] for each in bad["challenges"]] == [error]
    invalid = (await client.post(order.location)).json
    assert invalid["status"] == "invalid"
    assert invalid["error"] == {**error, "detail": "bad.example: as it was found"}


@pytest_twisted.ensureDeferred
async def test_several_failed_proofs_are_told_one_by_one() -> None:
    rig = Rig()
    client = await registered(rig)
    for name in ("a.example", "b.example"):
        rig.validator.verdicts[name] = FailedProof(FailureKind.CONNECTION, "refused")
    order = await client.order("a.example", "b.example")
    await client.prove(order)
    error = (await client.post(order.location)).json["error"]
    assert error["type"] == "urn:ietf:params:acme:error:compound"
    assert [each["identifier"]["value"] for each in error["subproblems"]] == ["a.example", "b.example"]


@pytest_twisted.ensureDeferred
async def test_nothing_is_asked_for_a_closed_account_or_an_expired_authorization() -> None:
    rig = Rig(terms=OrderTerms("default", authorization_lifetime=timedelta(hours=1)))
    closed, late = await registered(rig), await registered(rig)
    for client in (closed, late):
        (authorization,) = await authorizations(client, await client.order("a.example"))
        await client.post(authorization["challenges"][0]["url"], {})
    await closed.post(str(closed.kid), {"status": "deactivated"})
    rig.clock.advance(timedelta(hours=1))
    assert await rig.work_off() == 2
    assert rig.validator.asked == []
    after = (await late.post(authorization["challenges"][0]["url"], {})).json
    assert (after["status"], after["error"]["type"]) == ("invalid", "urn:ietf:params:acme:error:malformed")


@pytest_twisted.ensureDeferred
async def test_an_authorization_can_be_given_up() -> None:
    client = await registered(Rig())
    order = await client.ready("a.example")
    url = order.json["authorizations"][0]
    assert (await client.post(url, {"status": "valid"})).problem == "malformed"
    given_up = await client.post(url, {"status": "deactivated"})
    assert (given_up.status, given_up.json["status"]) == (200, "deactivated")
    over = (await client.post(order.location)).json
    assert (over["status"], over["error"]["type"]) == ("invalid", "urn:ietf:params:acme:error:unauthorized")
    assert over["error"]["detail"] == "a.example: its authorization is deactivated"


@pytest_twisted.ensureDeferred
async def test_orders_and_what_is_below_them_are_their_accounts_only() -> None:
    rig = Rig()
    owner, other = await registered(rig), await registered(rig)
    order = await owner.order("a.example")
    (authorization,) = await authorizations(owner, order)
    urls = [order.location, f"{order.location}/certificate", order.json["authorizations"][0]]
    for url in [*urls, authorization["challenges"][0]["url"]]:
        reply = await other.post(url)
        assert (reply.status, reply.problem) == (403, "unauthorized"), url
    taken = [
        (authorization["challenges"][0]["url"], {}),
        (order.json["authorizations"][0], {"status": "deactivated"}),
        (order.json["finalize"], {"csr": ""}),
    ]
    for url, payload in taken:
        reply = await other.post(url, payload)
        assert (reply.status, reply.problem) == (403, "unauthorized"), url
    assert (await owner.post(order.location)).json["status"] == "pending"
    assert rig.kicks == 0


@pytest_twisted.ensureDeferred
async def test_an_order_not_finished_in_time_is_invalid() -> None:
    rig = Rig()
    client = await registered(rig)
    order = await client.ready("a.example")
    unproven = await client.order("b.example")
    rig.clock.advance(timedelta(days=7))
    for over, why in ((order, "the order, or an auth"), (unproven, "b.example: control of it was not proven")):
        shown = (await client.post(over.location)).json
        assert shown["status"] == "invalid"
        assert shown["error"]["detail"].startswith(why)
    assert (await client.post(order.json["authorizations"][0])).json["status"] == "expired"


@pytest_twisted.ensureDeferred
async def test_reading_takes_an_empty_payload() -> None:
    client = await registered(Rig())
    order = await client.order("a.example")
    for url in (order.location, f"{order.location}/certificate"):
        assert (await client.post(url, {})).problem == "malformed"


@pytest_twisted.ensureDeferred
async def test_a_key_change_during_validation_counts_the_new_key() -> None:
    from tests.acme.test_accounts import inner

    rig = Rig()
    client = await registered(rig)
    (authorization,) = await authorizations(client, await client.order("a.example"))
    await client.post(authorization["challenges"][0]["url"], {})
    key = ec_key()
    await client.post("/key-change", inner(key, client.kid, client.key))
    await rig.work_off()
    assert rig.validator.asked[0].key_authorization.endswith(thumbprint_of(key))


def test_ids_tell_when_and_nothing_else() -> None:
    """What is made together lies together in the store; of 10,000 no two are alike but for their time."""
    rig = Rig()
    server = AcmeServer(
        store=rig.store,
        nonces=Nonces(key=bytes(32), clock=rig.clock, random=secrets.token_bytes),
        urls=Urls(BASE),
        clock=rig.clock,
        random=secrets.token_bytes,
    )
    ids = [server.new_id() for _ in range(10_000)]
    assert all(is_id(each) for each in ids)
    assert {int(each[:8], 16) for each in ids} == {int(START.timestamp())}
    assert {len(base64.urlsafe_b64decode(each[8:] + "==")) for each in ids} == {16}
    assert len({each[8:] for each in ids}) == len(ids)
    rig.clock.advance(timedelta(seconds=1))
    assert server.new_id() > max(ids)
