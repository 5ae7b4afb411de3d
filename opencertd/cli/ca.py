"""`opencert ca …`: work on the CA in a state directory while its daemon is stopped."""

from __future__ import annotations

import os
from pathlib import Path

import click

from opencertd.cli.ca_import import import_ca
from opencertd.cli.files import report


@click.group()
def ca() -> None:
    """The CA in a state directory, while its daemon is stopped."""


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
    """Move the private key of ISSUER (ecdsa, rsa-root …) from its file into a token.

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


ca.add_command(import_ca)
