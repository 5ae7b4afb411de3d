"""Concurrent small clients that keep at it while the daemon dies and comes back, and remember what they were given.

An ACME client takes up its order where the connection broke; an EST client sends the same request again. What they
remember is held against the inventory afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from tests.interop.acme_client import AcmeClient, AcmeError, b64url, csr_for
from tests.interop.acme_load import connection_to, serving_tokens
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST

T = TypeVar("T")
GIVE_UP = 40.0  # seconds without any progress of one step
HEADERS = {"Content-Type": "application/pkcs10", **BASIC}


@dataclass
class Memory:
    """What clients received: serial by name; serials whose revocation was confirmed; orders seen; refusals met."""

    certificates: dict[str, int] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    orders: dict[str, str] = field(default_factory=dict)  # URL by name, the last one when one had to be made anew
    unexpected: list[str] = field(default_factory=list)
    chains: list[list[x509.Certificate]] = field(default_factory=list)  # as received, leaf first; EST gives no chain


class TryAgain(Exception):  # noqa: N818  (an instruction, not an error)
    """The server asked for patience."""


async def insist(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step until the daemon is there to answer it."""
    deadline = time.monotonic() + GIVE_UP
    while True:
        try:
            return await step()
        except (OSError, TimeoutError, TryAgain):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        except AcmeError as error:
            if error.status != 503 or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def once(step: Callable[[], Awaitable[T]]) -> T:
    """Do a step that must not fail, nor be asked for patience."""
    try:
        return await step()
    except (OSError, TimeoutError, TryAgain, AcmeError) as error:
        raise ValueError(f"not at the first try: {error!r}") from error


Insist = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


@dataclass
class AcmeWorker:
    """One ACME account that orders one name after another, and revokes every third certificate."""

    number: int
    client: AcmeClient
    memory: Memory
    stop: asyncio.Event
    insist: Insist = insist

    async def run(self) -> None:
        await self.insist(self.client.register)
        count = 0
        while not self.stop.is_set():
            count += 1
            name = f"order-{count}-{self.number}.test"
            try:
                await self._one(name, revoke=count % 3 == 0)
            except (AcmeError, ValueError, KeyError) as error:
                self.memory.unexpected.append(f"{name}: {error!r}")
        self.client.connection.close()

    async def _one(self, name: str, revoke: bool) -> None:
        csr = csr_for(ec.generate_private_key(ec.SECP256R1()), name)
        url, order = await self.insist(lambda: self.client.order(name))
        self.memory.orders[name] = url
        await self.insist(lambda: self.client.prove(order))
        done = await self.insist(lambda: self._finish(url, order, csr))
        pem = await self.insist(lambda: self.client.download(done))
        certificate, *chain = x509.load_pem_x509_certificates(pem)
        self.memory.chains.append([certificate, *chain])
        self.memory.certificates[name] = certificate.serial_number
        if revoke:
            await self.insist(lambda: self._revoke(certificate))

    async def _finish(self, url: str, order: dict[str, Any], csr: bytes) -> dict[str, Any]:
        thing = await self.client.fetch(url)
        if thing["status"] == "ready":
            try:
                return await self.client.finalize(url, order, csr)
            except AcmeError as error:
                if error.type != "orderNotReady":  # it was finalized before the connection broke
                    raise
        return await self.client.wait(url, {"processing", "ready"})

    async def _revoke(self, certificate: x509.Certificate) -> None:
        wish = {"certificate": b64url(certificate.public_bytes(Encoding.DER)), "reason": 4}
        try:
            await self.client.post(self.client.directory["revokeCert"], wish)
        except AcmeError as error:
            if error.type != "alreadyRevoked":  # it was done before the connection broke
                raise
        self.memory.revoked.add(certificate.serial_number)


@dataclass
class EstWorker:
    """One EST client: a new key and name each time, the same bytes again when the connection broke."""

    number: int
    ca: Daemon
    memory: Memory
    stop: asyncio.Event
    insist: Insist = insist

    async def run(self) -> None:
        connection = connection_to(self.ca)
        count = 0
        while not self.stop.is_set():
            count += 1
            name = f"est-{count}-{self.number}.test"
            csr = est_csr(name)

            async def post(csr: bytes = csr) -> bytes:
                answer = await connection.request("POST", f"{EST}/simpleenroll", HEADERS, csr)
                if answer.status in (202, 503):
                    raise TryAgain
                if answer.status != 200:
                    raise ValueError(f"{answer.status} {answer.body[:300]!r}")
                return answer.body

            try:
                self._remember(name, await self.insist(post))
            except ValueError as error:
                self.memory.unexpected.append(f"{name}: {error!r}")
        connection.close()

    def _remember(self, name: str, body: bytes) -> None:
        pem = b"-----BEGIN PKCS7-----\n" + body.strip() + b"\n-----END PKCS7-----\n"
        (certificate,) = pkcs7.load_pem_pkcs7_certificates(pem)
        self.memory.certificates[name] = certificate.serial_number
        self.memory.chains.append([certificate])


def est_csr(name: str) -> bytes:
    """A PEM request with a new key and `CN=name`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


async def load_during(
    ca: Daemon,
    drama: Callable[[Memory], Awaitable[None]],
    acme: int = 6,
    est: int = 3,
    insist: Insist = insist,
) -> Memory:
    """Keep the clients busy while `drama` happens; return when each has ended what it had begun."""
    memory, stop = Memory(), asyncio.Event()
    accounts = [AcmeClient(connection_to(ca)) for _ in range(acme)]
    workers: list[AcmeWorker | EstWorker] = [
        AcmeWorker(number, client, memory, stop, insist) for number, client in enumerate(accounts)
    ]
    workers += [EstWorker(number, ca, memory, stop, insist) for number in range(est)]
    async with serving_tokens(ca, accounts):
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            await drama(memory)
        finally:
            stop.set()
            await asyncio.gather(*running)
    return memory
