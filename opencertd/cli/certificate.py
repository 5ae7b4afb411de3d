"""`opencert print-cert`, and how every command reads certificates from files."""

from __future__ import annotations

import sys

import click
from cryptography import x509

from opencertd.asn1.cms import decode_certs_only
from opencertd.asn1.pem import parse_pem
from opencertd.cli.describe import Row, describe
from opencertd.cli.files import read_input, shown
from opencertd.clock import SystemClock
from opencertd.errors import StartError


def read_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in a PEM file (text, keys and requests in it are passed over), a DER or a PKCS#7 file.

    Raises StartError, also when there is none.
    """
    data = read_input(path)
    try:
        blocks = _blocks(data)
        found = tuple(x509.load_der_x509_certificate(der) for der in blocks)
    except ValueError as error:
        raise StartError(f"a certificate in {shown(path)} cannot be read: {error}") from None
    if not found:
        raise StartError(f"{shown(path)} holds no certificate")
    return found


def _blocks(data: bytes) -> tuple[bytes, ...]:
    if b"-----BEGIN" not in data:
        return _der_certificates(data)
    found: list[bytes] = []
    for label, der in parse_pem(data):
        if label in {"CERTIFICATE", "X509 CERTIFICATE"}:
            found.append(der)
        elif label in {"PKCS7", "CMS"}:
            found.extend(decode_certs_only(der))
    return tuple(found)


def _der_certificates(data: bytes) -> tuple[bytes, ...]:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        pass
    else:
        return (data,)
    try:
        return decode_certs_only(data)
    except ValueError:
        return ()


@click.command(
    "print-cert",
    short_help="Show what certificates say.",
    epilog="""\b
Examples:
  opencert print-cert www.pem
  openssl s_client -connect www.example.com:443 -showcerts </dev/null | opencert print-cert -""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--plain", is_flag=True, help="Lines `Label: value` even on a terminal.")
def print_cert(*, files: tuple[str, ...], plain: bool) -> None:
    """Show what the certificates in files say (PEM, also several in one file; DER; PKCS#7).

    On a terminal as tables, otherwise as lines `Label: value`, a label once for each of its values.
    """
    now = SystemClock().now()
    found = [(shown(file), certificate) for file in files for certificate in read_certificates(file)]
    for number, (file, certificate) in enumerate(found, start=1):
        title = file if len(found) == 1 else f"{file} ({number} of {len(found)})"
        show = _print_lines if plain or not sys.stdout.isatty() else _print_table
        if number > 1:
            click.echo()
        show(title, describe(certificate, now))


def _print_lines(title: str, rows: tuple[Row, ...]) -> None:
    click.echo(f"File: {title}")
    for row in rows:
        for value in row.values:
            click.echo(f"{row.label}: {value}")


def _print_table(title: str, rows: tuple[Row, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(Text(row.label), Text("\n".join(row.values), style=_style(row)))
    Console().print(table)


def _style(row: Row) -> str:
    bad = row.label == "Valid until" and ("EXPIRED" in row.values[0] or "NOT VALID" in row.values[0])
    return "bold red" if bad else ""
