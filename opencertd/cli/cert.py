"""`opencert cert …`: what became of a certificate that the CA issued, and changing it, by the CA's `/ca` API."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.files import report
from opencertd.client.errors import ClientError
from opencertd.model.certificates import FINAL_REASONS, RevocationReason

if TYPE_CHECKING:  # what speaks to the network is imported when a command runs: `--help` stays quick
    from opencertd.cli.ca_session import CaConnection

_REASONS = tuple(reason.rfc_name for reason in sorted(FINAL_REASONS))
_CONNECTION = (
    click.option("--server", required=True, metavar="URL", help="https://HOST[:PORT] of the CA."),
    click.option(
        "--trust-anchors", metavar="FILE", help="CA certificates to trust. [default: those of the operating system]"
    ),
    click.option(
        "--cert", required=True, metavar="FILE", help="Client certificate to show (PEM, may hold its chain and key)."
    ),
    click.option("--key", metavar="FILE", help="The client certificate's private key. [default: in the same file]"),
    click.option("--passphrase-file", metavar="FILE", help="Passphrase of an encrypted key, on the file's first line."),
    click.option(
        "--timeout",
        type=click.FloatRange(1, 3600),
        default=30,
        metavar="SECONDS",
        help="How long to wait for the answer. [default: 30]",
    ),
)
_issuer = click.option(
    "--issuer", metavar="NAME", help="The issuing CA (such as ecdsa), when several used the serial number."
)
_invalidity_date = click.option(
    "--invalidity-date",
    metavar="TIME",
    help="Since when it is known or suspected not to be good, in UTC: 2026-06-01T12:00:00Z.",
)


def _connected(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which CA to ask and who we are, handed on as one `connection`; and SERIAL."""

    @functools.wraps(command)
    def gathered(**options: Any) -> None:
        from opencertd.cli.ca_session import CaConnection

        connection = CaConnection(**{name: options.pop(name) for name in CaConnection.__dataclass_fields__})
        command(connection=connection, **options)

    for option in reversed(_CONNECTION):
        gathered = option(gathered)
    return click.argument("serial")(gathered)


@click.group()
def cert() -> None:
    """Certificates the CA has issued: revoke, hold, reinstate and show them.

    SERIAL is the serial number in hex, as print-cert and openssl show it.
    """


_EXAMPLE = """\b
Example:
  opencert cert {0} 01A5FE09 --server https://ca.example:5001 \\
      --trust-anchors trust-anchors.pem --cert operator.pem --key operator.key"""


@cert.command("revoke", short_help="Revoke a certificate for good.", epilog=_EXAMPLE.format("revoke"))
@_connected
@click.option(
    "--reason",
    type=click.Choice(_REASONS, case_sensitive=False),
    default="unspecified",
    metavar="NAME",
    help=f"Why: {', '.join(_REASONS)}. [default: unspecified]",
)
@_invalidity_date
@_issuer
def revoke(
    *, connection: CaConnection, serial: str, reason: str, invalidity_date: str | None, issuer: str | None
) -> None:
    """Revoke a certificate for good, also one that is on hold.

    A certificate may revoke itself; revoking another needs a certificate of a revoker. The reason of a revoked
    certificate may still be changed to keyCompromise.
    """
    _revoke(connection, serial, reason, invalidity_date, issuer)


@cert.command("hold", short_help="Suspend a certificate.", epilog=_EXAMPLE.format("hold"))
@_connected
@_invalidity_date
@_issuer
def hold(*, connection: CaConnection, serial: str, invalidity_date: str | None, issuer: str | None) -> None:
    """Suspend a certificate: everybody refuses it until it is reinstated or revoked.

    A certificate may hold itself; it cannot reinstate itself.
    """
    _revoke(connection, serial, RevocationReason.CERTIFICATE_HOLD.rfc_name, invalidity_date, issuer)


def _revoke(
    connection: CaConnection, serial: str, reason: str, invalidity_date: str | None, issuer: str | None
) -> None:
    from opencertd.cli.ca_session import run_ca

    changed = run_ca(connection, lambda ca: ca.revoke(serial, reason, invalidity_date=invalidity_date, issuer=issuer))
    _report(changed)


@cert.command("reinstate", short_help="End a hold.", epilog=_EXAMPLE.format("reinstate"))
@_connected
@_issuer
def reinstate(*, connection: CaConnection, serial: str, issuer: str | None) -> None:
    """End the hold of a certificate, which is good again then. Needs a certificate of a revoker."""
    from opencertd.cli.ca_session import run_ca

    _report(run_ca(connection, lambda ca: ca.reinstate(serial, issuer=issuer)))


@cert.command("show", short_help="Show what became of a certificate.", epilog=_EXAMPLE.format("show"))
@_connected
def show(*, connection: CaConnection, serial: str) -> None:
    """Show what the CA knows of a certificate, and the history of its revocation, as lines `Label: value`."""
    from opencertd.cli.ca_session import run_ca

    found = run_ca(connection, lambda ca: ca.certificates(serial))
    shown = ["".join(f"{label}: {_plain(value)}\n" for label, value in _lines(one)) for one in found]
    click.echo("\n".join(shown), nl=False)


def _report(certificate: dict[str, Any]) -> None:
    status = f"{_plain(certificate.get('status'))}{_why(certificate.get('revocation'))}"
    report(f"certificate {_plain(certificate.get('serial'))} ({_plain(certificate.get('subject'))}) is {status}")


_LABELS = {
    "serial": "Serial number",
    "subject": "Subject",
    "issuer": "Issuer",
    "profile": "Profile",
    "requester": "Requester",
    "notBefore": "Valid from",
    "notAfter": "Valid until",
}


def _lines(certificate: dict[str, Any]) -> Iterator[tuple[str, object]]:
    try:
        for name, label in _LABELS.items():
            yield label, "unknown" if certificate[name] is None else certificate[name]
        for name in certificate["names"]:
            yield "Name", f"{name['type']}:{name['value']}"
        yield "Status", f"{certificate['status']}{_why(certificate['revocation'])}"
        for change in certificate["history"]:
            by = f" by {change['by']}" if change["by"] else ""
            yield "History", f"{change['changed']} {change['status']}{_why(change['revocation'])}{by}"
    except (KeyError, TypeError):
        raise ClientError("the server's answer does not describe a certificate") from None


def _why(revocation: Any) -> str:
    if not isinstance(revocation, dict):
        return ""
    since = revocation.get("invalidityDate")
    return f" since {revocation.get('at')} ({revocation.get('reason')})" + (
        f", not good since {since}" if since else ""
    )


def _plain(value: object) -> str:
    """Words of a server, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
