"""Published CRLs put where others serve them: into a directory, and by HTTP PUT. A job: what fails is tried again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import treq.client
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from opencertd.crl.messages import CrlForm
from opencertd.crl.server import CrlServer
from opencertd.crl.store import Line, PublishedCrl, line_of_key
from opencertd.errors import Refusal, RefusalKind
from opencertd.jobs.store import Job
from opencertd.keys.signer import Elsewhere

SECONDS = 30.0
"""For one PUT, so that all are done well within a job's lease."""

Put = Callable[[str, bytes], Awaitable[int]]
"""Puts the octets at the URL, and answers the HTTP status."""


@dataclass(frozen=True)
class Places:
    """A directory, and URLs below which CRLs are put."""

    directory: Path | None = None
    urls: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.directory is not None or bool(self.urls)


class Pusher:
    """`elsewhere` runs what blocks in a thread."""

    def __init__(self, places: Places, server: CrlServer, *, put: Put, elsewhere: Elsewhere[Any]) -> None:
        self._places = places
        self._server = server
        self._put = put
        self._elsewhere = elsewhere

    async def job(self, job: Job) -> datetime | None:
        """Put the latest CRL of the line in every place. Raises Refusal UNAVAILABLE, which says where that failed."""
        line = line_of_key(job.key)
        issuer = None if line is None else self._server.issuers.by_id(line.issuer_id)
        if line is None or issuer is None:
            raise Refusal(RefusalKind.UNAVAILABLE, "the issuer of that CRL is not known here yet")
        crl = await self._server.current(issuer, line)
        name, failed = file_name(issuer.name, line), []
        if self._places.directory is not None:
            failed += await self._write(self._places.directory / name, crl)
        # All at once: one after the other they could outlast the lease, and overtake who pushes the next CRL.
        sending = [Deferred.fromCoroutine(self._send(f"{url.rstrip('/')}/{name}", crl)) for url in self._places.urls]
        for said in await gatherResults(sending):
            failed += said
        if failed:
            raise Refusal(RefusalKind.UNAVAILABLE, "; ".join(failed))
        return None

    async def _write(self, path: Path, crl: PublishedCrl) -> list[str]:
        try:
            await self._elsewhere(lambda: replace_file(path, crl.crl_der))
        except OSError as error:
            return [f"{path} cannot be written: {error.strerror}"]
        return []

    async def _send(self, url: str, crl: PublishedCrl) -> list[str]:
        try:
            status = await self._put(url, crl.crl_der)
        except Exception as error:  # whatever it is, the next place gets its CRL, and this one is tried again
            return [f"{url} cannot be reached: {type(error).__name__}: {error}"]
        return [] if 200 <= status < 300 else [f"{url} answers {status}"]


def file_name(issuer: str, line: Line) -> str:
    """`ISSUER.crl`, `ISSUER~64-17.crl`, `ISSUER~delta.crl`: no issuer's name has a tilde, so none is another's."""
    word = line.key.partition("/")[2]
    return f"{issuer}~{word}.crl" if word else f"{issuer}.crl"


def replace_file(path: Path, content: bytes) -> None:
    """Put a file that all may read in the place of the one before, at once and durably. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def put_by_http(reactor: Any) -> Put:
    """PUT, TLS checked by the system's roots; redirects are not followed."""
    client = treq.client.HTTPClient(Agent(reactor, connectTimeout=10))  # type: ignore[no-untyped-call]
    headers = Headers({"Content-Type": [CrlForm.DER.value]})

    async def put(url: str, content: bytes) -> int:
        response = await client.put(
            url, data=content, headers=headers, timeout=SECONDS, unbuffered=True, allow_redirects=False
        )
        response.deliverBody(_NotRead())
        return int(response.code)

    return put


class _NotRead(Protocol):
    """What else the server says may have no end."""

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
