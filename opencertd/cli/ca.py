"""`opencert ca …`: work on the CA in a state directory and its database, beside its daemon or without it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from opencertd.cli import ca_ceremony, ca_keys, ca_life, ca_make, ca_show, ca_trust
from opencertd.cli.ca_import import import_ca
from opencertd.cli.ca_rollover import rollover
from opencertd.cli.files import report


@click.group()
def ca() -> None:
    """The issuers of a CA: make, bring, show, export, retire and revoke them. A running daemon takes changes up."""


@ca.command(
    "move-key",
    epilog="""\b
Examples:
  opencert ca move-key ecdsa --to pkcs11 --config /etc/opencertd/opencertd.toml
  opencert ca move-key rsa-root --to pkcs11 --config ca.toml --state-dir ./ca""",
)
@click.argument("issuer")
@click.option("--to", "store", type=click.Choice(["pkcs11"]), required=True, help="Where to: the token of [pkcs11].")
@click.option("--config", metavar="FILE", help="The daemon's settings file; its OPENCERT_… variables count too.")
@click.option("--state-dir", metavar="DIR", help="The daemon's state directory, if the settings do not say.")
def move_key(*, issuer: str, store: str, config: str | None, state_dir: str | None) -> None:
    """Move the private key of ISSUER (ecdsa, rsa-root …) from its file into a token, while the daemon is stopped.

    The token keeps it for good: nobody can read it from there. The file is overwritten and removed once a signature by
    the token was checked. Backups of the state directory still hold the key.
    """
    from opencertd.config import ENVIRONMENT_PREFIX, read_settings
    from opencertd.first_start import move_key_to_token

    file = config or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    given = {"state_dir": state_dir} if state_dir else {}
    settings = read_settings(given, os.environ, Path(file) if file else None, existing=True)
    reference = move_key_to_token(settings, issuer)
    report(f"the key of {issuer} is in the token {settings.pkcs11.token} now: {reference}")
    report("its file was overwritten and removed; backups of the state directory still hold it")


for command in (
    ca_make.init,
    ca_ceremony.ceremony,
    ca_make.create,
    ca_make.csr,
    import_ca,
    ca_make.sign,
    ca_make.cross,
    ca_keys.export,
    ca_keys.import_key,
    ca_show.list_issuers,
    ca_show.show,
    rollover,
    ca_life.retire,
    ca_life.revoke,
    ca_trust.distrust,
    ca_trust.trust,
):
    ca.add_command(command)
