"""Proofs that serve further orders: RFC 8555 §7.4.1 and §7.5.2, RFC 9444. Named by their sections."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.acme.documents import Meta
from opencertd.acme.orders import OrderTerms
from opencertd.acme.reuse import Reuse, with_proofs
from opencertd.acme.states import AuthorizationStatus
from opencertd.model.names import AltName
from opencertd.validation.verdict import FailedProof, FailureKind, ProvenUntil
from tests.acme.rig import BASE, START, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key
from tests.acme.test_external_account import add, bind, opened

NAME = "a.example"
REUSE = timedelta(hours=8)
DAY = timedelta(days=1)
TERMS = OrderTerms("default", reuse=REUSE)
BELOW = OrderTerms("default", reuse=REUSE, subdomains=True)


async def registered(rig: Rig) -> Client:
    client = Client(rig)
    await client.register()
    return client


async def parts(client: Client, order: Reply) -> list[Any]:
    return [(await client.post(url)).json for url in order.json["authorizations"]]


async def statuses(client: Client, order: Reply) -> tuple[str, list[str]]:
    return (await client.post(order.location)).json["status"], [one["status"] for one in await parts(client, order)]


async def ahead(client: Client, value: str = NAME, **members: Any) -> Reply:
    return await client.post("/new-authz", {"identifier": {"type": "dns", "value": value, **members}})


async def prove(client: Client, authorization: Reply) -> None:
    (challenge,) = [each for each in authorization.json["challenges"] if each["type"] == "dns-01"]
    await client.post(challenge["url"], {})
    await client.rig.work_off()


@pytest_twisted.ensureDeferred
async def test_without_the_setting_each_order_is_proven_anew_and_nothing_ahead() -> None:
    rig = Rig()
    client = await registered(rig)
    await client.ready(NAME)
    assert (await client.order(NAME)).json["status"] == "pending"
    assert "newAuthz" not in (await ask(rig, "GET", f"{BASE}/directory")).json
    assert (await ahead(client)).status == 404


@pytest_twisted.ensureDeferred
async def test_7_4_a_proof_serves_further_orders_of_its_account() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    await client.ready(NAME)
    rig.clock.advance(REUSE / 2)
    order = await client.order(NAME, "b.example")
    assert order.json["status"] == "pending"
    served, fresh = await parts(client, order)
    assert (served["status"], fresh["status"]) == ("valid", "pending")
    assert [(each["type"], each["status"]) for each in served["challenges"]] == [("dns-01", "valid")]
    assert served["expires"] == "2031-05-06T15:08:09Z"  # eight hours after the proof
    await client.prove(order)
    assert len(rig.validator.asked) == 2
    final = await client.finalize(order, csr_for(ec_key(), NAME, "b.example"))
    assert final.json["status"] == "valid"
    ready = await client.order(NAME)
    assert ready.json["status"] == "ready"
    assert (await client.finalize(ready, csr_for(ec_key(), NAME))).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_7_4_a_proof_serves_only_for_its_time_even_when_it_is_handed_on() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    await client.ready(NAME)
    rig.clock.advance(REUSE - timedelta(minutes=1))
    order = await client.order(NAME)
    assert order.json["status"] == "ready"
    rig.clock.advance(timedelta(minutes=1))
    assert (await client.order(NAME)).json["status"] == "pending"
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).problem == "orderNotReady"


@pytest_twisted.ensureDeferred
async def test_7_4_a_proof_that_ends_sooner_serves_no_longer() -> None:
    rig = Rig(terms=TERMS)
    rig.validator.verdicts[NAME] = ProvenUntil(START + timedelta(hours=1))
    client = await registered(rig)
    await client.ready(NAME)
    (served,) = await parts(client, await client.order(NAME))
    assert (served["status"], served["expires"]) == ("valid", "2031-05-06T08:08:09Z")
    rig.clock.advance(timedelta(hours=1))
    assert (await client.order(NAME)).json["status"] == "pending"


@pytest_twisted.ensureDeferred
async def test_7_4_a_proof_serves_nobody_else_and_no_other_name() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    await client.ready("example.org")
    for name in ("*.example.org", "www.example.org", "example.com"):
        assert (await client.order(name)).json["status"] == "pending"
    assert (await (await registered(rig)).order("example.org")).json["status"] == "pending"


@pytest_twisted.ensureDeferred
async def test_7_1_4_a_wildcard_is_served_by_a_wildcard_and_nothing_else_by_it() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    await client.ready("*.example.org")
    order = await client.order("*.example.org")
    (served,) = await parts(client, order)
    assert (order.json["status"], served["wildcard"]) == ("ready", True)
    assert (await client.order("example.org")).json["status"] == "pending"


@pytest_twisted.ensureDeferred
async def test_7_5_2_a_proof_that_is_given_up_serves_no_order_any_more() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    first = await client.ready(NAME)
    second = await client.order(NAME)
    third = await client.order(NAME)
    (url,) = second.json["authorizations"]
    assert (await client.post(url, {"status": "deactivated"})).json["status"] == "deactivated"
    for order in (first, second, third):
        assert await statuses(client, order) == ("invalid", ["deactivated"])
    assert (await client.order(NAME)).json["status"] == "pending"


@pytest_twisted.ensureDeferred
async def test_8_caa_is_looked_at_again_for_a_proof_of_before() -> None:
    rig = Rig(terms=replace(TERMS, reuse=2 * DAY))
    client = await registered(rig)
    await client.ready(NAME)
    rig.clock.advance(DAY)
    order = await client.order(NAME)
    rig.validator.caa[NAME] = FailedProof(FailureKind.CAA, "not this CA")
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (final.json["status"], final.json["error"]["type"].rpartition(":")[2]) == ("invalid", "caa")


@pytest_twisted.ensureDeferred
async def test_7_4_1_a_name_is_authorized_ahead_of_its_order() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    assert (await ask(rig, "GET", f"{BASE}/directory")).json["newAuthz"] == f"{BASE}/new-authz"
    made = await ahead(client, "A.Example.")
    assert (made.status, made.json["status"]) == (201, "pending")
    assert made.json["identifier"] == {"type": "dns", "value": NAME}
    assert (await client.post(made.location)).json == made.json
    await prove(client, made)
    assert (await client.post(made.location)).json["status"] == "valid"
    order = await client.order(NAME)
    assert order.json["status"] == "ready"
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).json["status"] == "valid"
    other = await registered(rig)
    assert (await other.post(made.location)).problem == "unauthorized"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({}, "malformed"),
        ({"identifier": None}, "malformed"),
        ({"identifier": "a.example"}, "malformed"),
        ({"identifier": {"type": "dns"}}, "malformed"),
        ({"identifier": {"type": "dns", "value": "*.a.example"}}, "malformed"),
        ({"identifier": {"type": "dns", "value": "*.*.example"}}, "malformed"),
        ({"identifier": {"type": "email", "value": "a@a.example"}}, "unsupportedIdentifier"),
        (b"[]", "malformed"),
        (None, "malformed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_7_4_1_what_cannot_be_authorized_ahead_is_refused(payload: Any, problem: str) -> None:
    client = await registered(Rig(terms=TERMS))
    reply = await client.post("/new-authz", payload)
    assert (reply.status, reply.problem) == (400, problem)


@pytest_twisted.ensureDeferred
async def test_7_4_1_changed_terms_are_agreed_to_before_a_name_is_authorized_ahead() -> None:
    before = Rig(terms=TERMS)
    client = await registered(before)
    client.rig = Rig(terms=TERMS, meta=Meta(terms_of_service="https://ca.example/terms/2"), database=before.database)
    reply = await ahead(client)
    assert (reply.status, reply.problem) == (403, "userActionRequired")


@pytest_twisted.ensureDeferred
async def test_7_4_1_a_bound_account_authorizes_only_names_of_its_key_ahead() -> None:
    rig = Rig(terms=TERMS, meta=Meta(external_account_required=True), open_key=opened)
    await add(rig, names=["*.printers.example"])
    client = Client(rig)
    await client.register(externalAccountBinding=bind(client))
    assert (await ahead(client, "other.example")).problem == "rejectedIdentifier"
    assert (await ahead(client, "a.printers.example")).status == 201


@pytest_twisted.ensureDeferred
async def test_9444_4_4_the_directory_says_so_when_domains_stand_for_what_is_below() -> None:
    for terms, told in ((TERMS, None), (BELOW, True)):
        meta = (await ask(Rig(terms=terms), "GET", f"{BASE}/directory")).json["meta"]
        assert meta.get("subdomainAuthAllowed") is told


@pytest_twisted.ensureDeferred
async def test_9444_4_2_a_domain_authorized_ahead_serves_names_below_it() -> None:
    rig = Rig(terms=BELOW)
    client = await registered(rig)
    made = await ahead(client, "example.org", subdomainAuthAllowed=True)
    assert made.json["subdomainAuthAllowed"] is True
    assert [each["type"] for each in made.json["challenges"]] == ["dns-01"]
    await prove(client, made)
    order = await client.order("x.y.example.org", "example.org")
    assert order.json["status"] == "ready"
    for part in await parts(client, order):
        assert part["identifier"]["value"] == "example.org"
        assert part["subdomainAuthAllowed"] is True
    final = await client.finalize(order, csr_for(ec_key(), "x.y.example.org", "example.org"))
    assert final.json["status"] == "valid", final.body
    for name in ("*.example.org", "badexample.org"):
        assert (await client.order(name)).json["status"] == "pending"


@pytest_twisted.ensureDeferred
async def test_9444_4_2_not_where_it_was_not_asked_or_is_not_allowed() -> None:
    for terms, asked in ((BELOW, {}), (TERMS, {"subdomainAuthAllowed": True})):
        client = await registered(Rig(terms=terms))
        made = await ahead(client, "example.org", **asked)
        assert "subdomainAuthAllowed" not in made.json
        await prove(client, made)
        assert (await client.order("www.example.org")).json["status"] == "pending"


async def below(client: Client, *pairs: tuple[str, str]) -> Reply:
    identifiers = [{"type": "dns", "value": name, "ancestorDomain": above} for name, above in pairs]
    return await client.post("/new-order", {"identifiers": identifiers})


@pytest_twisted.ensureDeferred
async def test_9444_4_3_an_order_is_authorized_by_the_domain_above_its_names() -> None:
    rig = Rig(terms=replace(BELOW, reuse=None))
    client = await registered(rig)
    order = await below(client, ("a.example.org", "example.org"), ("b.example.org", "EXAMPLE.org."))
    assert [each["value"] for each in order.json["identifiers"]] == ["a.example.org", "b.example.org"]
    (part,) = await parts(client, order)
    assert (part["identifier"]["value"], part["subdomainAuthAllowed"]) == ("example.org", True)
    await client.prove(order)
    assert [question.name.value for question in rig.validator.asked] == ["example.org"]
    final = await client.finalize(order, csr_for(ec_key(), "a.example.org", "b.example.org"))
    assert final.json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_9444_the_caa_of_each_name_counts_and_not_only_that_of_the_domain() -> None:
    rig = Rig(terms=BELOW)
    client = await registered(rig)
    order = await below(client, ("a.example.org", "example.org"))
    await client.prove(order)
    rig.validator.caa["a.example.org"] = FailedProof(FailureKind.CAA, "not this CA")
    final = await client.finalize(order, csr_for(ec_key(), "a.example.org"))
    assert (final.json["status"], "a.example.org" in final.json["error"]["detail"]) == ("invalid", True)


@pytest_twisted.ensureDeferred
async def test_9444_4_3_what_is_not_above_is_refused_and_what_is_not_allowed_passed_over() -> None:
    client = await registered(Rig(terms=BELOW))
    wrong = (("a.example.org", "example.com"), ("example.org", "example.org"), ("bexample.org", "example.org"))
    for name, above in wrong:
        assert (await below(client, (name, above))).problem == "malformed"
    assert (await below(client, ("a.example.org", "*.org"))).status == 400
    client = await registered(Rig(terms=TERMS))
    (part,) = await parts(client, await below(client, ("a.example.org", "example.org")))
    assert part["identifier"]["value"] == "a.example.org"


@pytest_twisted.ensureDeferred
async def test_a_challenge_that_is_offered_no_more_serves_no_more() -> None:
    rig = Rig(terms=TERMS)
    client = await registered(rig)
    order = await client.ready(NAME)
    kept = await rig.store.order(order.location.rpartition("/")[2])
    assert kept is not None
    (proof,) = kept.authorizations
    wanted = replace(proof, id="new", status=AuthorizationStatus.PENDING)
    for offered, served in (("dns-01", True), ("http-01", False)):
        reuse = Reuse(START - REUSE, START, REUSE, (offered,))
        (found,) = with_proofs((wanted,), (proof,), reuse)
        assert (found.status is AuthorizationStatus.VALID) is served
    other = replace(wanted, name=AltName(proof.name.kind, "b.example"))
    assert with_proofs((other,), (proof,), Reuse(START - REUSE, START, REUSE, ("dns-01",))) == (other,)
