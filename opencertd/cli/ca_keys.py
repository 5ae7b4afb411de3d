"""`opencert ca export | import-key`: an issuer's certificate, and its key on its way out and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import desk_of, parse_validity, where_options
from opencertd.cli.files import STANDARD, OutputFile, prompt_secret, read_input, read_secret, report
from opencertd.cli.options import force_option, out_option
from opencertd.errors import StartError

if TYPE_CHECKING:
    from opencertd.desk.deeds import Desk
    from opencertd.issuance.issuers import Issuer

_passphrase = click.option(
    "--passphrase-file", metavar="FILE", help="Passphrase of the exported key, on the file's first line. [default: ask]"
)


@click.command(
    "export",
    epilog="""\b
Examples:
  opencert ca export ecdsa --chain --out ecdsa-chain.pem
  opencert ca export ecdsa-root --key --out /media/stick/root-key.pem
  opencert ca export ecdsa-root --key --pkcs12 --remove-key --status-for 1y --out /media/stick/root.p12""",
)
@click.argument("name")
@out_option("it")
@click.option("--chain", is_flag=True, help="The certificates above it too.")
@click.option("--key", "with_key", is_flag=True, help="Its private key too, encrypted, with the whole chain.")
@click.option("--pkcs12", is_flag=True, help="With --key: as PKCS#12 instead of PEM.")
@click.option("--remove-key", is_flag=True, help="With --key: then overwrite and remove the key here.")
@click.option(
    "--status-for",
    default="1y",
    show_default=True,
    metavar="TIME",
    help="With --remove-key: how long its CRL and OCSP responder are to last without the key.",
)
@_passphrase
@force_option
@where_options
def export(
    *,
    name: str,
    out: str,
    chain: bool,
    with_key: bool,
    pkcs12: bool,
    remove_key: bool,
    status_for: str,
    passphrase_file: str | None,
    force: bool,
    **where: Any,
) -> None:
    """Write the certificate of the issuer NAME, or its private key.

    With --remove-key the key is nowhere but in the exported file: the CAs below NAME go on issuing. Until the time of
    --status-for is over, or something below NAME is to be revoked, `opencert ca import-key` must bring it back.
    """
    from opencertd.asn1 import pem
    from opencertd.desk.key_custody import chain_of, export_key

    if (pkcs12 or remove_key) and not with_key:
        raise click.UsageError("--pkcs12 and --remove-key go with --key")
    if remove_key and out == STANDARD:
        raise click.UsageError("--remove-key: give a file, which is read again before the key goes, not -")
    length = parse_validity("--status-for", status_for)
    with desk_of(where) as desk:
        issuer = desk.deeds().issuer(name)
        if out != STANDARD and Path(out).resolve().parent == desk.state.keys.resolve():
            raise StartError(f"{out} is among the keys that the daemon works with: export to another place")
        with OutputFile(out, private=with_key, force=force) as file:
            if not with_key:
                file.commit(pem.encode_certificates(chain_of(issuer, whole=chain)))
                report(f"the certificate of {name} was written to {out}")
                return
            passphrase = _new_passphrase(passphrase_file)
            file.commit(export_key(desk, issuer, passphrase, as_pkcs12=pkcs12))
        report(f"the key of {name} was written to {out}, encrypted: keep it and its passphrase in different places")
        if remove_key:
            for line in _removed(desk, issuer, Path(out), passphrase, length):
                report(line)


def _removed(desk: Desk, issuer: Issuer, out: Path, passphrase: bytes, length: Any) -> list[str]:
    from opencertd.desk.key_custody import remove_key

    name = issuer.name
    left = remove_key(desk, issuer, out, passphrase, length)
    return [
        f"the key of {name} was overwritten and removed here; backups of the state directory still hold it",
        f"its CRL number {left.crl_number} holds until {left.crl_until:%Y-%m-%d %H:%M} UTC, its OCSP responder on this "
        f"node until {left.ocsp_until:%Y-%m-%d %H:%M} UTC",
        f"before then, or to revoke what {name} signed, bring the key back: opencert ca import-key {name} {out}",
    ]


def _new_passphrase(file: str | None) -> bytes:
    if file:
        return read_secret(file, "passphrase").encode()
    return prompt_secret("passphrase for the exported key", "--passphrase-file", twice=True).encode()


@click.command(
    "import-key",
    epilog="""\b
Example:
  opencert ca import-key ecdsa-root /media/stick/root-key.pem --state-dir ./ca""",
)
@click.argument("name")
@click.argument("file")
@_passphrase
@click.option("--key-store", type=click.Choice(["file", "pkcs11"]), help="Where it is kept. [default: as settings say]")
@where_options
def import_key(*, name: str, file: str, passphrase_file: str | None, key_store: str | None, **where: Any) -> None:
    """Bring the key of the issuer NAME back that was taken away: it can sign again, and a new CRL is made at once."""
    from opencertd.desk.key_custody import bring_key, read_key

    def ask(what: str) -> bytes:
        if passphrase_file:
            return read_secret(passphrase_file, "passphrase").encode()
        return prompt_secret(f"passphrase of {what}", "--passphrase-file").encode()

    with desk_of(where, key_store=key_store) as desk:
        issuer = desk.deeds().issuer(name)
        record = bring_key(desk, issuer, read_key(read_input(file), file, ask))
    report(f"the key of {name} is here again: {record.key_reference}")
    report("the daemon publishes a new CRL of it, which lists what was revoked meanwhile")
