"""A hundred thousand bent requests of status on raw sockets: no 5xx, no hang, no growth, one answer each."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.daemon import Daemon
from tests.interop.https import Identity, enrol, request_plain
from tests.interop.site import Site
from tests.interop.status_mutants import DIGESTS, StatusMutants, question
from tests.interop.test_hostile import resident
from tests.interop.test_status import issuer_file

WARM_UP = 12_000
PIPELINED = 84_000
AT_ONCE = 32
LINES = 12
BENT_ANYWHERE = 4_000
GROWTH = 30_000_000
"""What three workers may grow by together, in bytes: by what they may remember of answers, and as allocators please."""
PATIENCE = 60.0
LOOK = 1.0
LAST = b"GET /ca/certificate HTTP/1.1\r\nHost: ca.test\r\nConnection: close\r\n\r\n"
STATUS = re.compile(rb"^HTTP/1\.1 ([0-9])[0-9][0-9] ", re.MULTILINE)


@pytest.fixture
def mutants(three_workers: Site, tmp_path: Path) -> StatusMutants:
    leaves = [enrol(three_workers.ca, tmp_path, f"bent-{number}.test") for number in range(3)]
    issuer = issuer_file(three_workers.ca, leaves[0].certificate, tmp_path)
    return StatusMutants(
        "status", [leaf.certificate for leaf in leaves], x509.load_pem_x509_certificate(issuer.read_bytes())
    )


async def opened(ca: Daemon) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", ca.http_port, limit=1 << 20)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    status = int(lines[0].split(" ")[1])
    body = await reader.readexactly(int(headers.get("content-length", "0"))) if status != 304 else b""
    return status, headers, body


async def ask_all(ca: Daemon, requests: Sequence[bytes]) -> list[tuple[int, str]]:
    """The status and media type of each, many at a time on one connection; a new one where the server ends it."""
    said: list[tuple[int, str]] = []
    while len(said) < len(requests):
        reader, writer = await opened(ca)
        closed = False
        while not closed and len(said) < len(requests):
            batch = requests[len(said) : len(said) + AT_ONCE]
            writer.write(b"".join(batch))
            for one in batch:
                try:
                    status, headers, _ = await asyncio.wait_for(read_answer(reader), PATIENCE)
                except (asyncio.IncompleteReadError, TimeoutError, OSError) as error:
                    raise AssertionError(f"no answer to {one!r}: {error!r}") from error
                assert status < 500, (status, one)
                said.append((status, headers.get("content-type", "")))
                if headers.get("connection", "").lower() == "close":
                    closed = True
                    break
        writer.transport.abort()
    return said


async def bombard(ca: Daemon, mutants: StatusMutants, count: int) -> Counter[int]:
    each = [[mutants.next() for _ in range(count // LINES)] for _ in range(LINES)]
    said = await asyncio.gather(*(ask_all(ca, requests) for requests in each))
    return Counter(status for line in said for status, _ in line)


async def bend(ca: Daemon, mutants: StatusMutants, count: int) -> Counter[str]:
    """One connection each, with bytes that may be no request, then a good one: the first digits of all statuses."""
    found: Counter[str] = Counter()

    async def one(data: bytes) -> None:
        reader, writer = await opened(ca)
        writer.write(data + LAST)
        answer = b""
        with contextlib.suppress(ConnectionError, TimeoutError):  # what is half a request still waits for the rest
            async with asyncio.timeout(LOOK):
                while more := await reader.read(65536):
                    answer += more
        writer.transport.abort()
        words = STATUS.findall(answer)
        assert b"5" not in words, (data, answer[:500])
        found.update(word.decode() for word in words)
        found["nothing"] += not words

    for _ in range(count // 200):
        await asyncio.gather(*(one(mutants.bent_anywhere()) for _ in range(200)))
    return found


def test_bent_requests_are_answered_or_refused(
    three_workers: Site, mutants: StatusMutants, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log, checked in the end, has no traceback."""
    ca = three_workers.ca
    began = time.monotonic()
    asyncio.run(bombard(ca, mutants, WARM_UP))
    before = resident(ca)
    statuses = asyncio.run(bombard(ca, mutants, PIPELINED))
    words = asyncio.run(bend(ca, mutants, BENT_ANYWHERE))
    grown, took = resident(ca) - before, time.monotonic() - began
    with capsys.disabled():
        print(f"\n{WARM_UP + PIPELINED + BENT_ANYWHERE} bent requests in {took:.0f} s: {dict(statuses)}")
        print(f"of those bent anywhere, by first digit: {dict(words)}; three workers grew by {grown / 1e6:.1f} MB")
    assert statuses.total() == PIPELINED
    assert words["nothing"] < BENT_ANYWHERE / 4
    assert {200, 304, 400, 404} <= set(statuses)
    assert grown < GROWTH
    assert request_plain(ca, "GET", "/ca/crl").status == 200


async def in_pieces(ca: Daemon, pieces: Sequence[bytes], count: int) -> list[tuple[int, str, bytes]]:
    """What is answered to so many requests that arrive in these pieces; without what differs from time to time."""
    reader, writer = await opened(ca)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.002)
    said = [await asyncio.wait_for(read_answer(reader), PATIENCE) for _ in range(count)]
    writer.transport.abort()
    return [
        (status, headers.get("content-type", ""), b"" if _is_ocsp(headers) else body) for status, headers, body in said
    ]


def _is_ocsp(headers: dict[str, str]) -> bool:
    return headers.get("content-type") == "application/ocsp-response"  # signed by each worker for itself


def test_split_at_every_byte_they_are_answered_as_if_whole(one_worker: Site, tmp_path: Path) -> None:
    ca = one_worker.ca
    leaf = enrol(ca, tmp_path, "split.test")
    requests = kinds(leaf, issuer_file(ca, leaf.certificate, tmp_path))
    data = b"".join(requests)

    async def split() -> None:
        whole = await in_pieces(ca, [data], len(requests))
        assert [status for status, _, _ in whole] == [200, 200, 304, 200, 404, 400, 200]
        for start in range(1, len(data), 40):
            cuts = range(start, min(start + 40, len(data)))
            found = await asyncio.gather(*(in_pieces(ca, (data[:cut], data[cut:]), len(requests)) for cut in cuts))
            for cut, said in zip(cuts, found, strict=True):
                assert said == whole, cut
        assert await in_pieces(ca, [data[at : at + 1] for at in range(len(data))], len(requests)) == whole

    asyncio.run(split())


def kinds(leaf: Identity, issuer: Path) -> list[bytes]:
    """What the express lane answers, and what it leaves to others, in turn."""
    body = question(leaf.certificate, x509.load_pem_x509_certificate(issuer.read_bytes()), DIGESTS[0], None)
    head = b"POST /ca/ocsp HTTP/1.1\r\nHost: a\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n"
    get = b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"
    return [
        head % len(body) + body,
        get % (b"/ca/ecdsa/crl", b""),
        get % (b"/ca/certificate", b"If-None-Match: *\r\n"),
        get % (b"/ca/rsa/certificate", b"Accept: */*\r\n"),
        get % (b"/ca/ecdsa/crl/4-1", b""),
        get % (b"/ca/crl?format=txt", b""),
        get % (b"/ca/rsa/crl?format=pem", b""),
    ]
