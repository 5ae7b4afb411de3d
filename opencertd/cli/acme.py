"""`opencert acme …`: ACME accounts and the keys that vouch for them, in the database; a running daemon goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import settings_of, where_options
from opencertd.cli.files import report
from opencertd.errors import Refusal, StartError

if TYPE_CHECKING:
    from opencertd.acme.states import Account
    from opencertd.config import Settings
    from opencertd.store.acme_admin import SqlAcmeAdmin

_PAGE = 500


@contextmanager
def administration(where: dict[str, Any]) -> Iterator[tuple[SqlAcmeAdmin, Settings]]:
    """What `where_options` lead to. Raises StartError when there is no CA."""
    from opencertd.clock import SystemClock
    from opencertd.desk.deeds import check_there, operator
    from opencertd.first_start import run_now
    from opencertd.store.acme_admin import SqlAcmeAdmin
    from opencertd.store.database import Database

    settings = settings_of(where)
    check_there(settings)
    database = Database.open_inline(settings.database_url())
    try:
        yield SqlAcmeAdmin(database, SystemClock(), operator()), settings
    except Refusal as refusal:
        raise StartError(refusal.detail) from None
    finally:
        run_now(database.close())


def now(deferred: Any) -> Any:
    """The result of a Deferred that has fired."""
    from opencertd.first_start import run_now

    async def wait() -> Any:
        return await deferred

    return run_now(wait())


@click.group()
def acme() -> None:
    """ACME accounts: see, block and close them; keys for external account binding."""


@click.group()
def account() -> None:
    """ACME accounts. The daemon may run: it goes by each change from the next request on."""


@account.command("list", epilog="\b\nExample:\n  opencert acme account list --state-dir ./ca")
@where_options
def list_accounts(**where: Any) -> None:
    """Show all accounts, oldest first: id, status, when it was made, external account key, contacts."""
    with administration(where) as (admin, _):
        last = None
        while page := now(admin.accounts(last, _PAGE)):
            for one in page:
                click.echo(_line(one))
            last = page[-1]


def _line(one: Account) -> str:
    made = one.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    status = "blocked" if one.status.value == "revoked" else one.status.value
    return f"{one.id}  {status:11}  {made}  {one.eab_key or '-'}  {' '.join(one.contact) or '-'}"


@account.command("show", epilog="\b\nExample:\n  opencert acme account show 5kVd0ZtNRl2mRe3Xv7Jq8g --state-dir ./ca")
@click.argument("account_id", metavar="ACCOUNT")
@where_options
def show(account_id: str, **where: Any) -> None:
    """Show one account; ACCOUNT is the last part of its URL, which inventory and audit log show too."""
    with administration(where) as (admin, _):
        one, orders = now(admin.account(account_id.rpartition("/")[2]))
    status = "blocked" if one.status.value == "revoked" else one.status.value
    for name, value in (
        ("id", one.id),
        ("status", status),
        ("created", one.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("contact", " ".join(one.contact) or "-"),
        ("terms agreed", one.terms_url or ("yes" if one.terms_agreed else "-")),
        ("external account key", one.eab_key or "-"),
        ("key", f"{one.jwk.get('kty')} {one.jwk.get('crv') or one.jwk.get('alg') or ''}".strip()),
        ("key thumbprint", one.thumbprint),
        ("orders kept", orders),
    ):
        click.echo(f"{name + ':':22}{value}")


_SAID = {
    "block": "is blocked: it can do nothing until it is unblocked, nor can its key have another account",
    "unblock": "is unblocked",
    "deactivate": "is closed for good; its key can have no other account",
}


def _change(name: str, words: str) -> None:
    @account.command(name, help=words, epilog=f"\b\nExample:\n  opencert acme account {name} 5kVd0ZtNRl2mRe3Xv7Jq8g")
    @click.argument("account_id", metavar="ACCOUNT")
    @where_options
    def change(account_id: str, **where: Any) -> None:
        short = account_id.rpartition("/")[2]
        with administration(where) as (admin, _):
            done = now(admin.change(short, name))
        report(f"the account {short} {_SAID[name] if done else 'was that already'}")


_change("block", "Block an account. What it got stays good; revoke that by `opencert cert revoke`.")
_change("unblock", "Let a blocked account go on.")
_change("deactivate", "Close an account for good, as its holder can.")
