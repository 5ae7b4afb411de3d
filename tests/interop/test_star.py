"""Certificates that renew themselves, by the daemon as users start it: fetched by curl, judged by openssl."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.acme_client import AcmeClient
from tests.interop.acme_load import acme_client
from tests.interop.clients import openssl
from tests.interop.daemon import Daemon
from tests.interop.inventory import inventory
from tests.interop.site import Site, site
from tests.interop.star import Fetched, fetch, start_series

LIFETIME = 10
STEPS = 3
SETTINGS = '[acme.auto_renewal]\nenabled = true\nmin_lifetime = "10s"\nmax_duration = "1h"\ncertificate_get = true\n'


@pytest.fixture(params=[1, 3], ids=["one worker", "three workers"])
def offering(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A CA that offers them."""
    with site(tmp_path, workers=request.param, settings=SETTINGS) as running:
        yield running


def check_good(ca: Daemon, found: Fetched, place: Path) -> None:
    """It is for now, its header says so, openssl finds it good, and caches do not keep it any longer than that."""
    assert found.headers["content-type"] == "application/pem-certificate-chain"
    leaf = found.leaf
    assert found.dates == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert found.dates[0] <= datetime.now(UTC) <= found.dates[1] + timedelta(seconds=1)
    age = int(found.headers["cache-control"].removeprefix("public, max-age="))
    assert datetime.now(UTC) + timedelta(seconds=age - 1) <= found.dates[1]
    (place / "chain.pem").write_bytes(found.body)
    (place / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    chain = ("-CAfile", ca.trust_anchors, "-untrusted", place / "chain.pem")
    assert b": OK" in openssl("verify", *chain, "-verify_hostname", "star.test", place / "leaf.pem").stdout


async def watch(ca: Daemon, url: str, place: Path, seconds: float) -> list[int]:
    """The serials that are there one after the other, each of them good."""
    serials: list[int] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = await asyncio.to_thread(fetch, ca, url, place)
        assert found.status == 200, found
        check_good(ca, found, place)
        if found.leaf.serial_number not in serials[-1:]:
            serials.append(found.leaf.serial_number)
        await asyncio.sleep(0.3)
    assert len(set(serials)) == len(serials)
    return serials


async def until_there(ca: Daemon, url: str, place: Path) -> None:
    until = time.monotonic() + LIFETIME
    while (found := await asyncio.to_thread(fetch, ca, url, place)).status == 503 and time.monotonic() < until:
        assert found.headers["retry-after"] == "60"
        await asyncio.sleep(0.2)


async def status_of(client: AcmeClient, url: str) -> str:
    return str((await client.fetch(url))["status"])


def test_a_series_goes_on_over_a_kill_and_ends_when_it_is_canceled(offering: Site, tmp_path: Path) -> None:
    ca = offering.ca

    async def attempt() -> None:
        async with acme_client(ca) as client:
            await client.register()
            offered = client.directory["meta"]["auto-renewal"]
            assert offered == {"min-lifetime": 10, "max-duration": 3600, "allow-certificate-get": True}
            url, order = await start_series(client, "star.test", lifetime=LIFETIME, lasting=timedelta(minutes=10))
            assert order["auto-renewal"]["lifetime-adjust"] == 6 and "certificate" not in order
            where = order["star-certificate"]
            serials = await watch(ca, where, tmp_path, 1.6 * LIFETIME)
            assert len(serials) >= 2  # due when 4 and 14 seconds are over
            ca.kill()
            client.connection.close()
            await asyncio.sleep(1)
            await asyncio.to_thread(ca.start)
            await until_there(ca, where, tmp_path)  # what was due meanwhile is issued in a moment
            serials += await watch(ca, where, tmp_path, LIFETIME)
            assert (await client.post(where)).body == fetch(ca, where, tmp_path).body
            canceled = json.loads((await client.post(url, {"status": "canceled"})).body)
            assert canceled["status"] == await status_of(client, url) == "canceled"
            gone = await asyncio.to_thread(fetch, ca, where, tmp_path)
            assert (gone.status, json.loads(gone.body)["type"].rpartition(":")[2]) == (403, "autoRenewalCanceled")
            issued = [entry.serial for entry in inventory(ca) if "star.test" in entry.names]
            assert set(serials) <= set(issued) and STEPS <= len(issued) <= len(set(serials)) + 1
            await asyncio.sleep(LIFETIME)
            assert [entry.serial for entry in inventory(ca) if "star.test" in entry.names] == issued

    asyncio.run(attempt())


def test_a_series_ends_at_its_end(offering: Site, tmp_path: Path) -> None:
    ca = offering.ca

    async def attempt() -> None:
        async with acme_client(ca) as client:
            await client.register()
            lasting = timedelta(seconds=16)
            url, order = await start_series(client, "star.test", lifetime=LIFETIME, lasting=lasting)
            end = datetime.fromisoformat(order["auto-renewal"]["end-date"])
            left = (end - datetime.now(UTC)).total_seconds()
            await watch(ca, order["star-certificate"], tmp_path, left - 1)
            last = await asyncio.to_thread(fetch, ca, order["star-certificate"], tmp_path)
            assert last.dates[1] == end
            await asyncio.sleep(2)
            over = await asyncio.to_thread(fetch, ca, order["star-certificate"], tmp_path)
            assert (over.status, json.loads(over.body)["type"].rpartition(":")[2]) == (403, "autoRenewalExpired")
            assert await status_of(client, url) == "valid"

    asyncio.run(attempt())
