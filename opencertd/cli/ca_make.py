"""`opencert ca init | create | csr | sign | cross`: CAs are made, and vouched for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import (
    certificate_options,
    desk_of,
    key_options,
    name_option,
    parse_name,
    parse_type,
    parse_validity,
    settings_of,
    where_options,
    wish_of,
)
from opencertd.cli.files import OutputFile, read_input, report, shown
from opencertd.cli.options import force_option, out_option

if TYPE_CHECKING:
    from opencertd.model.certificates import IssuerRecord


@click.command(
    "init",
    epilog="""\b
Examples:
  opencert ca init --dn "CN=My Internal CA,O=Example" --state-dir ./ca
  opencert ca init --dn "My CA" --key-type ml-dsa-65 --config /etc/opencertd/opencertd.toml""",
)
@click.option("--dn", "name_text", metavar="DN", help="Name of the CA, if the settings do not say.")
@click.option("--key-type", multiple=True, metavar="TYPE", help="As for the daemon; can be repeated. [ecdsa and rsa]")
@click.option("--key-store", type=click.Choice(["file", "pkcs11"]), help="Where keys are made. [file]")
@where_options
def init(*, name_text: str | None, key_type: tuple[str, ...], key_store: str | None, **where: Any) -> None:
    """Make the CA that the daemon would make at its first start, without starting it: roots and issuing CAs."""
    from opencertd.clock import SystemClock
    from opencertd.first_start import prepare

    settings = settings_of(where, dn=name_text, key_type=key_type, key_store=key_store)
    new = not (settings.state_dir / "trust-anchors.pem").exists()
    state = prepare(settings, SystemClock())
    try:
        with desk_of(where) as desk:
            issuers = desk.issuers().all()
            report(
                f"made the CA in {state.path}:" if new else f"there is a CA in {state.path} already; it stays as it is:"
            )
            for issuer in issuers:
                report(_sentence(issuer.record))
    finally:
        state.unlock()
    report(f"clients trust what is in {state.trust_anchors}")


@click.command(
    "create",
    epilog="""\b
Examples:
  opencert ca create policy-root --root --dn "CN=Example Root,O=Example" --key-type ecdsa-p384
  opencert ca create regions --parent policy-root --dn "CN=Regions,O=Example" --path-len 1
  opencert ca create office --parent regions --dn "CN=Office CA,O=Example" \\
      --permit dns:office.example.com --permit ip:10.0.0.0/8 --validity 5y""",
)
@click.argument("name")
@click.option("--parent", metavar="ISSUER", help="The issuer of this CA that signs it.")
@click.option("--root", is_flag=True, help="A root: it signs itself.")
@name_option
@key_options
@certificate_options
@where_options
def create(
    *, name: str, parent: str | None, root: bool, name_text: str, key_type: str, key_store: str | None, **given: Any
) -> None:
    """Make the CA NAME, which issues from then on: a root, or a CA under another one of this CA.

    A running daemon issues by it within a second. The profile NAME issues by it; others by the key `issuers`.
    """
    from opencertd.first_start import run_now
    from opencertd.issuance.issuer_names import check_issuer_name

    if root == (parent is not None):
        raise click.UsageError("give --parent with the issuer that signs it, or --root for one that signs itself")
    check_issuer_name(name)
    wish, key = wish_of(parse_name(name_text), given, root=root), parse_type(key_type)
    with desk_of(given, key_store=key_store) as desk:
        deeds = desk.deeds()
        wanted = key.root if root else key.issuing
        if root:
            record = run_now(deeds.create_root(name, wish, wanted, key.scheme))
        else:
            record = run_now(deeds.create_under(name, wish, wanted, key.scheme, str(parent)))
        desk.publish_anchors()
        report(f"made {_sentence(record)}")
        if root:
            report(f"its clients must trust it: it is in {desk.state.trust_anchors} now")


@click.command(
    "csr",
    epilog="""\b
Examples:
  opencert ca csr partner --dn "CN=Example Issuing CA,O=Example" --key-type rsa-4096 --out partner.csr
  opencert ca import partner answer.pem""",
)
@click.argument("name")
@name_option
@key_options
@click.option("--path-len", "path_length", type=click.IntRange(0, 20), help="Ask that many CAs below it.")
@out_option("the request (PEM)")
@force_option
@where_options
def csr(
    *,
    name: str,
    name_text: str,
    key_type: str,
    key_store: str | None,
    path_length: int | None,
    out: str,
    force: bool,
    **where: Any,
) -> None:
    """Make a key and a request for the CA NAME, for another CA to sign.

    The key stays here and waits: `opencert ca import NAME` takes the certificate in when it has come. Asked again, the
    same request is written again.
    """
    from opencertd.desk.answers import request_certificate
    from opencertd.issuance.issuer_names import check_issuer_name

    check_issuer_name(name)
    subject, key = parse_name(name_text), parse_type(key_type)
    with desk_of(where, key_store=key_store) as desk, OutputFile(out, force=force) as file:
        pending, new = request_certificate(desk, name, subject, key, path_length)
        file.commit(pending.csr_pem.encode())
    report(f"{'made a key and a request' if new else 'wrote the request again that waits already'} for {name}")
    report(f"have it signed as a CA, then: opencert ca import {name} CERTIFICATE.pem (with the chain above it)")


@click.command(
    "sign",
    epilog="""\b
Example:
  opencert ca sign partner.csr --by ecdsa-root --path-len 0 --permit dns:partner.example --out partner.pem""",
)
@click.argument("request")
@click.option("--by", "parent", required=True, metavar="ISSUER", help="The issuer that signs it.")
@click.option("--dn", "name_text", metavar="DN", help="Its subject, instead of the one that the request asks.")
@certificate_options
@out_option("the certificate and the chain above it (PEM)")
@force_option
@where_options
def sign(*, request: str, parent: str, name_text: str | None, out: str, force: bool, **given: Any) -> None:
    """Sign somebody else's CSR as that of a CA below ISSUER.

    Key and possession of it come from the request; all else from these options. Its keyholder can issue certificates
    that everybody trusts who trusts this CA: limit it by --permit and --path-len.
    """
    from opencertd.asn1 import dn, pem
    from opencertd.asn1.pkcs10 import parse_csr
    from opencertd.first_start import run_now

    asked = parse_csr(read_input(request))
    try:
        subject = parse_name(name_text) if name_text else dn.normal(asked.subject)
    except ValueError as error:
        raise click.UsageError(f"the subject in {shown(request)}: {error}; give another by --dn") from None
    if not subject.rdns:
        raise click.UsageError(f"{shown(request)} has no subject: give one by --dn")
    with desk_of(given) as desk, OutputFile(out, force=force) as file:
        deeds = desk.deeds()
        above = deeds.issuer(parent)
        record = run_now(deeds.sign_request(wish_of(subject, given, root=False), asked.spki_der, parent))
        file.commit(pem.encode_certificates((record.certificate_der or b"", *above.chain_der)))
    report(f"signed a CA: {record.subject}, serial {record.serial:x}, until {record.not_after:%Y-%m-%d}, by {parent}")


@click.command(
    "cross",
    epilog="""\b
Examples:
  opencert ca cross ecdsa-root --by rsa-root --out ecdsa-by-rsa.pem
  opencert ca cross ecdsa-root --certificate from-another-ca.pem""",
)
@click.argument("name")
@click.option("--by", "signer", metavar="ISSUER", help="The issuer here that signs it.")
@click.option("--certificate", metavar="FILE", help="A certificate for NAME that another CA has made: take it in.")
@click.option("--validity", metavar="TIME", help="Such as 5y. [default: until the first of the two ends]")
@click.option("--out", metavar="FILE", help="Write the cross-certificate too (PEM).")
@force_option
@where_options
def cross(
    *,
    name: str,
    signer: str | None,
    certificate: str | None,
    validity: str | None,
    out: str | None,
    force: bool,
    **where: Any,
) -> None:
    """Let another CA vouch for the issuer NAME: same name and key, another signer.

    EST cacerts hands the cross-certificate out, so that clients which trust the other CA accept what NAME issues.
    """
    from opencertd.asn1 import pem
    from opencertd.desk.answers import read_certificates
    from opencertd.first_start import run_now

    if (signer is None) == (certificate is None):
        raise click.UsageError("give --by with an issuer here, or --certificate with what another CA has made")
    length = parse_validity("--validity", validity) if validity else None
    with desk_of(where) as desk:
        deeds = desk.deeds()
        if signer is not None:
            made = run_now(deeds.cross(name, signer, length))
        else:
            made = run_now(deeds.bring_cross(name, read_certificates([str(certificate)])[0]))
        if out:
            with OutputFile(out, force=force) as file:
                file.commit(pem.encode_certificates((made.certificate_der,)))
    report(f"{signer or 'the other CA'} vouches for {name}: EST cacerts has the certificate now")


def _sentence(record: IssuerRecord) -> str:
    from cryptography import x509

    from opencertd.asn1 import dn
    from opencertd.cli.keys import describe_key

    certificate = x509.load_der_x509_certificate(record.certificate_der)
    what = f"{describe_key(certificate.public_key())}, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"{record.name}: {dn.format_dn(certificate.subject)} ({what})"
