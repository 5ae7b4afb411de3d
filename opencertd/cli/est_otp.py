"""`opencert est otp add | list | revoke`: passwords that are good for so many certificates, mostly one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.acme import now
from opencertd.cli.ca_options import settings_of, where_options
from opencertd.cli.files import report
from opencertd.errors import Refusal, StartError

if TYPE_CHECKING:
    from opencertd.config import Settings
    from opencertd.stores import Stores

_PAGE = 500
_MOST_NOTE = 200
_LONGEST = timedelta(days=366)


@contextmanager
def _stores(where: dict[str, Any]) -> Iterator[tuple[Stores, Settings]]:
    """What `where_options` lead to. Raises StartError when there is no CA, or for what the store refuses."""
    from opencertd.clock import SystemClock
    from opencertd.desk.deeds import check_there
    from opencertd.first_start import run_now
    from opencertd.store.database import Database
    from opencertd.stores import Stores

    settings = settings_of(where)
    check_there(settings)
    database = Database.open_inline(settings.database_url())
    try:
        yield Stores.over(database, SystemClock()), settings
    except Refusal as refusal:
        raise StartError(refusal.detail) from None
    finally:
        run_now(database.close())


@click.group()
def otp() -> None:
    """One-time passwords to enrol with, by EST and POST /ca/csr. The daemon may run: it knows each change at once."""


@otp.command(
    "add",
    epilog="""\b
Examples:
  opencert est otp add --allow-name printer7.example.com --state-dir ./ca
  opencert est otp add --allow-name "*.cams.example.com" --profile cameras --uses 20 --expires 30d --note "hall 3"

\b
Shows NAME:PASSWORD, this once, as curl -u takes it; only a hash of it is kept. It goes by HTTP Basic. A certificate
that is issued uses it up, a request that is refused does not.""",
)
@click.option(
    "--allow-name",
    "patterns",
    multiple=True,
    required=True,
    metavar="PATTERN",
    help='A name that may be had, *.example.com for all below, or "*" for every one; can be repeated.',
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="A profile that it is for. [default: all]")
@click.option("--uses", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Certificates it is for.")
@click.option("--expires", default="7d", show_default=True, metavar="TIME", help="How long it is good, up to 366d.")
@click.option("--note", default="", metavar="TEXT", help="What it is for, for the list and the audit log.")
@where_options
def add(
    *, patterns: tuple[str, ...], profiles: tuple[str, ...], uses: int, expires: str, note: str, **where: Any
) -> None:
    """Make a password and show it."""
    from opencertd.desk.deeds import operator
    from opencertd.model.enrolment_password import EnrolmentPassword, digest_of, new_words
    from opencertd.web.users import check_pattern

    for pattern in patterns:
        check_pattern(pattern)
    if len(note) > _MOST_NOTE or not note.isprintable():
        raise click.UsageError(f"--note: at most {_MOST_NOTE} printable characters on one line")
    at = datetime.now(UTC).replace(microsecond=0)
    until, by = at + _length(expires), operator()
    with _stores(where) as (stores, settings):
        _check_profiles(stores, settings, profiles)
        key = now(stores.shared_secret())
        name, password = new_words()
        now(
            stores.enrolment_passwords.add(
                EnrolmentPassword(
                    id=name,
                    digest=digest_of(key, name, password),
                    names=patterns,
                    profiles=profiles or None,
                    uses=uses,
                    made_at=at,
                    made_by=f"{by.proof.value}:{by.id}",
                    until=until,
                    note=note,
                ),
                by,
            )
        )
    click.echo(f"{name}:{password}")
    report("it is shown this once; hand it over by a way that nobody else reads")


def _length(text: str) -> timedelta:
    from opencertd.model.durations import parse_duration

    try:
        length = parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--expires: {error}") from None
    if not timedelta(minutes=1) <= length <= _LONGEST:
        raise click.UsageError(f"--expires: {text} is not between a minute and {_LONGEST.days} days")
    return length


def _check_profiles(stores: Stores, settings: Settings, names: tuple[str, ...]) -> None:
    """A mistyped one would make a password that nothing can be had with."""
    from opencertd.first_start import rules_for

    known = rules_for(settings, settings.rules(), now(stores.certificates.issuers())).profiles
    for name in names:
        if name not in known or not known[name].public:
            raise StartError(f"--profile: there is no profile {name[:80]!r}")


@otp.command("list", epilog="\b\nExample:\n  opencert est otp list --state-dir ./ca")
@where_options
def list_passwords(**where: Any) -> None:
    """Show all: name, whether it is good, certificates had of those it is for, names, profiles, by whom, note."""
    with _stores(where) as (stores, _):
        at = datetime.now(UTC)
        after = ""
        while page := now(stores.enrolment_passwords.page(after, _PAGE)):
            for one in page:
                spent = "was used up" if one.used >= one.uses else None
                state = one.why_unusable(at) or spent or f"good until {one.until:%Y-%m-%dT%H:%M:%SZ}"
                profiles = " ".join(one.profiles) if one.profiles else "any"
                note = f"  {one.note}" if one.note else ""
                names = " ".join(one.names)
                click.echo(
                    f"{one.id}  {state}  {one.used}/{one.uses}  names {names}  profiles {profiles}  "
                    f"by {one.made_by}{note}"
                )
            after = page[-1].id


@otp.command("revoke", epilog="\b\nExample:\n  opencert est otp revoke otp-k7qfzm2a --state-dir ./ca")
@click.argument("name", metavar="NAME")
@where_options
def revoke(*, name: str, **where: Any) -> None:
    """Let a password be good for nothing more. Certificates that were had with it stay."""
    from opencertd.desk.deeds import operator

    with _stores(where) as (stores, _):
        now(stores.enrolment_passwords.revoke(name.strip(), operator()))
    report(f"{name.strip()} is good for nothing more")
