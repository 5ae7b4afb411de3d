"""`opencert est pending | approve | reject`: requests that wait for a person, in the database of a CA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.acme import now
from opencertd.cli.ca_options import settings_of, where_options
from opencertd.cli.files import report
from opencertd.errors import Refusal, StartError

if TYPE_CHECKING:
    from opencertd.config import Settings
    from opencertd.model.approval import ApprovalRequest
    from opencertd.store.approvals import SqlApprovalStore

_PAGE = 500
_MOST_REASON = 500


@contextmanager
def _requests(where: dict[str, Any]) -> Iterator[tuple[SqlApprovalStore, Settings]]:
    """What `where_options` lead to. Raises StartError when there is no CA, or for what the store refuses."""
    from opencertd.clock import SystemClock
    from opencertd.desk.deeds import check_there
    from opencertd.first_start import run_now
    from opencertd.store.approvals import SqlApprovalStore
    from opencertd.store.database import Database

    settings = settings_of(where)
    check_there(settings)
    database = Database.open_inline(settings.database_url())
    try:
        yield SqlApprovalStore(database, SystemClock()), settings
    except Refusal as refusal:
        raise StartError(refusal.detail) from None
    finally:
        run_now(database.close())


@click.group()
def est() -> None:
    """Requests that wait for a person: see, approve and reject them; one-time passwords. The daemon may run.

    What waits is under profiles with `approval = "person"`. The requests come by EST, by ACME and by POST /ca/csr.
    """


@est.command(
    "pending",
    epilog="""\b
Examples:
  opencert est pending --state-dir ./ca
  opencert est pending --all --config /etc/opencertd/opencertd.toml""",
)
@click.option("--all", "everything", is_flag=True, help="Also those that were decided or have expired.")
@where_options
def pending(*, everything: bool, **where: Any) -> None:
    """Show the requests that wait: id, state, since when, until when, for what, by whom; then names and key.

    Compare the key's SHA-256 with what the device shows: openssl pkey -in device.key -pubout -outform DER | sha256sum
    """
    with _requests(where) as (store, _):
        after = 0
        while page := now((store.all if everything else store.waiting)(after, _PAGE)):
            for _, one in page:
                for line in _lines(one):
                    click.echo("".join(c if c.isprintable() else "?" for c in line))  # they are strangers' words
            after = page[-1][0]


def _lines(one: ApprovalRequest) -> tuple[str, ...]:
    names = " ".join(f"{name.kind.value}:{name.value}" for name in one.names) or "-"
    how = "/".join(filter(None, (one.protocol, one.profile)))
    validity = "" if one.validity is None else f"  for {one.validity}"
    decided: tuple[str, ...] = ()
    if one.decided_at is not None:
        decided = (f"- {_time(one.decided_at)}  by {one.decided_by}  {one.reason or '-'}",)
    label = "" if one.requester.endswith(f":{one.requester_label}") else f" ({one.requester_label})"
    return (
        f"{one.id}  {one.state.value}  {_time(one.asked_at)}  until {_time(one.until)}  {how}  {one.requester}{label}",
        f"- subject {one.subject or '-'}  names {names}{validity}",
        f"- key {one.key}  sha256 {one.spki_sha256}",
        *decided,
    )


def _time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@est.command(
    "approve",
    epilog="""\b
Example:
  opencert est approve 5f0c9a3b2d --reason "serial number checked, ticket 4711" --state-dir ./ca""",
)
@click.argument("request_id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit log.")
@where_options
def approve(*, request_id: str, reason: str, **where: Any) -> None:
    """Let a request have its certificate: the requester gets it when asking the next time. It cannot be taken back."""
    _decide(request_id, reason, where, approved=True)


@est.command(
    "reject",
    epilog="""\b
Example:
  opencert est reject 5f0c9a3b2d --reason "no device of ours" --state-dir ./ca""",
)
@click.argument("request_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why. The requester is told, and the audit log.")
@where_options
def reject(*, request_id: str, reason: str, **where: Any) -> None:
    """Refuse a request. The same request is told so for as long as requests wait; then it may be made anew."""
    _decide(request_id, reason, where, approved=False)


def _decide(request_id: str, reason: str, where: dict[str, Any], *, approved: bool) -> None:
    from opencertd.desk.deeds import operator
    from opencertd.model.approval import Decision

    if len(reason) > _MOST_REASON or not reason.isprintable():
        raise click.UsageError(f"--reason: at most {_MOST_REASON} printable characters on one line")
    with _requests(where) as (store, settings):
        until = datetime.now(UTC) + settings.approval.terms().expires
        one = now(store.decide(request_id.strip().lower(), Decision(approved, reason.strip()), operator(), until))
    who = f"{one.requester_label} ({one.subject or ' '.join(map(str, one.names))})"
    if approved:
        report(f"approved: {who} gets the certificate when asking again, until {_time(one.until)}")
    else:
        report(f"rejected: {who} is told so when asking again, until {_time(one.until)}")
