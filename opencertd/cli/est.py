"""`opencert est-…`: certificates from an EST server (RFC 7030) into files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from cryptography import x509

from opencertd.cli.csr import build_csr, csr_maker, read_csr
from opencertd.cli.describe import title
from opencertd.cli.files import OutputFile, check_different, report
from opencertd.cli.keys import new_key, new_key_like, read_key, shown_output
from opencertd.cli.options import force_option, key_kind_options, name_options, out_option
from opencertd.client.errors import StillPending
from opencertd.errors import StartError
from opencertd.keys.files import encode_private_key
from opencertd.keys.kinds import PrivateKey

if TYPE_CHECKING:  # what speaks to the network is imported when a command runs: `--help` stays quick
    from opencertd.cli.est_session import Connection
    from opencertd.client.est import EstClient, Wish

_CONNECTION = (
    click.option(
        "--server",
        required=True,
        metavar="URL",
        help="https://HOST[:PORT], also with /.well-known/est/LABEL for a certain profile.",
    ),
    click.option(
        "--trust-anchors", metavar="FILE", help="CA certificates to trust. [default: those of the operating system]"
    ),
    click.option("--user", metavar="NAME", help="Log in with a password."),
    click.option(
        "--password-file", metavar="FILE", help="The user's password, on the file's first line. [default: ask]"
    ),
    click.option("--cert", metavar="FILE", help="Client certificate to show (PEM, may hold its chain and key)."),
    click.option("--key", metavar="FILE", help="The client certificate's private key."),
    click.option(
        "--passphrase-file",
        metavar="FILE",
        help="Passphrase of encrypted keys, on the file's first line. [default: ask]",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(1, 3600),
        default=30,
        metavar="SECONDS",
        help="How long to wait for each answer. [default: 30]",
    ),
    click.option(
        "--tls",
        type=click.Choice(("1.2", "1.3")),
        help="Speak this version of TLS only, as 1.2 to servers that know no channel binding on 1.3. [default: both]",
    ),
)


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which server to ask and who we are, handed on as one `connection`."""

    @functools.wraps(command)
    def gathered(**options: Any) -> None:
        from opencertd.cli.est_session import Connection

        fields = Connection.__dataclass_fields__
        connection = Connection(**{name: options.pop(name) for name in fields})
        command(connection=connection, **options)

    for option in reversed(_CONNECTION):
        gathered = option(gathered)
    return gathered


def enrolment_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--out`, `--with-chain`, `--channel-binding`, `--wait`, `--force`"""
    for option in (
        force_option,
        click.option(
            "--channel-binding/--no-channel-binding",
            "channel_binding",
            default=None,
            help="Link the request to the TLS connection, so that nobody can stand in between. [default: if the CA "
            "asks for it by csrattrs]",
        ),
        click.option(
            "--wait",
            type=click.FloatRange(0, 86400 * 30),
            default=300,
            metavar="SECONDS",
            help="How long to go on asking when the CA decides later. [default: 300]",
        ),
        click.option("--with-chain", is_flag=True, help="Write the issuing CA certificates below it, as servers need."),
        out_option("the certificate (PEM)"),
    ):
        command = option(command)
    return command


@click.command(
    "est-enroll",
    short_help="Get a certificate by EST.",
    epilog="""\b
Examples:
  opencert est-enroll --server https://ca.example:5001 --trust-anchors trust-anchors.pem \\
      --user alice --new-key www.key --san dns:www.example.com --out www.pem
  opencert est-enroll --server https://ca.example:5001/.well-known/est/rsa --trust-anchors trust-anchors.pem \\
      --cert device.pem --key device.key --csr www.csr --out www.pem --with-chain""",
)
@connection_options
@click.option("--csr", metavar="FILE", help="The request (see create-csr); instead of the next ones.")
@name_options
@click.option("--new-key", metavar="FILE", help="Make a new private key and write it here (mode 0600).")
@key_kind_options
@click.option("--use-key", metavar="FILE", help="Ask for this private key instead of a new one.")
@enrolment_options
def est_enroll(
    *,
    connection: Connection,
    csr: str | None,
    subject: str | None,
    names: tuple[str, ...],
    new_key: str | None,
    use_key: str | None,
    kind: str | None,
    size: int | None,
    curve: str | None,
    out: str,
    **options: Any,
) -> None:
    """Get a certificate: for a request you have, or for names and a new key.

    You are known to the CA by a password (--user) or by a client certificate (--cert and --key).
    """
    if sum(source is not None for source in (csr, new_key, use_key)) != 1:
        raise click.UsageError("give one of --csr, --new-key and --use-key")
    if csr is not None and (subject or names):
        raise click.UsageError("--csr says already what is asked: leave out --subject and --san")
    if new_key is None and (kind or size or curve):
        raise click.UsageError("--type, --size and --curve belong to --new-key")
    check_different(out=out, new_key=new_key)
    key = None
    request: Wish
    if csr is not None:
        request = read_csr(csr)
    else:
        key = _key_to_certify(use_key, connection.passphrase_file, (kind, size, curve))
        request = csr_maker(key, subject, names)
    _enrol(connection, request, out=out, key_file=new_key, key=key, operation="simpleenroll", **options)


def _key_to_certify(
    use_key: str | None, passphrase_file: str | None, wish: tuple[str | None, int | None, str | None]
) -> PrivateKey:
    return read_key(use_key, passphrase_file) if use_key is not None else new_key(*wish)


@click.command(
    "est-reenroll",
    short_help="Renew a certificate by EST.",
    epilog="""\b
Examples:
  opencert est-reenroll --server https://ca.example:5001 --trust-anchors trust-anchors.pem \\
      --cert www.pem --key www.key --out www.pem --force
  opencert est-reenroll --server https://ca.example:5001 --trust-anchors trust-anchors.pem \\
      --cert www.pem --key www.key --rekey new.key --out new.pem""",
)
@connection_options
@click.option("--rekey", metavar="FILE", help="Make a new private key of the same kind and write it here (mode 0600).")
@click.option("--use-key", metavar="FILE", help="Ask for this private key instead, such as one whose request waits.")
@enrolment_options
def est_reenroll(*, connection: Connection, rekey: str | None, use_key: str | None, out: str, **options: Any) -> None:
    """Renew a certificate: same subject and names, shown to the CA as client certificate."""
    from opencertd.cli.est_session import read_identity

    identity = read_identity(connection.cert, connection.key, connection.passphrase_file)
    if identity is None:
        raise click.UsageError("give the certificate to renew by --cert, and its key by --key")
    if rekey is not None and use_key is not None:
        raise click.UsageError("--rekey makes a new key and --use-key brings one: give one or the other")
    check_different(out=out, rekey=rekey)
    key = identity.key
    if use_key is not None:
        key = read_key(use_key, connection.passphrase_file)
    elif rekey is not None:
        key = new_key_like(identity.key)
    certificate = identity.certificate
    request = functools.partial(build_csr, key, certificate.subject, _names_of(certificate))
    _enrol(
        connection,
        request,
        out=out,
        key_file=rekey,
        key=key,
        operation="simplereenroll",
        identity=identity,
        **options,
    )


def _names_of(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()
    except ValueError as error:
        raise StartError(f"the names of the certificate cannot be read: {error}") from None


def _enrol(
    connection: Connection,
    request: Wish,
    *,
    out: str,
    key_file: str | None,
    key: PrivateKey | None,
    operation: str,
    with_chain: bool,
    channel_binding: bool | None,
    wait: float,
    force: bool,
    identity: Any = None,
) -> None:
    """Ask, and write the certificate (and the new key before it) once it is there."""
    from opencertd.cli.est_session import certificates_pem, run_est
    from opencertd.client.est import issuing_chain

    async def deed(client: EstClient) -> tuple[x509.Certificate, ...]:
        candidates = await client.cacerts() if with_chain else ()  # first: later nothing may fail any more
        enrolled = await getattr(client, operation)(request)
        return (enrolled.certificate, *issuing_chain(enrolled.certificate, (*enrolled.others, *candidates)))

    with ExitStack() as files:
        secret = files.enter_context(OutputFile(key_file, private=True, force=force)) if key_file else None
        product = files.enter_context(OutputFile(out, force=force))
        try:
            certificates = run_est(connection, deed, identity=identity, wait=wait, linked=channel_binding)
        except StillPending as pending:
            if secret is None or key is None:
                raise
            secret.commit(encode_private_key(key, None))
            raise StartError(
                f"{pending}; the new key is kept in {key_file}, so ask with --use-key {key_file}"
            ) from None
        if secret is not None and key is not None:
            secret.commit(encode_private_key(key, None))
        product.commit(certificates_pem(certificates if with_chain else certificates[:1]))
    leaf = certificates[0]
    report(
        f"certificate for {title(leaf)} written to {shown_output(out)}, valid until {leaf.not_valid_after_utc:%Y-%m-%d}"
    )
