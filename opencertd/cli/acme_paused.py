"""`opencert acme paused …`: clients that have failed for weeks and get no new orders, until somebody resumes them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.acme import administration, now
from opencertd.cli.ca_options import where_options
from opencertd.cli.files import report

if TYPE_CHECKING:
    from opencertd.model.names import AltName

_PAGE = 500
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@click.group()
def paused() -> None:
    """Accounts that get no orders for names which they have failed to prove for weeks ([limits] pause_after)."""


@paused.command("list", epilog="\b\nExample:\n  opencert acme paused list --state-dir ./ca")
@click.argument("account_id", metavar="[ACCOUNT]", required=False)
@where_options
def list_paused(account_id: str | None, **where: Any) -> None:
    """Show what is paused, of one account or of all: account, name, since when, after how many failures."""
    with administration(where) as (admin, _):
        last = None
        while page := now(admin.paused(_short(account_id), last, _PAGE)):
            for one in page:
                since, at = one.since.strftime(_TIME), one.paused_at.strftime(_TIME)
                times = f"{one.failed} failures since {since}"
                click.echo(f"{one.account_id}  {one.name.value}  paused {at}  {times}")
            last = page[-1]


@paused.command(
    "resume",
    epilog="""\b
Examples:
  opencert acme paused resume 5kVd0ZtNRl2mRe3Xv7Jq8g www.example.com --state-dir ./ca
  opencert acme paused resume 5kVd0ZtNRl2mRe3Xv7Jq8g --all-names
  opencert acme paused resume --all-accounts""",
)
@click.argument("account_id", metavar="[ACCOUNT]", required=False)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all-names", is_flag=True, help="Resume the account for every name.")
@click.option("--all-accounts", is_flag=True, help="Resume all accounts, as after a fault of this CA's own.")
@where_options
def resume(
    *, account_id: str | None, names: tuple[str, ...], all_names: bool, all_accounts: bool, **where: Any
) -> None:
    """Let ACCOUNT order NAMEs again. What is still wrong pauses it anew only after as many weeks and failures."""
    named = account_id is not None and bool(names) != all_names and not all_accounts
    if not named and not (all_accounts and account_id is None and not all_names):
        raise click.UsageError("give ACCOUNT and NAMEs, ACCOUNT and --all-names, or --all-accounts alone")
    wanted = [meant for text in names for meant in _meant(text)] if names else None
    with administration(where) as (admin, _):
        resumed = now(admin.resume(_short(account_id), wanted))
    for account, name in resumed:
        click.echo(f"{account}  {name.value}  resumed")
    if not resumed:
        report("nothing of that is paused")


def _short(account_id: str | None) -> str | None:
    """The account's id, where its URL is given."""
    return None if account_id is None else account_id.rpartition("/")[2]


def _meant(text: str) -> tuple[AltName, ...]:
    """The names that somebody may mean by `text`: of a host, an address, a device."""
    from opencertd.errors import Refusal
    from opencertd.model.names import DEVICE_KINDS, AltName, parse_dns_name, parse_ip_address

    meant = [AltName(kind, text) for kind in DEVICE_KINDS]
    for parse in (parse_ip_address, parse_dns_name):
        with contextlib.suppress(Refusal):
            meant.append(parse(text.removeprefix("*.")))
    return tuple(meant)
