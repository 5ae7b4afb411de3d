"""Accounts: made once per key, found, changed, closed; their keys change with both keys' consent."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from opencertd.acme import accounts
from opencertd.acme.documents import Meta
from tests.acme.rig import BASE, Client, Rig
from tests.acme.signing import ec_key, jwk_of, rsa_key, sign


async def registered(rig: Rig, key: Any = None) -> Client:
    client = Client(rig, key)
    await client.register()
    return client


@pytest_twisted.ensureDeferred
async def test_a_new_account_is_created_once() -> None:
    client = Client(Rig())
    created = await client.register(contact=["mailto:someone@example.org"], unknown=1)
    assert created.status == 201
    assert created.json == {
        "status": "valid",
        "contact": ["mailto:someone@example.org"],
        "orders": f"{created.location}/orders",
        "termsOfServiceAgreed": True,
    }
    found = await client.register(contact=["tel:whatever is asked of an account that exists is ignored"])
    assert (found.status, found.location, found.json) == (200, created.location, created.json)


@pytest_twisted.ensureDeferred
async def test_only_return_existing_never_creates() -> None:
    client = Client(Rig())
    for _ in range(2):
        reply = await client.register(onlyReturnExisting=True)
        assert (reply.status, reply.problem) == (400, "accountDoesNotExist")
    await client.register()
    assert (await client.register(onlyReturnExisting=True)).status == 200


@pytest.mark.parametrize(
    ("contact", "problem"),
    [
        (["tel:+1"], "unsupportedContact"),
        (["mailto:a@b.example,c@d.example"], "invalidContact"),
        (["mailto:a@b.example?subject=x"], "invalidContact"),
        (["mailto:nobody"], "invalidContact"),
        ("mailto:a@b.example", "malformed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_contacts_are_checked(contact: Any, problem: str) -> None:
    client = Client(Rig())
    assert (await client.register(contact=contact)).problem == problem
    await client.register()
    assert (await client.post(str(client.kid), {"contact": contact})).problem == problem


@pytest_twisted.ensureDeferred
async def test_terms_must_be_agreed_to_where_there_are_some() -> None:
    client = Client(Rig(meta=Meta(terms_of_service="https://ca.example/terms")))
    assert (await client.register(termsOfServiceAgreed=False)).problem == "malformed"
    assert (await client.register()).status == 201


@pytest_twisted.ensureDeferred
async def test_an_account_is_read_and_updated_at_its_url() -> None:
    client = await registered(Rig())
    url = str(client.kid)
    assert (await client.post(url)).json["contact"] == []
    updated = await client.post(url, {"contact": ["mailto:a@b.example"], "orders": "x", "status": "valid"})
    assert (updated.status, updated.json["contact"]) == (200, ["mailto:a@b.example"])
    assert (await client.post(url, {})).json == updated.json
    assert (await client.post(url, {"contact": []})).json["contact"] == []


@pytest_twisted.ensureDeferred
async def test_an_account_is_its_own_only() -> None:
    rig = Rig()
    owner, other = await registered(rig), await registered(rig)
    for url in (str(owner.kid), f"{owner.kid}/orders"):
        reply = await other.post(url)
        assert (reply.status, reply.problem) == (403, "unauthorized")


@pytest_twisted.ensureDeferred
async def test_a_deactivated_account_can_do_nothing_any_more() -> None:
    client = await registered(Rig())
    order = await client.order("a.example")
    closed = await client.post(str(client.kid), {"status": "deactivated"})
    assert (closed.status, closed.json["status"]) == (200, "deactivated")
    for url in (str(client.kid), order.location, f"{BASE}/new-order"):
        reply = await client.post(url)
        assert (reply.status, reply.problem) == (401, "unauthorized")
    again = await client.post("/new-account", {}, by_key=True)
    assert (again.status, again.problem) == (401, "unauthorized")


@pytest_twisted.ensureDeferred
async def test_orders_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "PAGE", 3)
    client = await registered(Rig())
    made = [(await client.order(f"n{count}.example")).location for count in range(7)]
    found: list[str] = []
    url: str | None = f"{client.kid}/orders"
    sizes = []
    while url is not None:
        page = await client.post(url)
        found += page.json["orders"]
        sizes.append(len(page.json["orders"]))
        following = [link for link in page.headers["link"] if 'rel="next"' in link]
        url = following[0].partition("<")[2].partition(">")[0] if following else None
    assert (found, sizes) == (made, [3, 3, 1])
    assert (await client.post(f"{client.kid}/orders", {})).problem == "malformed"
    assert (await client.post(f"{client.kid}/orders?cursor=%00")).status == 404
    assert (await client.post(f"{client.kid}/orders?cursor=unknown")).json == {"orders": []}


def inner(new_key: Any, kid: Any, old_key: Any, /, **header: Any) -> dict[str, str]:
    content = json.dumps({"account": kid, "oldKey": jwk_of(old_key)}).encode()
    return sign(new_key, {"jwk": jwk_of(new_key), "url": f"{BASE}/key-change", **header}, content)


@pytest_twisted.ensureDeferred
async def test_after_a_key_change_only_the_new_key_counts() -> None:
    client = await registered(Rig())
    order = await client.order("a.example")
    old_key, new_key = client.key, rsa_key()
    changed = await client.post("/key-change", inner(new_key, client.kid, old_key))
    assert (changed.status, changed.location, changed.json["status"]) == (200, client.kid, "valid")
    assert (await client.post(order.location)).problem == "malformed"
    client.key = new_key
    assert (await client.post(order.location)).json["status"] == "pending"
    assert (await client.register(onlyReturnExisting=True)).location == changed.location


@pytest_twisted.ensureDeferred
async def test_a_key_of_another_account_is_a_conflict_that_says_whose() -> None:
    rig = Rig()
    client, other = await registered(rig), await registered(rig)
    for key, holder in ((other.key, other), (client.key, client)):
        reply = await client.post("/key-change", inner(key, client.kid, client.key))
        assert (reply.status, reply.problem, reply.location) == (409, "malformed", holder.kid)


@pytest_twisted.ensureDeferred
async def test_a_key_change_must_be_meant() -> None:
    rig = Rig()
    client, other = await registered(rig), await registered(rig)
    key = ec_key()
    good = inner(key, client.kid, client.key)
    bad = [
        inner(key, other.kid, client.key),
        inner(key, client.kid, other.key),
        inner(key, None, client.key),
        inner(key, client.kid, client.key, url=f"{BASE}/new-order"),
        inner(key, client.kid, client.key, nonce="n"),
        inner(key, client.kid, client.key, jwk=None, kid=client.kid),
        inner(key, client.kid, client.key, jwk=jwk_of(ec_key())),
        {**good, "payload": inner(key, other.kid, client.key)["payload"]},
        {},
    ]
    for document in bad:
        reply = await client.post("/key-change", document)
        assert (reply.status, reply.problem) == (400, "malformed"), document
    weak = await client.post("/key-change", inner(rsa_key(1024), client.kid, client.key))
    assert weak.problem == "badPublicKey"
    assert (await client.post("/key-change", good)).status == 200
