"""`opencert acme eab …`: keys by which new ACME accounts show whom they belong to (RFC 8555 §7.3.4)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from opencertd.cli.acme import administration, now
from opencertd.cli.ca_options import where_options
from opencertd.cli.files import report


@click.group()
def eab() -> None:
    """Keys for external account binding. The daemon may run: it knows each change at once."""


@eab.command(
    "add",
    epilog="""\b
Examples:
  opencert acme eab add printers --state-dir ./ca --allow-name "*.printers.example.com" --accounts 1 --expires 7d
  certbot register --server https://ca.example:5001/directory --eab-kid printers --eab-hmac-key KEY …

\b
The MAC key is shown this once. In the database it is encrypted under keys/acme-eab.key of the state directory, which
all nodes need. Rules know accounts of the key by the role eab:ID: [[policy.requester]] role = "eab:printers".""",
)
@click.argument("key_id", metavar="ID")
@click.option("--profile", metavar="NAME", help="What all orders of its accounts are for. [default: as others]")
@click.option(
    "--allow-name",
    "names",
    multiple=True,
    metavar="PATTERN",
    help="A name its accounts may have, or *.example.com for all below; can be repeated. [default: every name]",
)
@click.option("--accounts", "most", type=click.IntRange(1, 1_000_000), help="How many accounts it may bind. [any]")
@click.option("--expires", metavar="TIME", help="How long it binds accounts, such as 7d. [default: until revoked]")
@where_options
def add(
    *, key_id: str, profile: str | None, names: tuple[str, ...], most: int | None, expires: str | None, **where: Any
) -> None:
    """Make a key with the given ID (a name without blanks) and show it."""
    import secrets

    from opencertd.acme.encoding import b64url
    from opencertd.acme.external_account import KEY_LENGTH, EabKey
    from opencertd.keys.sealing import EAB_FILE, Sealing
    from opencertd.model.durations import parse_duration
    from opencertd.state import StateDirectory

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", key_id):
        raise click.UsageError(f"{key_id[:80]!r} is no id: use up to 64 letters, digits and . _ -")
    if any(not re.fullmatch(r"\*|(\*\.)?[^\s*]+", name) for name in names):
        raise click.UsageError("--allow-name: write a name, or *.example.com for all names below")
    at = datetime.now(UTC).replace(microsecond=0)
    try:
        until = None if expires is None else at + parse_duration(expires)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--expires: {error}") from None
    mac_key = secrets.token_bytes(KEY_LENGTH)
    with administration(where) as (admin, settings):
        sealed = Sealing(StateDirectory(settings.state_dir).keys / EAB_FILE).seal(key_id, mac_key)
        now(admin.add_key(EabKey(key_id, sealed, profile, names, at, until, most)))
    click.echo(f"--eab-kid {key_id} --eab-hmac-key {b64url(mac_key)}")
    report("the key is shown this once; hand it over by a way that nobody else reads")


@eab.command("list", epilog="\b\nExample:\n  opencert acme eab list --state-dir ./ca")
@where_options
def list_keys(**where: Any) -> None:
    """Show all keys: id, whether it binds accounts, how many it has bound, profile, names."""
    with administration(where) as (admin, _):
        at = datetime.now(UTC)
        for key in now(admin.keys()):
            state = key.why_unusable(at) or "good" + (f" until {key.expires:%Y-%m-%dT%H:%M:%SZ}" if key.expires else "")
            most = "" if key.most_accounts is None else f"/{key.most_accounts}"
            profile, names = key.profile or "-", " ".join(key.names) or "*"
            click.echo(f"{key.id}  {state}  accounts {key.accounts}{most}  profile {profile}  names {names}")


@eab.command("revoke", epilog="\b\nExample:\n  opencert acme eab revoke printers --with-accounts --state-dir ./ca")
@click.argument("key_id", metavar="ID")
@click.option("--with-accounts", is_flag=True, help="Block the accounts that it has bound, too.")
@where_options
def revoke(*, key_id: str, with_accounts: bool, **where: Any) -> None:
    """Let a key bind no more accounts. Those that it has bound go on, unless they are blocked too."""
    with administration(where) as (admin, _):
        blocked = now(admin.revoke_key(key_id, accounts_too=with_accounts))
    report(f"the key {key_id} binds no more accounts" + (f"; {len(blocked)} are blocked" if with_accounts else ""))
