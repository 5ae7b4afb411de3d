"""Terms of service: agreed to before an account is made, and again when they are others (RFC 8555 §7.3, §7.3.3)."""

from __future__ import annotations

import pytest
import pytest_twisted

from opencertd.acme.documents import Meta
from tests.acme.rig import BASE, Client, Rig, ask

OLD = Meta(terms_of_service="https://ca.example/terms/1")
NEW = Meta(terms_of_service="https://ca.example/terms/2")
LINK = '<https://ca.example/terms/2>;rel="terms-of-service"'


@pytest_twisted.ensureDeferred
async def test_7_3_a_new_account_must_agree_and_is_told_where_the_terms_are() -> None:
    rig = Rig(meta=NEW)
    assert (await ask(rig, "GET", f"{BASE}/directory")).json["meta"]["termsOfService"] == NEW.terms_of_service
    client = Client(rig)
    for members in ({"termsOfServiceAgreed": False}, {"termsOfServiceAgreed": "true"}, {"termsOfServiceAgreed": 1}):
        reply = await client.register(**members)
        assert (reply.status, reply.problem) == (400, "malformed")
        assert LINK in reply.headers["link"]
    assert (await client.register()).json["termsOfServiceAgreed"] is True
    assert (await client.order("a.example")).status == 201


@pytest.mark.parametrize("way", ["account", "newAccount"])
@pytest_twisted.ensureDeferred
async def test_7_3_3_orders_wait_until_changed_terms_are_agreed_to(way: str) -> None:
    before = Rig(meta=OLD)
    client = Client(before)
    await client.register()
    order = await client.order("a.example")
    client.rig = Rig(meta=NEW, database=before.database)
    reply = await client.order("b.example")
    assert (reply.status, reply.problem) == (403, "userActionRequired")
    assert LINK in reply.headers["link"]
    assert reply.json["instance"] == NEW.terms_of_service
    shown = await client.post(str(client.kid))
    assert "termsOfServiceAgreed" not in shown.json
    assert (await client.post(order.location)).status == 200  # what was begun goes on
    await client.register(onlyReturnExisting=True)  # asks, and agrees to nothing
    assert (await client.order("b.example")).problem == "userActionRequired"

    if way == "account":
        agreed = await client.post(str(client.kid), {"termsOfServiceAgreed": True, "contact": []})
    else:
        agreed = await client.register()
    assert (agreed.status, agreed.json["termsOfServiceAgreed"]) == (200, True)
    assert (await client.order("b.example")).status == 201


@pytest_twisted.ensureDeferred
async def test_7_3_3_an_account_older_than_all_terms_agrees_first() -> None:
    before = Rig()
    client = Client(before)
    await client.register()
    client.rig = Rig(meta=NEW, database=before.database)
    assert (await client.order("a.example")).problem == "userActionRequired"
    await client.post(str(client.kid), {"termsOfServiceAgreed": True})
    assert (await client.order("a.example")).status == 201
    client.rig = Rig(database=before.database)
    assert (await client.order("a.example")).status == 201
