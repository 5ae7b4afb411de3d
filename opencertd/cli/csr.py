"""`opencert create-csr`, and how every command turns names a person types into a certification request."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Sequence

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from opencertd.asn1 import other_names
from opencertd.asn1.dn import normal, parse_dn
from opencertd.cli.files import OutputFile, read_input, report, shown
from opencertd.cli.keys import read_key, shown_output
from opencertd.cli.options import force_option, name_options, out_option, passphrase_option
from opencertd.errors import Refusal, StartError
from opencertd.keys.kinds import PrivateKey, scheme_of
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind, parse_alt_name


def parse_san(text: str) -> AltName:
    """`dns:www.example.com`, `ip:192.0.2.1`, `email:…`, `uri:…`, or a name of an obvious kind. Else a usage error."""
    prefix, colon, rest = text.partition(":")
    try:
        if colon and prefix.lower() in {kind.value for kind in AltNameKind}:
            return parse_alt_name(AltNameKind(prefix.lower()), rest)
        return parse_alt_name(_guessed_kind(text), text)
    except Refusal as refusal:
        raise click.BadParameter(refusal.detail, param_hint="--san") from None


def _guessed_kind(text: str) -> AltNameKind:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return AltNameKind.IP
    if "://" in text:
        return AltNameKind.URI
    return AltNameKind.EMAIL if "@" in text else AltNameKind.DNS


def parse_subject(text: str | None) -> x509.Name:
    """A DN; a bare word is a common name, nothing the empty name. Usage error when it cannot be read."""
    if not text:
        return x509.Name([])
    try:
        return normal(parse_dn(text if "=" in text else f"CN={text}"))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--subject") from None


def _general_name(name: AltName) -> x509.GeneralName:
    if name.kind is AltNameKind.IP:
        return x509.IPAddress(ipaddress.ip_address(name.value))
    if name.kind is AltNameKind.EMAIL:
        return x509.RFC822Name(name.value)
    if name.kind in DEVICE_KINDS:
        return other_names.general_name(name)
    if name.kind is AltNameKind.URI:
        return x509.UniformResourceIdentifier(name.value)
    return x509.DNSName(name.value)


def build_csr(
    key: PrivateKey, subject: x509.Name, names: Sequence[x509.GeneralName], challenge_password: str | None = None
) -> x509.CertificateSigningRequest:
    """A request by `key`; without a subject the names are critical (RFC 5280 §4.2.1.6)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
    if challenge_password is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge_password.encode())
    return builder.sign(key, scheme_of(key.public_key()).digest)


def build_csr_from_options(
    key: PrivateKey, subject: str | None, names: Sequence[str]
) -> x509.CertificateSigningRequest:
    """A request for what `--subject` and `--san` say. Usage error when they say nothing."""
    return csr_maker(key, subject, names)(None)


def csr_maker(
    key: PrivateKey, subject: str | None, names: Sequence[str]
) -> Callable[[str | None], x509.CertificateSigningRequest]:
    """What makes such a request with a given challengePassword, or without one. Usage error at once."""
    if not subject and not names:
        raise click.UsageError("nothing to ask for: give --subject, --san or both")
    wanted = [_general_name(name) for name in dict.fromkeys(parse_san(name) for name in names)]
    return functools.partial(build_csr, key, parse_subject(subject), wanted)


def read_csr(path: str) -> x509.CertificateSigningRequest:
    """The one request in a PEM or DER file. Raises StartError."""
    data = read_input(path)
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except ValueError:
        raise StartError(f"{shown(path)} holds no certificate request that can be read") from None


@click.command(
    "create-csr",
    short_help="Make a certificate request.",
    epilog="""\b
Examples:
  opencert create-csr --key www.key --san dns:www.example.com --san ip:192.0.2.1 --out www.csr
  opencert create-csr --key alice.key --subject "CN=Alice,O=Example" --san email:alice@example.com --out -""",
)
@click.option("--key", required=True, metavar="FILE", help="The private key to ask for (see generate-keys).")
@passphrase_option
@name_options
@out_option("the request (PEM)")
@force_option
def create_csr(
    *, key: str, passphrase_file: str | None, subject: str | None, names: tuple[str, ...], out: str, force: bool
) -> None:
    """Make a certificate request (PKCS#10) for a key you have."""
    request = build_csr_from_options(read_key(key, passphrase_file), subject, names)
    with OutputFile(out, force=force) as file:
        file.commit(request.public_bytes(Encoding.PEM))
    report(f"request written to {shown_output(out)}")
