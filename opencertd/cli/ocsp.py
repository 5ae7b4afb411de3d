"""`opencert ocsp …`: what a responder says of a certificate."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

import click

from opencertd.cli.certificate import read_certificates
from opencertd.cli.files import shown
from opencertd.client.errors import ClientError
from opencertd.errors import StartError

if TYPE_CHECKING:
    from cryptography import x509

    from opencertd.client.ocsp_answer import OcspFinding

NONCE_OCTETS = 32  # RFC 9654 §2.1

_MEANING = {
    "good": "the CA has not revoked it",
    "revoked": "nobody is to rely on it any more",
    "unknown": "the responder knows of no such certificate",
}


@click.group()
def ocsp() -> None:
    """OCSP: what responders say of certificates, this CA's or any other."""


@ocsp.command(
    "check",
    epilog="""\b
Examples:
  opencert ocsp check www.pem
  opencert ocsp check www.pem --issuer issuing-ca.pem --url http://ca.example:5080/ca/ocsp --nonce

\b
Exit code 0 when the certificate is good; 1 when it is not, or when a client must not go by the answer. Whether the CA
is to be trusted is not looked at.""",
)
@click.argument("cert")
@click.option("--issuer", metavar="FILE", help="The issuing CA's certificate. [default: in CERT, else where CERT says]")
@click.option("--url", metavar="URL", help="The responder. [default: where CERT says]")
@click.option("--nonce", is_flag=True, help="Insist on an answer made for this question alone.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="For each exchange.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(*, cert: str, issuer: str | None, url: str | None, nonce: bool, timeout: float, as_json: bool) -> None:
    """Ask whether the certificate in the file CERT (PEM or DER) is good, and verify and explain the answer."""
    certificate, *others = read_certificates(cert)
    known = _issuer(certificate, read_certificates(issuer) if issuer else tuple(others), required=issuer)
    asked = secrets.token_bytes(NONCE_OCTETS) if nonce else None
    try:
        where, finding = _ask(certificate, known, url, asked, timeout)
    except ClientError as error:
        if as_json:
            click.echo(json.dumps({"status": None, "fault": str(error)}, indent=1))
        raise
    rows = _rows(certificate, where, finding)
    if as_json:
        revoked_at = None if finding.revoked_at is None else _moment(finding.revoked_at)
        more = {"revoked_at": revoked_at, "reason": finding.reason, "remarks": list(finding.remarks), "fault": None}
        click.echo(json.dumps({**rows, "status": finding.status, **more}, indent=1))
    else:
        for key, value in rows.items():
            click.echo(f"{key.replace('_', ' '):<12}  {value}")
        for remark in finding.remarks:
            click.echo(f"{'remark':<12}  {remark}")
    if finding.status != "good":
        raise StartError(f"the certificate in {shown(cert)} is {finding.status}: {_MEANING[finding.status]}")


def _issuer(
    certificate: x509.Certificate, candidates: tuple[x509.Certificate, ...], required: str | None
) -> x509.Certificate | None:
    """Who of these issued the certificate. Raises StartError when a file that was named has nobody who did."""
    from opencertd.client.ocsp_answer import is_issued_by

    for candidate in candidates:
        if is_issued_by(certificate, candidate):
            return candidate
    if required is not None:
        raise StartError(f"no certificate in {shown(required)} is that of the CA that issued this one")
    return None


def _ask(
    certificate: x509.Certificate, known: x509.Certificate | None, url: str | None, nonce: bytes | None, seconds: float
) -> tuple[str, OcspFinding]:
    """Where was asked, and what came of it. Raises ClientError."""
    from cryptography.x509.oid import AuthorityInformationAccessOID
    from twisted.internet.interfaces import IReactorTime

    from opencertd.cli.est_session import run_reactor
    from opencertd.client.ocsp import OcspClient, access_url
    from opencertd.client.ocsp_answer import OcspQuestion, judge
    from opencertd.clock import SystemClock

    where = url or access_url(certificate, AuthorityInformationAccessOID.OCSP)
    if where is None:
        raise ClientError("the certificate names no responder: give one by --url")

    async def ask(reactor: IReactorTime) -> OcspFinding:
        client = OcspClient(reactor, seconds)
        question = OcspQuestion(certificate, known or await client.issuer(certificate), nonce)
        return judge(await client.ask(where, question.encode()), question, SystemClock().now())

    return where, run_reactor(ask)


def _rows(certificate: x509.Certificate, where: str, finding: OcspFinding) -> dict[str, str]:
    from opencertd.asn1 import dn

    status = finding.status
    if finding.revoked_at is not None:
        status += f" since {_moment(finding.revoked_at)}, {finding.reason or 'no reason given'}"
        status += " (on hold: it may be good again)" if finding.reason == "certificateHold" else ""
    return {
        "certificate": dn.format_dn(certificate.subject) or "(its names are in subjectAltName)",
        "serial": f"{certificate.serial_number:x}",
        "status": status,
        "known_at": _moment(finding.this_update),
        "good_until": "it does not say" if finding.next_update is None else _moment(finding.next_update),
        "signed_at": _moment(finding.produced_at),
        "signed_by": finding.signed_by,
        "nonce": "echoed" if finding.nonce else "none was sent",
        "responder": where,
    }


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
