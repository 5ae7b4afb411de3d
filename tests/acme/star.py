"""What tests of certificates that renew themselves begin with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from opencertd.acme.auto_renewal import StarTerms
from opencertd.acme.orders import OrderTerms
from opencertd.acme.times import format_time
from tests.acme.rig import START, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NAME = "a.example"
LIFETIME = 4 * DAY
END = START + 20 * DAY
TERMS = StarTerms(min_lifetime=HOUR, max_duration=365 * DAY)
BY_GET = StarTerms(min_lifetime=HOUR, max_duration=365 * DAY, by_get=True)


def star_rig(terms: StarTerms | None = TERMS, **options: Any) -> Rig:
    """A server that offers them."""
    return Rig(terms=OrderTerms("default", auto_renewal=terms), **options)


def wish(**members: Any) -> dict[str, Any]:
    """What is asked: certificates of four days, for twenty."""
    return {"end-date": format_time(END), "lifetime": int(LIFETIME.total_seconds()), **members}


async def ordered(rig: Rig | None = None, *, members: dict[str, Any] | None = None) -> tuple[Client, Reply]:
    """A new account, and its new order."""
    client = Client(rig or star_rig())
    await client.register()
    return client, await client.order(NAME, **{"auto-renewal": wish(**(members or {}))})


async def finalized(client: Client, order: Reply) -> Reply:
    """The order with its first certificate."""
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    assert final.json["status"] == "valid", final.body
    return final


async def started(rig: Rig | None = None, *, members: dict[str, Any] | None = None) -> tuple[Client, Reply]:
    """An account, and its order with the first certificate."""
    client, order = await ordered(rig, members=members)
    return client, await finalized(client, order)


async def fetch(client: Client, order: Reply) -> Reply:
    """What there is at the order's star-certificate, by POST-as-GET."""
    return await client.post(order.json["star-certificate"])


async def get(client: Client, order: Reply, method: str = "GET") -> Reply:
    """The same by GET."""
    return await ask(client.rig, method, order.json["star-certificate"])


async def certificate(client: Client, order: Reply) -> x509.Certificate:
    """The newest one."""
    reply = await fetch(client, order)
    assert (reply.status, reply.headers["content-type"]) == (200, ["application/pem-certificate-chain"]), reply.body
    return x509.load_pem_x509_certificates(reply.body)[0]


def validity(leaf: x509.Certificate) -> tuple[datetime, datetime]:
    return leaf.not_valid_before_utc, leaf.not_valid_after_utc


async def go_to(rig: Rig, when: datetime) -> None:
    """Let time pass until then, and do what is due."""
    rig.clock.advance(when - rig.clock.now())
    while await rig.work_off():
        pass


async def series(client: Client, order: Reply, until: datetime = END) -> list[tuple[datetime, x509.Certificate]]:
    """Each certificate, and when it was there, to the hour."""
    rig, found = client.rig, [(client.rig.clock.now(), await certificate(client, order))]
    while rig.clock.now() + HOUR < until:
        await go_to(rig, rig.clock.now() + HOUR)
        newest = await certificate(client, order)
        if newest != found[-1][1]:
            found.append((rig.clock.now(), newest))
    return found
