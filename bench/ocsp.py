"""The OCSP load: prepared requests over kept plain HTTP connections, by epoll and raw sockets."""

from __future__ import annotations

import hashlib
import random
import selectors
import socket
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench.measure import Tally

SHORTEST_ANSWER = 150  # bytes of body; an error status is 5 bytes, a signed answer some hundred
SAMPLE_EVERY = 16


@dataclass(frozen=True)
class OcspTask:
    """`serials` of one issuer, asked over `connections`: each once (`once`), or over and over for `seconds`."""

    port: int
    issuer_der: bytes
    serials: tuple[int, ...]
    connections: int
    seconds: float
    once: bool


def request_der(issuer: x509.Certificate, serial: int) -> bytes:
    """A request without a nonce, with the SHA-1 CertID most clients send."""
    name_hash = hashlib.sha1(issuer.subject.public_bytes()).digest()
    key_hash = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest  # SHA-1 of the key's bits
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, hashes.SHA1())
    return builder.build().public_bytes(Encoding.DER)


def http_post(body: bytes) -> bytes:
    """The whole HTTP request."""
    head = b"POST /ca/ocsp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/ocsp-request\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Asker:
    """One connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._received = b""
        self.asked_at = 0.0

    def ask(self, request: bytes, now: float) -> None:
        self.asked_at = now
        self.socket.send(request)

    def read(self) -> bytes | None:
        """The body when the answer is whole. Raises ConnectionError for anything but a 200 that is kept alive."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        data = self._received + piece
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            if not data.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(data[:200].decode(errors="replace"))
            at = data.lower().find(b"content-length:") + 15
            if len(data) >= end + 4 + int(data[at : data.find(b"\r\n", at)]):
                self._received = b""
                return data[end + 4 :]
        self._received = data
        return None


def ask_load(task: OcspTask, barrier: Barrier) -> Tally:
    """Ask as fast as the server answers. The first answer must say good; the others count by their length."""
    issuer = x509.load_der_x509_certificate(task.issuer_der)
    requests = [http_post(request_der(issuer, serial)) for serial in task.serials]
    random.Random(1).shuffle(requests)
    askers = [Asker(task.port) for _ in range(task.connections)]
    selector = selectors.DefaultSelector()
    for asker in askers:
        selector.register(asker.socket, selectors.EVENT_READ, asker)
    barrier.wait()
    return _run(task, requests, askers, selector)


def _run(task: OcspTask, requests: list[bytes], askers: list[Asker], selector: selectors.BaseSelector) -> Tally:
    began, cpu = time.perf_counter(), time.process_time()
    end = began + task.seconds
    total = len(requests)
    asked = answered = errors = 0
    latencies: list[float] = []
    first: bytes | None = None
    for asker in askers:
        if asked < total or not task.once:
            asker.ask(requests[asked % total], began)
            asked += 1
    waiting = asked
    while waiting:
        ready = selector.select(timeout=10)
        if not ready:
            raise RuntimeError("the server has not answered for 10 seconds")
        for key, _ in ready:
            asker = key.data
            body = asker.read()
            if body is None:
                continue
            now = time.perf_counter()
            answered += 1
            waiting -= 1
            first = first or body
            errors += len(body) < SHORTEST_ANSWER
            if answered % SAMPLE_EVERY == 0:
                latencies.append(now - asker.asked_at)
            if now < end and (asked < total or not task.once):
                asker.ask(requests[asked % total], now)
                asked += 1
                waiting += 1
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    check_good(first)
    return Tally(answered - errors, errors, seconds, spent, tuple(latencies))


def check_good(body: bytes | None) -> None:
    """Raise RuntimeError unless the answer says good: a rate of others would be worthless."""
    response = ocsp.load_der_ocsp_response(body or b"")
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise RuntimeError(f"the responder answered {response.response_status}")
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise RuntimeError(f"the responder said {response.certificate_status}")
