"""notBefore and notAfter of an order (RFC 8555 §7.1.3, §7.4): kept, shown, and in the certificate to the second."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509

from opencertd.acme.times import format_time, parse_time
from opencertd.errors import Refusal, RefusalKind
from tests.acme.rig import START, Client, Reply, Rig
from tests.acme.signing import csr_for, ec_key

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)


def rig(**changes: Any) -> Rig:
    """Its profile `default` lets a validity be asked."""
    made = Rig()
    asked = dataclasses.replace(
        made.authority.profiles["default"], **{"validity": 30 * DAY, "validity_may_be_asked": True, **changes}
    )
    made.authority.profiles = {**made.authority.profiles, "default": asked}
    return made


async def client_of(made: Rig) -> Client:
    client = Client(made)
    await client.register()
    return client


async def issued(client: Client, order: Reply) -> bytes:
    """The chain, leaf first."""
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert final.json["status"] == "valid", final.body
    assert {**final.json, "status": ""} == {**order.json, "status": "", "certificate": final.json["certificate"]}
    return (await client.post(final.json["certificate"])).body


def dates_of(pem: bytes) -> list[str]:
    """Both dates of the first certificate, as OpenSSL reads them."""
    command = ["openssl", "x509", "-noout", "-dates", "-dateopt", "iso_8601"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout.decode().splitlines()


@ensure
async def test_the_certificate_has_the_times_that_were_asked() -> None:
    client = await client_of(rig())
    first, last = START - timedelta(minutes=10), START + 5 * DAY
    order = await client.order("a.example", notBefore=format_time(first), notAfter=format_time(last))
    assert (order.json["notBefore"], order.json["notAfter"]) == (format_time(first), format_time(last))
    pem = await issued(client, order)
    assert dates_of(pem) == ["notBefore=2031-05-06 06:58:09Z", "notAfter=2031-05-11 07:08:09Z"]


@ensure
async def test_the_time_between_order_and_certificate_changes_nothing() -> None:
    client = await client_of(rig())
    order = await client.order("a.example", notBefore=format_time(START), notAfter=format_time(START + 20 * DAY))
    client.rig.clock.advance(3 * DAY)
    leaf = x509.load_pem_x509_certificates(await issued(client, order))[0]
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (START, START + 20 * DAY)


@ensure
async def test_what_was_not_asked_is_not_shown() -> None:
    client = await client_of(rig())
    order = await client.order("a.example", notAfter=format_time(START + DAY))
    assert "notBefore" not in order.json and order.json["notAfter"] == format_time(START + DAY)
    leaf = x509.load_pem_x509_certificates(await issued(client, order))[0]
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (START - timedelta(minutes=1), START + DAY)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"notAfter": START + 31 * DAY}, "allows one until 2031-06-05T07:08:"),
        ({"notBefore": START + DAY, "notAfter": START}, "before it begins"),
        ({"notAfter": START - DAY}, "over already"),
        ({"notBefore": START - timedelta(hours=2)}, "can be 2031-05-06T06:08:09Z at the earliest"),
        ({"notBefore": "tomorrow"}, "RFC 3339"),
        ({"notAfter": 5}, "'notAfter' is not a string"),
    ],
)
@ensure
async def test_what_is_not_possible_is_malformed_and_no_order(wish: dict[str, Any], words: str) -> None:
    client = await client_of(rig())
    sent = {name: format_time(value) if isinstance(value, datetime) else value for name, value in wish.items()}
    reply = await client.order("a.example", **sent)
    assert (reply.status, reply.problem) == (400, "malformed")
    assert words in reply.json["detail"]
    assert (await client.post(f"{client.kid}/orders")).json["orders"] == []


@ensure
async def test_a_profile_that_sets_the_validity_says_so() -> None:
    client = await client_of(Rig())
    reply = await client.order("a.example", notAfter=format_time(START + DAY))
    assert (reply.status, reply.problem) == (400, "malformed")
    assert "'default' sets the validity" in reply.json["detail"]


@ensure
async def test_what_has_become_impossible_meanwhile_fails_the_order() -> None:
    client = await client_of(rig())
    order = await client.order("a.example", notAfter=format_time(START + DAY))
    client.rig.clock.advance(2 * DAY)
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert final.json["status"] == "invalid"
    assert final.json["error"]["type"].endswith(":malformed") and "over already" in final.json["error"]["detail"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31t12:00:00z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T12:00:00.999Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T12:00:00+02:00", "2030-01-31T10:00:00Z"),
        ("2030-01-31T23:30:00-01:00", "2030-02-01T00:30:00Z"),
    ],
)
def test_times_of_any_zone_are_read(text: str, shown: str) -> None:
    assert format_time(parse_time(text, "it")) == shown


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-31",
        "2030-01-31T12:00:00",
        "2030-02-31T12:00:00Z",
        "2030-01-31T12:00:60Z",
        "20300131T120000Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+10:00",
        "2030-01-31T12:00:00Z\n",
        "2030-01-31T12:00:00+25:00",
        "٢٠٣٠-01-31T12:00:00Z",
    ],
)
def test_what_is_no_time_is_malformed(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_time(text, "it")
    assert caught.value.kind is RefusalKind.MALFORMED
