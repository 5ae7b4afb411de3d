"""Names whose DNS never answers hold up their own validation and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.interop.acme_load import acme_client
from tests.interop.https import enrol
from tests.interop.inventory import inventory
from tests.interop.revoking import revoke
from tests.interop.site import Site
from tests.interop.test_crash import crls, within

MANY = 45  # more than a worker validates at once


def test_a_revocation_is_published_while_validations_hang(one_worker: Site, tmp_path: Path) -> None:
    ca = one_worker.ca
    with one_worker.dns.records.open("a") as records:
        records.writelines(f"silent-{number}.test SILENCE\n" for number in range(MANY))
    victim = enrol(ca, tmp_path, "victim.test")

    async def begin() -> None:
        async with acme_client(ca) as client:
            await client.register()
            for number in range(MANY):
                _, order = await client.order(f"silent-{number}.test")
                authorization = await client.fetch(order["authorizations"][0])
                (challenge,) = (c for c in authorization["challenges"] if c["type"] == "http-01")
                await client.post(challenge["url"], {})

    asyncio.run(begin())
    revoke(ca, victim, "superseded")
    serial = victim.certificate.serial_number
    assert any(entry.serial == serial and entry.status == "revoked" for entry in inventory(ca))
    assert within(2, lambda: any(entry.serial_number == serial for crl in crls(ca).values() for entry in crl))
