"""Slow senders, huge bodies, hang-ups and random bytes: each gets its refusal, nobody else notices, nothing breaks."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeClient, b64url, csr_for, path_of
from tests.interop.acme_load import acme_client
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, request
from tests.interop.inventory import inventory
from tests.interop.site import Site
from tests.interop.slow import Dripper, tcp_socket

HUGE = 30_000_000
SEED = 20240607


def resident(ca: Daemon) -> int:
    """Resident memory of all the daemon's processes, in bytes."""
    total = 0
    for pid in ca.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return total


def test_others_are_served_meanwhile(ca: Daemon, drippers: dict[str, Dripper]) -> None:
    began = time.monotonic()
    assert request(ca, "GET", "/directory").status == 200
    assert time.monotonic() - began < 5
    assert len(drippers) == 5


@pytest.mark.parametrize("path", ["/new-order", f"{EST}/simpleenroll", "/ca/csr", "/ca/ocsp", "/nowhere"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body(ca: Daemon, drippers: dict[str, Dripper], path: str, chunked: bool) -> None:
    """It is refused (413, or the connection ends), and not kept in memory on the way."""
    before = resident(ca)
    piece = b"\x30" * 65536
    pieces = (piece for _ in range(HUGE // len(piece)))
    connection = http.client.HTTPSConnection(
        "localhost", ca.port, timeout=30, context=ssl.create_default_context(cafile=str(ca.trust_anchors))
    )
    length = {} if chunked else {"Content-Length": str(HUGE)}
    kind = {"Content-Type": "application/pkcs10"}
    try:
        connection.request("POST", path, pieces, {**BASIC, **length, **kind}, encode_chunked=chunked)
        status = connection.getresponse().status
    except OSError:
        status = None  # ended while we were sending
    finally:
        connection.close()
    assert status in (None, 413), status
    assert resident(ca) - before < 25_000_000
    assert request(ca, "GET", "/directory").status == 200


def test_hang_up_during_finalize(each_site: Site) -> None:
    """Whoever finalizes and leaves at once finds the order valid later, with one certificate."""
    ca, count = each_site.ca, 12

    async def attempts() -> None:
        async with acme_client(ca) as client:
            await client.register()
            for number in range(count):
                pem = await finalize_and_leave(ca, client, f"hang-up-{number}x.test", pause=number * 0.002)
                assert b"BEGIN CERTIFICATE" in pem

    asyncio.run(attempts())
    names = [name for entry in inventory(ca) for name in entry.names if name.startswith("hang-up-")]
    assert len(names) == len(set(names)) == count


async def finalize_and_leave(ca: Daemon, client: AcmeClient, name: str, pause: float) -> bytes:
    """Order, prove, finalize without waiting for the answer; then ask for the certificate."""
    csr = csr_for(ec.generate_private_key(ec.SECP256R1()), name)
    url, order = await client.order(name)
    await client.prove(order)
    body = client.sign(order["finalize"], await client.nonce(), {"csr": b64url(csr)})
    await say_and_leave(ca, path_of(order["finalize"]), body, pause)
    thing = await client.wait(url, {"processing"})
    if thing["status"] == "ready":  # the request was not read before the connection ended
        thing = await client.finalize(url, order, csr)
    return await client.download(thing)


async def say_and_leave(ca: Daemon, path: str, body: bytes, pause: float) -> None:
    """POST a JWS and cut the connection `pause` seconds later, unread."""
    context = ssl.create_default_context(cafile=str(ca.trust_anchors))
    _, writer = await asyncio.open_connection("localhost", ca.port, ssl=context)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    await asyncio.sleep(pause)
    writer.transport.abort()


PATHS = [
    "/",
    "/directory",
    "/new-nonce",
    "/new-account",
    "/new-order",
    "/order/x",
    "/order/x/finalize",
    "/order/x/certificate",
    "/authorization/x",
    "/challenge/x",
    "/account/x",
    "/revoke-cert",
    "/key-change",
    f"{EST}/cacerts",
    f"{EST}/csrattrs",
    f"{EST}/simpleenroll",
    f"{EST}/simplereenroll",
    f"{EST}/serverkeygen",
    f"{EST}/rsa/simpleenroll",
    f"{EST}/nonsense/simpleenroll",
    "/ca/ocsp",
    "/ca/ocsp/AAAA",
    "/ca/crl",
    "/ca/rsa/crl",
    "/ca/nonsense/crl",
    "/ca/certificate",
    "/ca/csr",
    "/ca/inventory",
    "/ca/inventory/zz",
    "/ca/revoke",
]
TYPES = [
    "application/jose+json",
    "application/pkcs10",
    "application/ocsp-request",
    "application/json",
    "multipart/form-data; boundary=x",
    "\x80\xff; charset=\xfe",
]


def bodies(source: random.Random) -> list[bytes]:
    """Bytes at random, and well-formed things damaged at one place."""
    csr = csr_for(ec.generate_private_key(ec.SECP256R1()), "fuzz.test")
    damaged = bytearray(csr)
    damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
    jws = b'{"protected":"%s","payload":"%s","signature":"AA"}' % (
        b64url(b'{"alg":"ES256","nonce":"x","url":[]}').encode(),
        b64url(b"[]").encode(),
    )
    return [
        b"",
        source.randbytes(source.randrange(1, 400)),
        bytes(damaged),
        csr[: source.randrange(len(csr))],
        jws,
        b'{"protected": 1, "payload": null, "signature": {}}',
        b"[" * 20000,
        b"\x30\x84\xff\xff\xff\xff" + source.randbytes(20),
        b"-----BEGIN CERTIFICATE REQUEST-----\n%s\n" % b64url(source.randbytes(60)).encode(),
        b"\x30\x80" * 3000,
    ]


@pytest.mark.parametrize("path", PATHS)
def test_random_bytes(ca: Daemon, drippers: dict[str, Dripper], path: str) -> None:
    """No answer has a status of 500 or above, and the log (checked in the end) has no traceback."""
    source = random.Random(f"{SEED}{path}")
    context = ssl.create_default_context(cafile=str(ca.trust_anchors))
    connection = http.client.HTTPSConnection("localhost", ca.port, timeout=30, context=context)
    for method in ("POST", "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        some = bodies(source) if method == "POST" else [source.randbytes(50)]
        for body in some:
            suffix = source.choice(["", "?sn=%ff&reason=%00&signature=.", "/%00%ff/..", "?format=pem&format=der"])
            headers = {"Content-Type": source.choice(TYPES), **(BASIC if source.random() < 0.7 else {})}
            connection.request(method, path + suffix, body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status < 500, (method, path + suffix, body[:80], answer.status)
    connection.close()


AUTHORIZATIONS = [
    "Basic",
    "Basic !!!!",
    "Basic " + "A" * 8000,
    "Basic //////////8=",
    "Digest",
    'Digest username="estuser", realm="x", nonce="y", uri="/", response="z"',
    'Digest username="\x80", realm=, nonce=""',
    'Digest username="estuser',
    "Bearer",
    "Bearer a.b.c",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
    "\x80\xff",
]


@pytest.mark.parametrize("authorization", AUTHORIZATIONS)
def test_random_credentials(each_site: Site, authorization: str) -> None:
    for path in (f"{EST}/simpleenroll", "/ca/csr"):
        headers = {"Authorization": authorization, "Content-Type": "application/pkcs10"}
        answer = request(each_site.ca, "POST", path, b"x", headers)
        assert answer.status in (400, 401), (path, answer)


@pytest.mark.parametrize("port", ["port", "http_port"])
def test_bytes_that_are_no_request(ca: Daemon, drippers: dict[str, Dripper], port: str) -> None:
    """Straight into the sockets: no TLS, no HTTP, half of one. The daemon answers the next one as ever."""
    source = random.Random(SEED)
    openings = [b"", b"GET ", b"\x16\x03\x01", b"GET / HTTP/9.9\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
    for opening in openings * 6:
        with tcp_socket(getattr(ca, port)) as sock:
            sock.settimeout(0.3)
            sock.sendall(opening + source.randbytes(source.randrange(1, 3000)))
            if source.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(4096):
                    pass
            except OSError:
                pass
    assert request(ca, "GET", "/directory").status == 200


def test_plain_http_serves_status_only(ca: Daemon) -> None:
    """What needs TLS is not there without it."""
    for path in ("/directory", "/new-nonce", f"{EST}/cacerts", f"{EST}/simpleenroll", "/ca/csr", "/ca/inventory"):
        connection = http.client.HTTPConnection("localhost", ca.http_port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status in (404, 403), path
        connection.close()
