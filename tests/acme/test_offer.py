"""Profiles over ACME: draft-ietf-acme-profiles-01, named by its sections; and a directory for each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509

from opencertd.acme.orders import OrderTerms
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.names import AltNameKind
from opencertd.model.request import IssuingProtocol
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key

NAME = "a.example"


async def directory(rig: Rig, path: str = "/directory") -> Any:
    reply = await ask(rig, "GET", BASE + path)
    assert (reply.status, reply.headers["content-type"]) == (200, ["application/json"])
    return reply.json


async def registered(rig: Rig) -> Client:
    client = Client(rig)
    await client.register()
    return client


async def leaf(client: Client, order: Reply) -> x509.Certificate:
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    assert final.json["status"] == "valid", final.body
    return x509.load_pem_x509_certificates((await client.post(final.json["certificate"])).body)[0]


def change(rig: Rig, name: str, **changes: Any) -> None:
    """What a reload of the settings does."""
    profiles = rig.authority.profiles
    changed = {**profiles, name: replace(profiles[name], **changes)}
    rig.authority.adopt(rig.authority.issuers, changed, rig.authority.policies)


@pytest_twisted.ensureDeferred
async def test_3_the_directory_tells_the_profiles_that_acme_may_use_with_words_for_each() -> None:
    rig = Rig()
    told = (await directory(rig))["meta"]["profiles"]
    assert {"default", "tls-server", "short-lived"} <= set(told)
    assert not {"sub-ca", "smime", "ocsp-responder", "daemon-tls", "audit-checkpoint"} & set(told)
    assert told["tls-server"] == "serverAuth; good for 90 days"
    assert told["short-lived"] == "serverAuth, clientAuth; good for 24 hours"
    change(rig, "tls-server", description="the shop")
    change(rig, "tls-client", protocols=frozenset({IssuingProtocol.EST}))
    told = (await directory(rig))["meta"]["profiles"]
    assert told["tls-server"] == "the shop"
    assert "tls-client" not in told


@pytest_twisted.ensureDeferred
async def test_4_an_order_has_the_profile_it_asks_for_and_says_so() -> None:
    client = await registered(Rig())
    order = await client.order(NAME, profile="short-lived")
    assert (order.status, order.json["profile"]) == (201, "short-lived")
    certificate = await leaf(client, order)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(days=1)
    assert (await client.post(order.location)).json["profile"] == "short-lived"


@pytest.mark.parametrize("wish", [{}, {"profile": None}, {"profile": ""}])
@pytest_twisted.ensureDeferred
async def test_4_an_order_that_asks_for_none_gets_the_usual_one(wish: dict[str, Any]) -> None:
    client = await registered(Rig(terms=OrderTerms("tls-server")))
    assert (await client.order(NAME, **wish)).json["profile"] == "tls-server"


@pytest.mark.parametrize("profile", ["nothing", "sub-ca", "smime", "daemon-tls", "DEFAULT", "x" * 5000, "\u2028"])
@pytest_twisted.ensureDeferred
async def test_4_a_profile_that_is_not_told_is_refused_as_such(profile: str) -> None:
    client = await registered(Rig())
    reply = await client.order(NAME, profile=profile)
    assert (reply.status, reply.problem) == (400, "invalidProfile")
    assert "default" in reply.json["detail"]


@pytest.mark.parametrize("profile", [5, ["default"], {}, True])
@pytest_twisted.ensureDeferred
async def test_4_a_profile_is_a_string(profile: object) -> None:
    client = await registered(Rig())
    assert (await client.order(NAME, profile=profile)).problem == "malformed"


@pytest_twisted.ensureDeferred
async def test_4_a_profile_that_does_not_go_with_the_identifiers_is_refused_as_such() -> None:
    rig = Rig()
    change(rig, "tls-server", name_kinds=frozenset({AltNameKind.IP}))
    reply = await (await registered(rig)).order(NAME, profile="tls-server")
    assert (reply.status, reply.problem) == (400, "invalidProfile")


@pytest_twisted.ensureDeferred
async def test_4_a_profile_for_others_is_refused() -> None:
    rig = Rig()
    change(rig, "tls-server", requesters=(RequesterMatch(id="somebody"),))
    reply = await (await registered(rig)).order(NAME, profile="tls-server")
    assert (reply.status, reply.problem) == (403, "unauthorized")


@pytest_twisted.ensureDeferred
async def test_4_what_is_issued_under_no_more_is_not_finalized() -> None:
    rig = Rig()
    client = await registered(rig)
    order = await client.order(NAME, profile="tls-server")
    await client.prove(order)
    change(rig, "tls-server", protocols=frozenset())
    reply = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (reply.status, reply.problem) == (400, "invalidProfile")
    assert rig.authority.asked == []


@pytest_twisted.ensureDeferred
async def test_a_directory_of_its_own_is_for_clients_that_cannot_say() -> None:
    rig = Rig()
    usual, own = await directory(rig), await directory(rig, "/acme/tls-server/directory")
    assert own["newOrder"] == f"{BASE}/acme/tls-server/new-order"
    assert own["meta"]["profiles"] == {"tls-server": usual["meta"]["profiles"]["tls-server"]}
    shared = {name: url for name, url in own.items() if name not in {"newOrder", "meta"}}
    assert shared.items() <= usual.items()  # so that an account is the same wherever it asks
    client = await registered(rig)
    order = await client.order(NAME, url=own["newOrder"])
    assert (order.status, order.json["profile"]) == (201, "tls-server")
    usages = (await leaf(client, order)).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in usages] == ["1.3.6.1.5.5.7.3.1"]


@pytest_twisted.ensureDeferred
async def test_a_directory_of_a_profile_gives_no_other() -> None:
    rig = Rig()
    client = await registered(rig)
    url = "/acme/tls-server/new-order"
    assert (await client.order(NAME, url=url, profile="tls-server")).status == 201
    assert (await client.order(NAME, url=url, profile="default")).problem == "invalidProfile"
    elsewhere = await client.signed(f"{BASE}/new-order", {"identifiers": [{"type": "dns", "value": NAME}]})
    assert (await client.send(BASE + url, elsewhere)).problem == "unauthorized"  # signed for another URL (§6.4)


@pytest.mark.parametrize("profile", ["nothing", "sub-ca", "daemon-tls", "x" * 300, "%C3%A9", "..", "a%2Fb"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_profile_has_no_directory(profile: str) -> None:
    rig = Rig()
    assert (await ask(rig, "GET", f"{BASE}/acme/{profile}/directory")).status == 404
    reply = await (await registered(rig)).order(NAME, url=f"/acme/{profile}/new-order")
    assert reply.problem in {"invalidProfile", "malformed"}
    assert reply.status in {400, 404}


@pytest_twisted.ensureDeferred
async def test_where_the_usual_profile_is_not_offered_one_must_be_named() -> None:
    rig = Rig()
    change(rig, "default", protocols=frozenset({IssuingProtocol.EST}))
    client = await registered(rig)
    assert (await client.order(NAME)).problem == "invalidProfile"
    assert (await client.order(NAME, profile="tls-server")).status == 201
