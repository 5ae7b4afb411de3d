"""RFC 8739: short-term certificates that renew themselves."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise

from opencertd.acme.times import format_time
from tests.acme.conformance.people import encoded
from tests.acme.rig import BASE, START, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key
from tests.acme.star import (
    BY_GET,
    DAY,
    END,
    HOUR,
    LIFETIME,
    NAME,
    TERMS,
    certificate,
    fetch,
    finalized,
    get,
    go_to,
    ordered,
    series,
    star_rig,
    started,
    validity,
    wish,
)
from tests.conformance import shows

CANCEL = {"status": "canceled"}


@shows("8739 §3.1.1/1")
async def test_3_1_1_the_order_has_auto_renewal() -> None:
    client, order = await ordered(star_rig(BY_GET), members={"lifetime-adjust": 3 * 86400})
    asked = {**wish(), "lifetime-adjust": 3 * 86400}
    assert order.status == 201 and order.json["auto-renewal"] == asked
    final = await finalized(client, order)
    assert final.json["auto-renewal"] == (await client.post(final.location)).json["auto-renewal"] == asked
    assert "certificate" not in final.json and "star-certificate" in final.json


@shows("8739 §3.1.1/2")
async def test_3_1_1_not_with_not_before_or_not_after() -> None:
    client, _ = await ordered()
    for member in ("notBefore", "notAfter"):
        reply = await client.order(NAME, **{"auto-renewal": wish(), member: format_time(START + DAY)})
        assert (reply.status, reply.problem) == (400, "malformed")


@shows("8739 §3.1.1/3")
async def test_3_1_1_it_is_valid_as_long_as_certificates_are_issued() -> None:
    client, order = await started()
    while client.rig.clock.now() + 6 * HOUR < END:
        await go_to(client.rig, client.rig.clock.now() + 6 * HOUR)
        now = (await client.post(order.location)).json
        assert (now["status"], now["expires"]) == ("valid", format_time(END))


@shows("8739 §3.1.2/1")
async def test_3_1_2_no_certificate_for_a_canceled_order() -> None:
    client, order = await started()
    await go_to(client.rig, START + 2 * DAY)
    issued = len(client.rig.authority.asked)
    assert (await client.post(order.location, CANCEL)).status == 200
    await go_to(client.rig, END + DAY)
    assert len(client.rig.authority.asked) == issued


@shows("8739 §3.1.2/2")
async def test_3_1_2_it_is_canceled_and_says_when_it_ends() -> None:
    client, order = await started()
    canceled = await client.post(order.location, CANCEL)
    assert (canceled.status, canceled.json["status"]) == (200, "canceled")
    assert canceled.json["expires"] == format_time(START + LIFETIME) and "star-certificate" not in canceled.json
    assert (await client.post(order.location)).json == canceled.json


async def canceled(rig: Rig | None = None) -> Reply:
    client, order = await started(rig, members={"allow-certificate-get": True})
    await client.post(order.location, CANCEL)
    by_get = await get(client, order)
    by_post = await fetch(client, order)
    if by_get.status != 405:
        assert by_get.body == by_post.body and by_get.status == by_post.status
    return by_post


@shows("8739 §3.1.2/3")
async def test_3_1_2_its_certificate_is_forbidden() -> None:
    assert (await canceled()).status == (await canceled(star_rig(BY_GET))).status == 403


@shows("8739 §3.1.2/4")
async def test_3_1_2_because_it_was_canceled() -> None:
    assert (await canceled()).problem == (await canceled(star_rig(BY_GET))).problem == "autoRenewalCanceled"


@shows("8739 §3.1.2/5")
async def test_3_1_2_only_what_is_valid_is_canceled() -> None:
    client, order = await ordered()
    replies = [await client.post(order.location, CANCEL)]
    await client.prove(order)
    replies.append(await client.post(order.location, CANCEL))
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (await client.post(final.location, CANCEL)).status == 200
    replies.append(await client.post(final.location, CANCEL))
    assert {(each.status, each.problem) for each in replies} == {(400, "autoRenewalCancellationInvalid")}


@shows("8739 §3.1.2/6")
async def test_3_1_2_no_revocation() -> None:
    key = ec_key()
    client, order = await ordered()
    await client.prove(order)
    final = await client.finalize(order, csr_for(key, NAME))
    first = await certificate(client, final)
    await go_to(client.rig, START + 3 * DAY)
    second = await certificate(client, final)
    assert first != second
    for leaf in (first, second):
        reply = await client.post("/revoke-cert", {"certificate": encoded(leaf)})
        assert (reply.status, reply.problem) == (403, "autoRenewalRevocationNotSupported")
    client.key, client.kid = key, None
    reply = await client.post("/revoke-cert", {"certificate": encoded(second)}, by_key=True)
    assert (reply.status, reply.problem) == (403, "autoRenewalRevocationNotSupported")
    assert client.rig.authority.revoked == []


@shows("8739 §3.2/1")
async def test_3_2_the_directory_says_what_is_offered() -> None:
    async def told(rig: Rig) -> object:
        return (await ask(rig, "GET", f"{BASE}/directory")).json["meta"].get("auto-renewal")

    offered = {"min-lifetime": 3600, "max-duration": 31536000}
    assert await told(star_rig()) == offered
    assert await told(star_rig(BY_GET)) == {**offered, "allow-certificate-get": True}
    assert await told(Rig()) is None


def date_of(reply: Reply, header: str) -> datetime:
    (value,) = reply.headers[header]
    assert value[0] == value[-1] == '"'
    return parsedate_to_datetime(value[1:-1])


@shows("8739 §3.3/1")
async def test_3_3_its_dates_come_with_it() -> None:
    client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
    for reply in (await fetch(client, order), await get(client, order), await get(client, order, "HEAD")):
        assert reply.status == 200
        assert reply.headers["cert-not-before"] == ['"Tue, 06 May 2031 07:08:09 GMT"']
        assert reply.headers["cert-not-after"] == ['"Sat, 10 May 2031 07:08:09 GMT"']


@shows("8739 §3.3/2")
async def test_3_3_they_are_those_in_the_certificate() -> None:
    client, order = await started(members={"lifetime-adjust": 86400 * 3})
    for day in range(20):
        await go_to(client.rig, START + day * DAY)
        reply = await fetch(client, order)
        told = (date_of(reply, "cert-not-before"), date_of(reply, "cert-not-after"))
        assert told == validity(await certificate(client, order))


@shows("8739 §3.3/3")
async def test_3_3_the_next_is_there_in_time() -> None:
    client, order = await started()
    found = await series(client, order)
    assert len(found) == 5
    for step, ((_, before), (there, _)) in enumerate(pairwise(found)):
        begins, ends = START + step * LIFETIME, before.not_valid_after_utc
        assert there <= begins + (ends - begins) / 2


@shows("8739 §3.3/4")
async def test_3_3_it_is_valid_by_then() -> None:
    client, order = await started(members={"lifetime-adjust": 3600})
    for there, leaf in await series(client, order):
        assert leaf.not_valid_before_utc <= there < leaf.not_valid_after_utc


@shows("8739 §3.3/5")
async def test_3_3_none_beyond_the_end() -> None:
    client, order = await started(members={"lifetime": 86400 * 3})
    found = await series(client, order)
    assert max(leaf.not_valid_after_utc for _, leaf in found) == END
    issued = len(client.rig.authority.asked)
    await go_to(client.rig, END + 10 * DAY)
    assert len(client.rig.authority.asked) == issued == len(found)


async def ended() -> tuple[Reply, Reply, Reply]:
    client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
    await go_to(client.rig, END)
    return await fetch(client, order), await get(client, order), await client.post(order.location)


@shows("8739 §3.3/6")
async def test_3_3_after_that_it_is_forbidden() -> None:
    by_post, by_get, order = await ended()
    assert by_post.status == by_get.status == 403
    assert order.json["status"] == "valid"


@shows("8739 §3.3/7")
async def test_3_3_because_it_is_over() -> None:
    by_post, by_get, _ = await ended()
    assert by_post.problem == by_get.problem == "autoRenewalExpired"


@shows("8739 §3.4/1")
async def test_3_4_what_may_be_read_by_get_says_so() -> None:
    for terms, asked, may in ((BY_GET, True, True), (BY_GET, False, False), (TERMS, True, False)):
        client, order = await started(star_rig(terms), members={"allow-certificate-get": asked})
        assert order.json["auto-renewal"].get("allow-certificate-get", False) is may
        reply = await get(client, order)
        assert reply.status == (200 if may else 405)
        assert not may or reply.body == (await fetch(client, order)).body


@shows("8739 §3.5/1")
async def test_3_5_the_first_begins_with_the_order() -> None:
    for start in (START - HOUR, START, START + 2 * DAY):
        members = {"start-date": format_time(start), "lifetime-adjust": 86400 * 4}
        client, order = await started(members=members)
        leaf = await certificate(client, order)
        assert leaf.not_valid_before_utc >= start
        assert order.json["auto-renewal"]["start-date"] == format_time(start)


@shows("8739 §4.3/1")
async def test_4_3_caches_do_not_keep_it_too_long() -> None:
    client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
    while client.rig.clock.now() + 5 * HOUR < END:
        await go_to(client.rig, client.rig.clock.now() + 5 * HOUR)
        reply = await get(client, order)
        (said,) = reply.headers["cache-control"]
        assert said.startswith("public, max-age=")
        age = int(said.removeprefix("public, max-age="))
        assert 0 < age <= (date_of(reply, "cert-not-after") - client.rig.clock.now()).total_seconds()


@shows("8739 §6.2/1")
async def test_6_2_there_is_a_least_lifetime() -> None:
    client, _ = await ordered()
    reply = await client.order(NAME, **{"auto-renewal": wish(lifetime=3599)})
    assert (reply.status, reply.problem) == (400, "malformed") and "3600" in reply.json["detail"]


@shows("8739 §6.3/1")
async def test_6_3_nobody_guesses_where_it_is() -> None:
    client, order = await started()
    _, other = await started(client.rig)
    parts = [each.json["star-certificate"].split("/")[-2] for each in (order, other)]
    tails = {part[-22:] for part in parts}  # 128 random bits
    assert len(tails) == 2 and all(len(tail) == 22 for tail in tails)
    assert client.kid is not None and client.kid.rpartition("/")[2] not in order.json["star-certificate"]
