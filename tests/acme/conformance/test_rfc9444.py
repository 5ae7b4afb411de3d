"""RFC 9444, and RFC 8555 §7.4.1 on which it builds: names authorized ahead, and domains for what is below them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from opencertd.acme.orders import OrderTerms
from tests.acme.conformance.people import NEW_ORDER, authorization, registered
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key
from tests.conformance import shows

AHEAD = OrderTerms("default", reuse=timedelta(hours=8))
BELOW = OrderTerms("default", reuse=timedelta(hours=8), subdomains=True)


async def ahead(client: Client, value: str, kind: str = "dns", **members: Any) -> Reply:
    return await client.post("/new-authz", {"identifier": {"type": kind, "value": value, **members}})


async def prove(client: Client, made: Any) -> None:
    challenge = next(each for each in made["challenges"] if each["type"] == "dns-01")
    await client.post(challenge["url"], {})
    await client.rig.work_off()


async def below(terms: OrderTerms = BELOW) -> Client:
    return await registered(Rig(terms=terms))


async def ordered_below(terms: OrderTerms) -> tuple[Client, Reply, Any]:
    """An order for a name whose client can prove the domain above, and its authorization."""
    client = await below(terms)
    name = {"type": "dns", "value": "www.a.example", "ancestorDomain": "a.example"}
    order = await client.post(NEW_ORDER, {"identifiers": [name]})
    return client, order, await authorization(client, order)


async def directory(terms: OrderTerms) -> Any:
    return (await ask(Rig(terms=terms), "GET", f"{BASE}/directory")).json


@shows("8555 §7.1.1/1")
async def test_8555_7_1_1_new_authz_is_told_of_where_it_works() -> None:
    for terms in (OrderTerms("default"), AHEAD):
        client = await registered(Rig(terms=terms))
        made = (await ahead(client, "a.example")).status == 201
        assert ("newAuthz" in await directory(terms)) is made is (terms is AHEAD)


@shows("8555 §7.4.1/1")
async def test_8555_7_4_1_only_what_this_ca_would_issue_for() -> None:
    client = await below(AHEAD)
    for kind, value in (("telephone", "5"), ("dns", "a..example"), ("dns", "*.a.example"), ("dns", "192.0.2.7")):
        assert (await ahead(client, value, kind)).status >= 400, value


@shows("8555 §7.4.1/3")
async def test_8555_7_4_1_is_pending() -> None:
    made = await ahead(await below(AHEAD), "a.example")
    assert (made.status, made.json["status"]) == (201, "pending")
    assert made.location.startswith(f"{BASE}/authorization/")


@shows("9444 §4.1/1")
async def test_4_1_says_that_it_is_good_for_more() -> None:
    client = await below()
    made = await ahead(client, "a.example", subdomainAuthAllowed=True)
    await prove(client, made.json)
    after = (await client.post(made.location)).json
    assert made.json["subdomainAuthAllowed"] is after["subdomainAuthAllowed"] is True
    assert not (await ahead(client, "b.example")).json.get("subdomainAuthAllowed", False)


@shows("9444 §4.2/1")
async def test_4_2_ahead() -> None:
    made = await ahead(await below(), "a.example", subdomainAuthAllowed=True)
    assert (made.status, made.json["subdomainAuthAllowed"]) == (201, True)


@shows("9444 §4.2/2")
async def test_4_2_for_the_name_alone() -> None:
    client = await below(AHEAD)
    made = await ahead(client, "a.example", subdomainAuthAllowed=True)
    assert made.status == 201 and not made.json.get("subdomainAuthAllowed", False)
    await prove(client, made.json)
    assert (await client.order("a.example")).json["status"] == "ready"
    assert (await client.order("www.a.example")).json["status"] == "pending"


@shows("9444 §4.3/1")
async def test_4_3_by_the_domain_above() -> None:
    client, order, found = await ordered_below(BELOW)
    assert (found["identifier"]["value"], found["subdomainAuthAllowed"]) == ("a.example", True)
    await prove(client, found)
    final = await client.finalize(order, csr_for(ec_key(), "www.a.example"))
    assert final.json["status"] == "valid"
    assert [each.name.value for each in client.rig.validator.asked] == ["a.example"]


@shows("9444 §4.3/2")
async def test_4_3_by_the_name_alone() -> None:
    _, _, found = await ordered_below(AHEAD)
    assert found["identifier"]["value"] == "www.a.example" and not found.get("subdomainAuthAllowed", False)


@shows("9444 §4.4/1")
async def test_4_4_the_directory_says_so() -> None:
    assert (await directory(BELOW))["meta"]["subdomainAuthAllowed"] is True
    assert not (await directory(AHEAD))["meta"].get("subdomainAuthAllowed", False)


async def authorized_ahead() -> Client:
    client = await below()
    await prove(client, (await ahead(client, "a.example", subdomainAuthAllowed=True)).json)
    return client


@shows("9444 §5/1")
async def test_5_orders_are_ready() -> None:
    client = await authorized_ahead()
    for name in ("www.a.example", "deep.www.a.example"):
        order = await client.order(name)
        assert order.json["status"] == "ready", name
        assert (await client.finalize(order, csr_for(ec_key(), name))).json["status"] == "valid"


@shows("9444 §7.1/1")
async def test_7_1_whole_labels() -> None:
    client = await authorized_ahead()
    for name in ("wwwa.example", "xa.example", "example", "a.example.org"):
        assert (await client.order(name)).json.get("status") != "ready", name
    name = {"type": "dns", "value": "wwwa.example", "ancestorDomain": "a.example"}
    assert (await client.post(NEW_ORDER, {"identifiers": [name]})).status == 400
