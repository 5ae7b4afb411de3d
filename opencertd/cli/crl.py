"""`opencert crl …`: the CRLs of this CA, having one made now, and what is to be thought of a CRL."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import desk_of, where_options
from opencertd.cli.files import read_input, report, shown
from opencertd.errors import StartError

if TYPE_CHECKING:
    from cryptography import x509

    from opencertd.crl.store import Line, PublishedCrl
    from opencertd.desk.deeds import Desk
    from opencertd.issuance.issuers import Issuer

_LOOK_SECONDS = 0.25


@click.group()
def crl() -> None:
    """Certificate revocation lists: those of this CA, and what a CRL in a file says."""


@crl.command(
    "show",
    epilog="""\b
Examples:
  opencert crl show --state-dir /var/lib/opencertd
  opencert crl show ecdsa --json --config /etc/opencertd/opencertd.toml""",
)
@click.argument("issuer", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@where_options
def show(*, issuer: str | None, as_json: bool, **where: Any) -> None:
    """Show the latest CRL of every issuer and part: its number, from when to when it holds, and how much it lists."""
    with desk_of(where) as desk:
        rows = [_row(one, published) for one in _chosen(desk, issuer) for published in _latest(desk, one)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        raise StartError("no CRL was published yet: the daemon does so when it starts")
    columns = ("issuer", "part", "number", "from", "until", "entries", "octets")
    widths = {column: max(len(column), *(len(str(row[column])) for row in rows)) for column in columns}
    click.echo("  ".join(f"{column:<{widths[column]}}" for column in columns).rstrip())
    for row in rows:
        click.echo("  ".join(f"{row[column]!s:<{widths[column]}}" for column in columns).rstrip())


@crl.command(
    "publish",
    epilog="""\b
Example:
  opencert crl publish ecdsa --state-dir /var/lib/opencertd""",
)
@click.argument("issuer", required=False)
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until the daemon has done it; 0: only ask for it.",
)
@where_options
def publish(*, issuer: str | None, wait: float, **where: Any) -> None:
    """Have the running daemon sign every CRL anew, of all issuers or of one. Revocations need none of this."""
    from opencertd.crl.server import JOB_KIND
    from opencertd.first_start import run_now

    with desk_of(where) as desk:
        before = {one.line: one for each in _chosen(desk, issuer) for one in _latest(desk, each) if each.has_key}
        if not before:
            raise StartError("there is no CRL to be made anew: the daemon makes the first when it starts")

        async def owe() -> None:
            for line in before:
                await desk.stores.jobs.enqueue(JOB_KIND, line.key, desk.clock.now())

        run_now(owe())
        left = _wait(desk, before, wait)
    if wait and left:
        raise StartError(
            f"{left} of {len(before)} CRLs were not made within {wait:g} s: is the daemon running? It will make them"
        )
    report(f"{len(before)} CRLs were {'published' if wait else 'asked for'}")


def _wait(desk: Desk, before: dict[Line, PublishedCrl], seconds: float) -> int:
    """How many CRLs have no successor yet after so many seconds at most."""
    from opencertd.first_start import run_now

    async def number(line: Line) -> int:
        return await desk.stores.crls.latest_number(line)

    until = time.monotonic() + seconds
    waiting = list(before)
    while waiting and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        waiting = [line for line in waiting if run_now(number(line)) == before[line].number]
    return len(waiting)


@crl.command(
    "verify",
    epilog="""\b
Examples:
  curl -s http://ca.example/ca/ecdsa/crl | opencert crl verify - --issuer issuing-ca.pem
  opencert crl verify ecdsa.crl --issuer issuing-ca.pem --cert www.pem

\b
Exit code 1 when a client must not go by the CRL, or when the certificate is on it.""",
)
@click.argument("file")
@click.option("--issuer", required=True, metavar="FILE", help="The certificate of the CA that signs the CRL.")
@click.option("--cert", metavar="FILE", help="Also tell whether this certificate is on it.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(*, file: str, issuer: str, cert: str | None, as_json: bool) -> None:
    """Tell what a CRL in FILE (PEM or DER, - for standard input) says, and whether clients may go by it."""
    from opencertd.clock import SystemClock
    from opencertd.crl.inspection import faults, see

    found = _read_crl(file)
    certificate = None if cert is None else _read_certificate(cert)
    try:
        seen = see(found)
        wrong = list(faults(found, _read_certificate(issuer), SystemClock().now()))
    except ValueError as error:
        raise StartError(f"the CRL in {shown(file)} has an extension that cannot be read: {error}") from None
    said = {key: _shown(value) for key, value in asdict(seen).items() if value not in {None, ()}}
    verdict = None if certificate is None else _verdict(found, certificate)
    if as_json:
        click.echo(json.dumps({**said, "faults": wrong, "certificate": verdict}, indent=1))
    else:
        for key, value in said.items():
            click.echo(f"{key.replace('_', ' '):<12}  {value}")
        if verdict:
            click.echo(f"{'certificate':<12}  {verdict}")
    if wrong:
        raise StartError("; ".join(wrong))
    if verdict and verdict != _NOT_LISTED:
        raise StartError(f"the certificate: {verdict}")


_NOT_LISTED = "not on it"


def _verdict(found: x509.CertificateRevocationList, certificate: x509.Certificate) -> str:
    from opencertd.crl.inspection import entry_of, speaks_of

    other = speaks_of(found, certificate)
    if other is not None:
        return f"it does not speak of it: {other}"
    entry = entry_of(found, certificate.serial_number)
    if entry is None:
        return _NOT_LISTED
    return f"revoked at {entry.revoked_at:%Y-%m-%d %H:%M:%S} UTC, {entry.reason}"


def _shown(value: object) -> object:
    from cryptography import x509

    from opencertd.asn1 import dn

    if isinstance(value, x509.Name):
        return dn.format_dn(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, int) else str(value)


def _read_crl(file: str) -> x509.CertificateRevocationList:
    from cryptography import x509

    data = read_input(file)
    try:
        return x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)
    except ValueError:
        raise StartError(f"{shown(file)} is no CRL") from None


def _read_certificate(file: str) -> x509.Certificate:
    from cryptography import x509

    data = read_input(file)
    try:
        return x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except ValueError:
        raise StartError(f"{shown(file)} is no certificate") from None


def _chosen(desk: Desk, name: str | None) -> tuple[Issuer, ...]:
    return desk.issuers().all() if name is None else (desk.deeds().issuer(name),)


def _latest(desk: Desk, issuer: Issuer) -> list[PublishedCrl]:
    """The latest CRL of each of the issuer's lines, that of all certificates first, then by part."""
    from opencertd.first_start import run_now

    async def latest() -> list[PublishedCrl]:
        lines = [each.line for each in await desk.stores.crls.standing(issuer.id)]
        found = [await desk.stores.crls.latest(line) for line in sorted(lines, key=_order)]
        return [one for one in found if one is not None]

    return run_now(latest())


def _order(line: Line) -> tuple[bool, tuple[int, int], str]:
    return line.delta, line.part.shard or (0, 0), line.part.word


def _row(issuer: Issuer, published: PublishedCrl) -> dict[str, Any]:
    from opencertd.crl.messages import serials_of

    return {
        "issuer": issuer.name,
        "part": "delta" if published.base is not None else published.part.word or "all",
        "number": published.number,
        "from": f"{published.this_update:%Y-%m-%d %H:%M:%S}",
        "until": f"{published.next_update:%Y-%m-%d %H:%M:%S}",
        "entries": len(serials_of(published.crl_der)),
        "octets": len(published.crl_der),
    }
