"""`opencert est-csrattrs`: what an EST server wants in a request, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import der
from opencertd.asn1.csr_attributes import EC, RSA, CsrAttributes, WantedExtension, WantedKey, decode_csr_attributes
from opencertd.cli.describe import purpose
from opencertd.cli.est import connection_options
from opencertd.cli.files import OutputFile, report
from opencertd.cli.options import force_option

if TYPE_CHECKING:  # what speaks to the network is imported when the command runs
    from opencertd.cli.est_session import Connection

_KEYS = {
    RSA: "RSA",
    EC: "EC",
    "1.2.840.10045.3.1.7": "P-256",
    "1.3.132.0.34": "P-384",
    "1.3.132.0.35": "P-521",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
_EXTENSIONS = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string: "subject alternative name",
    ExtensionOID.KEY_USAGE.dotted_string: "key usage",
    ExtensionOID.BASIC_CONSTRAINTS.dotted_string: "basic constraints",
}


@click.command(
    "est-csrattrs",
    short_help="Ask what an EST server wants in a request.",
    epilog="""\b
Examples:
  opencert est-csrattrs --server https://ca.example:5001 --trust-anchors trust-anchors.pem --user alice
  opencert est-csrattrs --server https://ca.example:5001/.well-known/est/tls-server --trust-anchors trust-anchors.pem \\
      --cert www.pem --key www.key --out csrattrs.der""",
)
@connection_options
@click.option("--out", metavar="FILE", help="Write the answer as it came (CsrAttrs, DER) instead of words.")
@force_option
def est_csrattrs(*, connection: Connection, out: str | None, force: bool) -> None:
    """Say what the CA wants in a request: the kind of key, extensions, a challenge password (EST's csrattrs)."""
    from opencertd.cli.est_session import run_est

    data = run_est(connection, lambda client: client.csrattrs())
    if data is None:
        report("the CA wants nothing in particular in a request")
        return
    if out is None:
        click.echo("\n".join(lines(decode_csr_attributes(data))))
        return
    with OutputFile(out, force=force) as file:
        file.commit(data)


def lines(wanted: CsrAttributes) -> tuple[str, ...]:
    """One line for each wish."""
    found = [] if wanted.key is None else [f"key: {_key(wanted.key)}"]
    found += [_extension(extension) for extension in wanted.extensions]
    if wanted.challenge_password:
        found.append("challenge password: from the TLS session (RFC 7030 section 3.5)")
    return (*found, *(f"attribute: {oid}" for oid in wanted.others))


def _key(key: WantedKey) -> str:
    details = (_KEYS.get(key.curve, key.curve) if key.curve else None, str(key.bits) if key.bits else None)
    return " ".join(word for word in (_KEYS.get(key.algorithm, key.algorithm), *details) if word)


def _extension(wanted: WantedExtension) -> str:
    name = _EXTENSIONS.get(wanted.oid, f"extension {wanted.oid}")
    if wanted.value is None:
        return f"{name}: yours to fill in"
    if wanted.oid == ExtensionOID.EXTENDED_KEY_USAGE.dotted_string:
        return f"purposes: {_purposes(wanted.value)}"
    return f"{name}: {_octets(wanted.value)}"


def _purposes(value: bytes) -> str:
    try:
        element = der.read_only(value, der.SEQUENCE)
        oids = [x509.ObjectIdentifier(der.read_oid(value, one)) for one in der.children(value, element)]
    except ValueError:
        return _octets(value)
    return ", ".join(purpose(oid) for oid in oids)


def _octets(value: bytes) -> str:
    return value.hex() if len(value) <= _SHOWN else f"{value[:_SHOWN].hex()}… ({len(value)} octets)"


_SHOWN = 40
