"""What a client of certificates that renew themselves (RFC 8739) needs beside ACME: to order, to fetch, to cancel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeClient, csr_for
from tests.interop.clients import program, run
from tests.interop.daemon import Daemon


@dataclass(frozen=True)
class Fetched:
    """What a GET of a star-certificate brought. `problem`: the ACME error's type, where it brought none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.body)[0]

    @property
    def dates(self) -> tuple[datetime, datetime]:
        """Those that the header says."""
        before, after = (self.headers[name].strip('"') for name in ("cert-not-before", "cert-not-after"))
        return parsedate_to_datetime(before), parsedate_to_datetime(after)


async def start_series(
    client: AcmeClient, name: str, *, lifetime: int, lasting: timedelta
) -> tuple[str, dict[str, Any]]:
    """An order that is valid; its URL, and what it says."""
    end = datetime.now(UTC) + lasting
    wish = {"end-date": end.isoformat(), "lifetime": lifetime, "allow-certificate-get": True}
    url, order = await client.order(name, **{"auto-renewal": wish})
    await client.prove(order)
    return url, await client.finalize(url, order, csr_for(ec.generate_private_key(ec.SECP256R1()), name))


def fetch(ca: Daemon, url: str, place: Path) -> Fetched:
    """As a CDN does it: by curl, with no account."""
    head, body = place / "head", place / "body"
    options = ("--silent", "--show-error", "--max-time", "10", "--cacert", str(ca.trust_anchors))
    run(*program("curl"), *options, "--dump-header", str(head), "--output", str(body), url)
    status, *lines = head.read_text().strip().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Fetched(int(status.split()[1]), headers, body.read_bytes())
