"""`opencert est-server-certificates`: the CA's certificates from an EST server, also from one that is not known yet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from cryptography import x509

from opencertd.cli.describe import title
from opencertd.cli.est import connection_options
from opencertd.cli.files import OutputFile, report
from opencertd.cli.keys import shown_output
from opencertd.cli.options import force_option, out_option

if TYPE_CHECKING:  # what speaks to the network is imported when the command runs
    from opencertd.cli.est_session import Connection


@click.command(
    "est-server-certificates",
    short_help="Get the CA's certificates by EST.",
    epilog="""\b
Examples:
  opencert est-server-certificates --server https://ca.example:5001 --trust-anchors trust-anchors.pem --out ca.pem
  opencert est-server-certificates --server ca.example:5001 --trust-anchors trust-anchors.pem --out - \\
      | opencert print-cert -
  opencert est-server-certificates --server ca.example:5001 --bootstrap --out trust-anchors.pem \\
      --fingerprint 9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08""",
)
@connection_options
@click.option(
    "--bootstrap",
    is_flag=True,
    help="Ask a server that nothing vouches for yet, and trust what the fingerprints confirm.",
)
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    metavar="HEX",
    help="SHA-256 (or SHA-512) of a CA certificate that you know from elsewhere. May be repeated. [default: ask]",
)
@out_option("the CA certificates (PEM)")
@force_option
def est_server_certificates(
    *, connection: Connection, bootstrap: bool, fingerprints: tuple[str, ...], out: str, force: bool
) -> None:
    """Get the CA's own certificates (EST's cacerts).

    With --bootstrap from a server that cannot be verified yet: they are written when their fingerprints are those that
    you were told another way, by --fingerprint or by comparing them when asked (RFC 7030 section 4.1.1).
    """
    from opencertd.cli.est_session import certificates_pem, run_est

    if fingerprints and not bootstrap:
        raise click.UsageError("--fingerprint belongs to --bootstrap")
    if bootstrap:
        _bootstrap(connection, fingerprints, out, force)
        return
    with OutputFile(out, force=force) as file:
        certificates = run_est(connection, lambda client: client.cacerts())
        file.commit(certificates_pem(certificates))
    report(f"{len(certificates)} CA certificates written to {shown_output(out)}")


def _bootstrap(connection: Connection, fingerprints: tuple[str, ...], out: str, force: bool) -> None:
    from opencertd.cli.est_session import certificates_pem, confirm, run_est
    from opencertd.client.bootstrap import fingerprint, introduce, parse_fingerprint

    if connection.trust_anchors or connection.user or connection.password_file or connection.cert or connection.key:
        raise click.UsageError(
            "--bootstrap is for a server that is not known: leave out --trust-anchors, and prove nothing to it by "
            "--user or --cert"
        )
    wanted = [parse_fingerprint(text) for text in fingerprints]
    if not wanted and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to compare fingerprints on: give --fingerprint")

    def compared(certificate: x509.Certificate) -> bool:
        report(f"the server calls this a root: {title(certificate)}\nSHA-256 fingerprint: {fingerprint(certificate)}")
        return confirm("Is this the fingerprint that you were told by somebody you trust?")

    with OutputFile(out, force=force) as file:
        found = introduce(run_est(connection, lambda client: client.cacerts(), unverified=True), wanted, compared)
        file.commit(certificates_pem((*found.anchors, *found.others)))
    for certificate in found.left_out:
        report(f"left out, since it leads to nothing confirmed: {title(certificate)}, {fingerprint(certificate)}")
    many = "certificate" if len(found.anchors) == 1 else "certificates"
    report(f"{len(found.anchors)} confirmed {many} and {len(found.others)} issued below written to {shown_output(out)}")
