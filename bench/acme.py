"""The ACME load: whole flows (order, http-01, finalize, download) by clients with accounts and kept connections."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.measure import Tally
from tests.interop.acme_client import AcmeClient, AcmeError, csr_for
from tests.interop.responders import Http01, LoopbackDns
from tests.interop.wire import Connection, client_tls


@dataclass(frozen=True)
class AcmeTask:
    """`accounts`: number and private key (DER) of each client of this process. `label` keeps names apart.

    `directory`: the path at which the server says where everything is.
    """

    port: int
    trust_anchors: str
    accounts: tuple[tuple[int, bytes], ...]
    label: str
    seconds: float
    directory: str = "/directory"


@dataclass(frozen=True)
class RespondersTask:
    """Where validation looks: the http-01 and DNS ports. Names begin with the number of an account: `7-…`."""

    http01_port: int
    dns_port: int
    thumbprints: tuple[str, ...]


def new_account_key() -> bytes:
    """A private key in DER, to be handed to other processes."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain)


def load_key(der: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def acme_load(task: AcmeTask, barrier: Barrier) -> Tally:
    """Each client registers before the start, then makes one flow after another until the time is over."""
    return asyncio.run(_load(task, barrier))


async def _load(task: AcmeTask, barrier: Barrier) -> Tally:
    tls = client_tls(task.trust_anchors)
    clients = {
        number: AcmeClient(Connection("localhost", task.port, tls), load_key(key)) for number, key in task.accounts
    }
    for client in clients.values():
        await client.register(task.directory)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    await asyncio.to_thread(barrier.wait)
    began, cpu = time.perf_counter(), time.process_time()
    latencies: list[float] = []
    finalize: list[float] = []
    errors: list[str] = []

    async def keep_going(number: int, client: AcmeClient) -> None:
        for count in itertools.count():
            start = time.perf_counter()
            if start - began >= task.seconds:
                return
            try:
                finalize.append(await _flow(client, f"{number}-{task.label}-{count}.test", leaf_key))
            except (AcmeError, OSError, TimeoutError, ValueError) as error:
                errors.append(repr(error))
            else:
                latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(keep_going(number, client) for number, client in clients.items()))
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    first_error = errors[0] if errors else ""
    return Tally(len(latencies), len(errors), seconds, spent, tuple(latencies), first_error, tuple(finalize))


async def _flow(client: AcmeClient, name: str, key: ec.EllipticCurvePrivateKey) -> float:
    """Everything from order to download for one name; seconds until the order was valid since it was finalized."""
    url, order = await client.order(name)
    await client.prove(order)
    csr_der = csr_for(key, name)
    began = time.perf_counter()
    done = await client.finalize(url, order, csr_der)
    took = time.perf_counter() - began
    await client.download(done)
    return took


def serve_validations(task: RespondersTask, ready: Barrier) -> None:
    """Answer http-01 and DNS until the process is ended."""
    asyncio.run(_serve(task, ready))


async def _serve(task: RespondersTask, ready: Barrier) -> None:
    loop = asyncio.get_running_loop()

    def key_authorization(host: str, token: str) -> str:
        return f"{token}.{task.thumbprints[int(host.partition('-')[0])]}"

    server = await loop.create_server(lambda: Http01(key_authorization), "127.0.0.1", task.http01_port, backlog=1000)
    await loop.create_datagram_endpoint(LoopbackDns, local_addr=("127.0.0.1", task.dns_port))
    ready.wait()
    async with server:
        await server.serve_forever()
