"""`opencert ca ceremony`: an offline root signs an issuing CA, before witnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from opencertd.cli.ca_options import desk_of, parse_name, parse_type, parse_validity, where_options, wish_of
from opencertd.cli.files import prompt_secret, read_secret, report


@click.command(
    "ceremony",
    epilog="""\b
Example:
  opencert ca ceremony example --root-dn "CN=Example Root,O=Example" --dn "CN=Example Issuing CA,O=Example" \\
      --root-key-out /media/stick/root-key.pem --transcript ceremony.txt --state-dir ./ca""",
)
@click.argument("name")
@click.option("--root-dn", "root_text", required=True, metavar="DN", help="Subject of the root.")
@click.option("--dn", "name_text", required=True, metavar="DN", help="Subject of the issuing CA.")
@click.option("--key-type", default="ecdsa", show_default=True, metavar="TYPE", help="As for `opencert ca create`.")
@click.option("--key-store", type=click.Choice(["file", "pkcs11"]), help="Where the issuing CA's key is made.")
@click.option("--root-key-out", required=True, metavar="FILE", help="Where the root's key goes, encrypted.")
@click.option("--passphrase-file", metavar="FILE", help="Its passphrase, on the file's first line. [default: ask]")
@click.option("--transcript", required=True, metavar="FILE", help="Where to write what was done (mode 0600).")
@click.option("--root-validity", default="20y", show_default=True, metavar="TIME", help="Of the root.")
@click.option("--validity", default="10y", show_default=True, metavar="TIME", help="Of the issuing CA.")
@click.option("--status-for", default="1y", show_default=True, metavar="TIME", help="How long the root's CRL lasts.")
@where_options
def ceremony(
    *,
    name: str,
    root_text: str,
    name_text: str,
    key_type: str,
    key_store: str | None,
    root_key_out: str,
    passphrase_file: str | None,
    transcript: str,
    root_validity: str,
    validity: str,
    status_for: str,
    **where: Any,
) -> None:
    """Make an offline root and the issuing CA NAME under it, with a written transcript that the root's key signs.

    The root's key is never kept here: it goes encrypted to a file of its own, on a stick that is locked away. Before
    --status-for is over, `opencert ca import-key NAME-root` brings it back for a new CRL.
    """
    from opencertd.desk.ceremony import CeremonyPlan, hold_ceremony, signature_file
    from opencertd.issuance.issuer_names import check_issuer_name

    for one in (name, f"{name}-root"):
        check_issuer_name(one)
    nothing = {"permit": (), "exclude": (), "policies": (), "signs": None, "path_length": None}
    plan = CeremonyPlan(
        name=name,
        root=wish_of(parse_name(root_text), {**nothing, "validity": root_validity}, root=True),
        issuing=wish_of(parse_name(name_text), {**nothing, "validity": validity}, root=False),
        key_type=parse_type(key_type),
        root_key=Path(root_key_out),
        passphrase=_passphrase(passphrase_file),
        status_for=parse_validity("--status-for", status_for),
        transcript=Path(transcript),
    )
    with desk_of(where, key_store=key_store, may_be_new=True) as desk:
        root, issuing = hold_ceremony(desk, plan)
        anchors = desk.state.trust_anchors
    report(f"made the root {root.name} and under it the issuing CA {issuing.name}")
    report(f"the root's key is in {root_key_out} and nowhere else: lock it away, apart from its passphrase")
    report(f"what was done is in {transcript}, signed by the root's key in {signature_file(plan.transcript)}")
    report(f"clients trust what is in {anchors}")


def _passphrase(file: str | None) -> bytes:
    if file:
        return read_secret(file, "passphrase").encode()
    return prompt_secret("passphrase for the root's key", "--passphrase-file", twice=True).encode()
