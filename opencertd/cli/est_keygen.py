"""`opencert est-serverkeygen`: a key that an EST server makes, and its certificate, into files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.csr import csr_maker
from opencertd.cli.describe import title
from opencertd.cli.est import connection_options, enrolment_options
from opencertd.cli.files import OutputFile, check_different, report
from opencertd.cli.keys import describe_key, new_key, shown_output
from opencertd.cli.options import key_kind_options, name_options
from opencertd.keys.files import encode_private_key

if TYPE_CHECKING:  # what speaks to the network is imported when the command runs
    from opencertd.cli.est_session import Connection
    from opencertd.client.est import EstClient


@click.command(
    "est-serverkeygen",
    short_help="Get a key made by an EST server, and its certificate.",
    epilog="""\b
Examples:
  opencert est-serverkeygen --server https://ca.example:5001 --trust-anchors trust-anchors.pem --user alice \\
      --subject CN=sensor-7 --key-out sensor.key --out sensor.pem
  opencert est-serverkeygen --server https://ca.example:5001 --trust-anchors trust-anchors.pem --user alice \\
      --type rsa --size 2048 --san dns:old.example.com --key-out old.key --out old.pem --with-chain""",
)
@connection_options
@name_options
@click.option("--key-out", required=True, metavar="FILE", help="Where to write the private key (mode 0600).")
@key_kind_options
@enrolment_options
def est_serverkeygen(
    *,
    connection: Connection,
    subject: str | None,
    names: tuple[str, ...],
    key_out: str,
    kind: str | None,
    size: int | None,
    curve: str | None,
    out: str,
    with_chain: bool,
    channel_binding: bool | None,
    wait: float,
    force: bool,
) -> None:
    """Have the CA make a private key, for a device that cannot make a good one (EST's serverkeygen).

    The key comes over TLS and the CA keeps no copy; better keys are those that never travel (est-enroll). Which kind it
    has is the CA's to say; --type, --size and --curve are a wish.
    """
    from opencertd.cli.est_session import certificates_pem, run_est
    from opencertd.client.est import issuing_chain

    check_different(out=out, key_out=key_out)
    request = csr_maker(new_key(kind, size, curve), subject, names)

    async def deed(client: EstClient) -> tuple[Any, ...]:
        candidates = await client.cacerts() if with_chain else ()  # first: the key is told only once
        made = await client.serverkeygen(request)
        chain = issuing_chain(made.certificate, (*made.others, *candidates)) if with_chain else ()
        return made.key, (made.certificate, *chain)

    with OutputFile(key_out, private=True, force=force) as secret, OutputFile(out, force=force) as product:
        key, certificates = run_est(connection, deed, wait=wait, linked=channel_binding)
        secret.commit(encode_private_key(key, None))
        product.commit(certificates_pem(certificates))
    report(
        f"{describe_key(key.public_key())} key for {title(certificates[0])} written to {shown_output(key_out)}, "
        f"certificate to {shown_output(out)}"
    )
