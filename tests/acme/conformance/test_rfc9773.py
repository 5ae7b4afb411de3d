"""RFC 9773: when to renew, and what an order replaces."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import RevocationReason
from tests.acme.conformance.people import encoded, registered
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key
from tests.acme.test_renewal import info, name_of
from tests.conformance import shows

NAME = "a.example"


async def issued() -> tuple[Client, str]:
    """A client, and how its certificate is named."""
    client = await registered()
    return client, name_of((await client.certificate(NAME))[1])


async def renewed(client: Client, name: str) -> Reply:
    """An order that has replaced the certificate."""
    order = await client.order(NAME, replaces=name)
    await client.prove(order)
    return await client.finalize(order, csr_for(ec_key(), NAME))


@shows("9773 §3/1")
async def test_3_the_directory_names_it() -> None:
    assert (await ask(Rig(), "GET", f"{BASE}/directory")).json["renewalInfo"] == f"{BASE}/renewal-info"


@shows("9773 §4.1/1")
async def test_4_1_no_padding() -> None:
    client, name = await issued()
    key_identifier, serial = name.split(".")
    for padded in (f"{name}=", f"{key_identifier}=.{serial}", f"{key_identifier}==.{serial}=="):
        assert (await info(client.rig, padded)).status == 400
    assert (await client.order(NAME, replaces=f"{name}=")).status == 400


@shows("9773 §4.1/2")
async def test_4_1_the_identifier() -> None:
    client, name = await issued()  # as `name_of` writes it, by another's reading of the certificate
    assert (await info(client.rig, name)).status == 200


@shows("9773 §4.1/3")
async def test_4_1_by_get() -> None:
    client, name = await issued()
    reply = await ask(client.rig, "GET", f"{BASE}/renewal-info/{name}", headers={"Accept": "application/json"})
    assert (reply.status, reply.headers["content-type"]) == (200, ["application/json"])


def window(reply: Reply) -> tuple[datetime, datetime]:
    found = reply.json["suggestedWindow"]
    start, end = datetime.fromisoformat(found["start"]), datetime.fromisoformat(found["end"])
    assert start.tzinfo is not None and end.tzinfo is not None
    return start, end


@shows("9773 §4.2/1")
async def test_4_2_start_and_end() -> None:
    client, name = await issued()
    start, end = window(await info(client.rig, name))
    leaf = x509.load_pem_x509_certificates((await client.certificate(NAME))[1])[0]
    assert leaf.not_valid_before_utc < start < end < leaf.not_valid_after_utc


@shows("9773 §4.2/2")
async def test_4_2_in_that_order() -> None:
    client, name = await issued()
    for later in (timedelta(0), timedelta(days=45), timedelta(days=400)):
        client.rig.clock.advance(later)
        start, end = window(await info(client.rig, name))
        assert start < end
    start, end = window(await revoked_info())
    assert start < end


async def revoked_info() -> Reply:
    client = await registered()
    _, pem = await client.certificate(NAME)
    certificate = encoded(x509.load_pem_x509_certificates(pem)[0])
    reason = int(RevocationReason.SUPERSEDED)
    assert (await client.post("/revoke-cert", {"certificate": certificate, "reason": reason})).status == 200
    return await info(client.rig, name_of(pem))


@shows("9773 §4.3/1")
async def test_4_3_when_to_ask_again() -> None:
    client, name = await issued()
    assert int((await info(client.rig, name)).headers["retry-after"][0]) >= 60


@shows("9773 §5/1")
async def test_5_of_the_same_account() -> None:
    client, name = await issued()
    other = await registered(client.rig)
    assert (await other.order(NAME, replaces=name)).status >= 400
    assert (await client.order(NAME, replaces=name)).status == 201


@shows("9773 §5/2")
async def test_5_with_a_name_in_common() -> None:
    client, name = await issued()
    assert (await client.order("other.example", replaces=name)).status >= 400
    assert (await client.order("other.example", NAME, replaces=name)).status == 201


@shows("9773 §5/3")
async def test_5_only_once() -> None:
    client, name = await issued()
    client.rig.authority.failures.append(Refusal(RefusalKind.REJECTED_NAME, "not this time"))
    assert (await renewed(client, name)).json["status"] == "invalid"
    assert (await renewed(client, name)).json["status"] == "valid"
    assert (await client.order(NAME, replaces=name)).status >= 400


@shows("9773 §5/4")
async def test_5_or_there_is_no_order() -> None:
    client, name = await issued()
    wrong: tuple[Any, ...] = ("x", 5, {}, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
    before = (await client.post(f"{client.kid}/orders")).json
    for replaces in wrong:
        assert (await client.order(NAME, replaces=replaces)).status >= 400
    assert (await client.order("other.example", replaces=name)).status >= 400
    assert (await client.post(f"{client.kid}/orders")).json == before


@shows("9773 §5/5")
async def test_5_already_replaced() -> None:
    client, name = await issued()
    await renewed(client, name)
    reply = await client.order(NAME, replaces=name)
    assert (reply.status, reply.problem) == (409, "alreadyReplaced")


@shows("9773 §5/6")
async def test_5_what_is_replaced_is_said() -> None:
    client, name = await issued()
    final = await renewed(client, name)
    assert final.json["replaces"] == (await client.post(final.location)).json["replaces"] == name
