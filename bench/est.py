"""The enrolment loads: EST by password, EST by client certificate, `/ca/csr`; over kept TLS connections."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.measure import Tally
from tests.interop.wire import Answer, Connection, client_tls

SIMPLEENROLL = "/.well-known/est/simpleenroll"
SIMPLEREENROLL = "/.well-known/est/simplereenroll"
CACERTS = "/.well-known/est/cacerts"
API = "/ca/csr"
INVENTORY_PAGE = 1000


@dataclass(frozen=True)
class EnrolTask:
    """What each client of this process posts, and until when: after `seconds`, or `count` in all of this process.

    `identity`: files of a client certificate and its key; the requests then ask for the `subject` it has. `fresh`: each
    on a new connection, with its TLS handshake.
    """

    port: int
    trust_anchors: str
    path: str
    headers: dict[str, str]
    subject: str
    identity: tuple[str, str] | None
    clients: int
    seconds: float
    count: int | None = None
    fresh: bool = False


def csr_der(key: ec.EllipticCurvePrivateKey, subject: str) -> bytes:
    """A request in DER. Two for the same key and subject differ in their signature, so neither repeats the other."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def connection_of(task: EnrolTask) -> Connection:
    return Connection("localhost", task.port, client_tls(task.trust_anchors, *(task.identity or ())))


def enrol_load(task: EnrolTask, barrier: Barrier) -> Tally:
    """Each client posts one request after another."""
    return asyncio.run(_load(task, barrier))


async def _load(task: EnrolTask, barrier: Barrier) -> Tally:
    key = ec.generate_private_key(ec.SECP256R1())
    connections = [connection_of(task) for _ in range(task.clients)]
    if not task.fresh:
        for connection in connections:
            await connection.request("GET", "/directory")  # the handshake is not what is measured
    await asyncio.to_thread(barrier.wait)
    began, cpu = time.perf_counter(), time.process_time()
    latencies: list[float] = []
    errors: list[str] = []
    left = task.count if task.count is not None else 10**9

    async def keep_going(connection: Connection) -> None:
        nonlocal left
        while left > 0 and (start := time.perf_counter()) - began < task.seconds:
            left -= 1
            body = base64.b64encode(csr_der(key, task.subject))
            try:
                answer = await connection.request("POST", task.path, task.headers, body)
            except (OSError, TimeoutError) as error:
                errors.append(repr(error))
                continue
            if task.fresh:
                connection.close()
            if answer.status == 200:
                latencies.append(time.perf_counter() - start)
            else:
                errors.append(f"{answer.status} {answer.body[:200]!r}")

    await asyncio.gather(*(keep_going(connection) for connection in connections))
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    return Tally(len(latencies), len(errors), seconds, spent, tuple(latencies), errors[0] if errors else "")


async def enrol_once(task: EnrolTask, key: ec.EllipticCurvePrivateKey) -> bytes:
    """One certificate by EST for the task's subject: the base64 body of the answer."""
    body = base64.b64encode(csr_der(key, task.subject))
    answer = await connection_of(task).request("POST", task.path, task.headers, body)
    if answer.status != 200:
        raise RuntimeError(f"enrolment was refused: {answer.status} {answer.body!r}")
    return answer.body


async def serials_of(task: EnrolTask, issuer: str, most: int) -> tuple[int, ...]:
    """Serials of the good certificates of `issuer` in the inventory, at most `most`."""
    connection = connection_of(task)
    path: str | None = f"/ca/inventory?limit={INVENTORY_PAGE}"
    serials: list[int] = []
    while path and len(serials) < most:
        answer: Answer = await connection.request("GET", path, task.headers)
        if answer.status != 200:
            raise RuntimeError(f"the inventory was refused: {answer.status} {answer.body!r}")
        page = json.loads(answer.body)
        good = (c for c in page["certificates"] if c["issuer"] == issuer and c["status"] == "good")
        serials += [int(certificate["serial"], 16) for certificate in good]
        path = page.get("next")
    connection.close()
    return tuple(serials[:most])
