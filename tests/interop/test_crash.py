"""kill -9 under load: nothing a client was given is lost, nothing is doubled, nothing hangs, nothing goes backwards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeClient, csr_for
from tests.interop.acme_load import acme_client
from tests.interop.daemon import Daemon
from tests.interop.https import request_plain
from tests.interop.inventory import inventory
from tests.interop.load import Memory, load_during
from tests.interop.site import Site, site

BUSY = 2.5  # seconds of load between two blows


@pytest.fixture(params=[1, 3], ids=["one worker", "three workers"])
def fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A CA of this test's own."""
    with site(tmp_path, workers=request.param) as running:
        yield running


@pytest.fixture
def fresh_three(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, workers=3) as running:
        yield running


def crls(ca: Daemon) -> dict[str, x509.CertificateRevocationList]:
    """Every CRL by its issuer. Right after a first start they are not published yet (503)."""
    deadline = time.monotonic() + 5
    while (answer := request_plain(ca, "GET", "/ca/crl?format=pem")).status == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status == 200, answer
    blocks = re.findall(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n?", answer.body, re.DOTALL)
    found = [x509.load_pem_x509_crl(block) for block in blocks]
    assert found
    return {crl.issuer.rfc4514_string(): crl for crl in found}


def numbers(ca: Daemon) -> dict[str, int]:
    """CRL numbers by issuer."""
    return {
        issuer: crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for issuer, crl in crls(ca).items()
    }


def check_nothing_lost(ca: Daemon, memory: Memory) -> None:
    """Hold what clients remember against the inventory and the CRLs."""
    listed = inventory(ca)
    serials = Counter(entry.serial for entry in listed)
    assert all(count == 1 for count in serials.values())
    lost = {name: serial for name, serial in memory.certificates.items() if serial not in serials}
    assert not lost
    owners = Counter(name for entry in listed for name in {*entry.names, entry.subject.removeprefix("CN=")})
    doubled = {name: owners[name] for name in memory.certificates if owners[name] != 1}
    assert not doubled
    revoked = {entry.serial for entry in listed if entry.status == "revoked"}
    assert memory.revoked <= revoked
    on_crl = {entry.serial_number for crl in crls(ca).values() for entry in crl}
    assert memory.revoked <= on_crl


async def settle(ca: Daemon) -> None:
    """Time for the last CRL to be published."""
    await asyncio.sleep(1.5)
    assert ca.answers()


def test_kill_the_whole_daemon(fresh: Site) -> None:
    ca = fresh.ca
    before: dict[str, int] = {}

    async def drama(memory: Memory) -> None:
        for _ in range(2):
            await asyncio.sleep(BUSY)
            before.update(await asyncio.to_thread(numbers, ca))
            assert memory.certificates, "there was no load"
            ca.kill()
            await asyncio.to_thread(ca.start)
            after = await asyncio.to_thread(numbers, ca)
            assert all(after[issuer] >= number for issuer, number in before.items()), (before, after)
        await asyncio.sleep(1)

    memory = asyncio.run(load_during(ca, drama))
    assert memory.unexpected == []
    assert set(memory.orders) <= set(memory.certificates), "an order is stuck"
    assert memory.revoked
    asyncio.run(settle(ca))
    check_nothing_lost(ca, memory)
    assert any(numbers(ca)[issuer] > number for issuer, number in before.items())


def test_kill_workers(fresh_three: Site) -> None:
    """The others go on, and a new worker takes the place of the dead one."""
    ca = fresh_three.ca
    whole = len(ca.pids())
    assert whole >= 3

    async def drama(memory: Memory) -> None:
        for _ in range(2):
            await asyncio.sleep(BUSY)
            assert memory.certificates, "there was no load"
            os.kill(ca.pids()[-1], signal.SIGKILL)
        await asyncio.sleep(BUSY)

    memory = asyncio.run(load_during(ca, drama))
    assert memory.unexpected == []
    assert set(memory.orders) <= set(memory.certificates), "an order is stuck"
    asyncio.run(settle(ca))
    check_nothing_lost(ca, memory)
    assert within(10, lambda: len(ca.pids()) == whole), ca.pids()


def test_kill_the_first_process_only(fresh_three: Site) -> None:
    """Its workers do not outlive it: the next start finds its ports free."""
    ca = fresh_three.ca
    pids = ca.pids()
    assert ca.process is not None
    os.kill(pids[0], signal.SIGKILL)
    ca.process.wait()
    assert within(10, lambda: not any(alive(pid) for pid in pids)), [pid for pid in pids if alive(pid)]
    ca.kill()
    ca.start()


def test_a_stop_and_a_start_find_everything(fresh: Site) -> None:
    """The second start has the same CA, account, order, certificate and CRL number; and SIGTERM ends the first."""
    ca = fresh.ca

    async def first() -> tuple[AcmeClient, str, bytes]:
        async with acme_client(ca) as client:
            await client.register()
            url, order = await client.order("again.test")
            await client.prove(order)
            csr = csr_for(ec.generate_private_key(ec.SECP256R1()), "again.test")
            done = await client.finalize(url, order, csr)
            return client, url, await client.download(done)

    async def second(client: AcmeClient, url: str) -> bytes:
        account = client.account
        assert await client.register() == account
        return await client.download(await client.fetch(url))

    anchors, before = ca.trust_anchors.read_bytes(), numbers(ca)
    client, url, pem = asyncio.run(first())
    ca.stop()
    ca.start()
    assert ca.trust_anchors.read_bytes() == anchors
    assert asyncio.run(second(client, url)) == pem
    assert all(numbers(ca)[issuer] >= number for issuer, number in before.items())


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
