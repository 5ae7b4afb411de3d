"""`opencert ca list | show`: which issuers there are, where their keys are, and what they have out in the world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import desk_of, where_options

if TYPE_CHECKING:
    from opencertd.desk.deeds import Desk
    from opencertd.issuance.issuers import Issuer, Issuers
    from opencertd.store.holdings import Holdings

_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")

_WIDEST = 1000


@dataclass(frozen=True)
class _Seen:
    """Everything at one moment."""

    issuers: Issuers
    holdings: dict[str, Holdings]
    now: datetime


@click.command(
    "list",
    epilog="""\b
Examples:
  opencert ca list --state-dir ./ca
  opencert ca list --json --config /etc/opencertd/opencertd.toml""",
)
@_json_option
@where_options
def list_issuers(*, as_json: bool, **where: Any) -> None:
    """Show the issuers of this CA: their state, keys, validity, and how many live certificates each has out."""
    with desk_of(where) as desk:
        seen = _look(desk)
        shown = [_summary(issuer, seen) for issuer in seen.issuers.all()]
        waiting = [pending.name for pending in desk.pending.all()]
        orphans = _orphans(desk, seen)
    if as_json:
        click.echo(json.dumps({"issuers": shown, "waiting": waiting, "unused_key_files": orphans}, indent=1))
        return
    _print_table(shown)
    for name in waiting:
        click.echo(f"{name} waits for its certificate: opencert ca import {name} CERTIFICATE.pem")
    for file in orphans:
        click.echo(
            f"nothing refers to the key file {file}: a deed was broken off; remove it when no import will need it"
        )


@click.command(
    "show",
    epilog="""\b
Example:
  opencert ca show ecdsa --state-dir ./ca""",
)
@click.argument("name")
@_json_option
@where_options
def show(*, name: str, as_json: bool, **where: Any) -> None:
    """Show one issuer: its certificate, key, parents, successors, cross-certificates, CRL and what it has signed."""
    with desk_of(where) as desk:
        issuer = desk.deeds().issuer(name)
        details = _details(issuer, _look(desk), desk)
    if as_json:
        click.echo(json.dumps(details, indent=1))
        return
    width = max(len(label) for label in details)
    for label, value in details.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            heading = label.replace("_", " ") if number == 0 else ""
            click.echo(f"{heading:<{width}}  {'-' if line in (None, '') else line}")


def _look(desk: Desk) -> _Seen:
    from opencertd.first_start import run_now

    now = desk.clock.now()

    async def holdings() -> dict[str, Holdings]:
        return await desk.holdings.by_issuer(now)

    return _Seen(desk.issuers(), run_now(holdings()), now)


def _summary(issuer: Issuer, seen: _Seen) -> dict[str, Any]:
    from opencertd.asn1 import dn
    from opencertd.cli.keys import describe_key

    held = seen.holdings.get(issuer.id)
    parent = seen.issuers.by_id(issuer.record.parent_id or "")
    own = issuer.certificate
    above = "itself" if own.issuer == own.subject else "another CA"
    return {
        "name": issuer.name,
        "state": _state(issuer, seen.now),
        "subject": dn.format_dn(own.subject),
        "under": parent.name if parent else above,
        "key": describe_key(own.public_key()),
        "key_place": _key_place(issuer),
        "until": _moment(own.not_valid_after_utc),
        "live": held.live if held else 0,
        "revoked": held.revoked if held else 0,
        "last_expiry": _moment(held.last_expiry) if held and held.last_expiry else None,
    }


def _details(issuer: Issuer, seen: _Seen, desk: Desk) -> dict[str, Any]:
    from opencertd.asn1 import dn

    own = issuer.certificate
    successor = seen.issuers.successor(issuer)
    predecessor = seen.issuers.by_id(issuer.record.predecessor_id or "")
    room = issuer.room_below
    return {
        **_summary(issuer, seen),
        "id": issuer.id,
        "serial": f"{own.serial_number:x}",
        "issuer": dn.format_dn(own.issuer),
        "from": _moment(own.not_valid_before_utc),
        "signs": "CAs, unless a profile names it" if issuer.role.value == "root" else "end entities",
        "signature": issuer.record.scheme or "its key's usual way",
        "cas_below": "any number" if room is None else str(max(room, 0)),
        "names_below": [line for limits in issuer.name_limits for line in _limit_lines(limits)],
        "sha256": hashlib.sha256(issuer.certificate_der).hexdigest(),
        "sha1": own.fingerprint(_sha1()).hex(),
        "key_id": issuer.subject_key_identifier.hex(),
        "above": [dn.format_dn(one.subject) for one in issuer.certificates[1:]],
        "below": [i.name for i in seen.issuers.all() if i.record.parent_id == issuer.id],
        "successor": successor.name if successor else None,
        "predecessor": predecessor.name if predecessor else None,
        "distrusted_since": _moment(issuer.record.distrusted_at) if issuer.record.distrusted_at else None,
        "published_until": _moment(issuer.record.published_until) if issuer.record.published_until else None,
        "cross_certificates": list(_crosses(issuer, seen)),
        "crl": _crl(issuer, desk),
    }


def _sha1() -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA1()  # noqa: S303  (a fingerprint that other programs still show, not a signature)


def _limit_lines(limits: Any) -> Iterator[str]:
    for word, subtrees in (("permitted", limits.permitted), ("excluded", limits.excluded)):
        for subtree in subtrees:
            yield f"{word} {subtree} (by {limits.owner})"


def _crosses(issuer: Issuer, seen: _Seen) -> Iterator[str]:
    from cryptography import x509

    for cross in seen.issuers.cross_certificates:
        if cross.subject_id == issuer.id:
            certificate = x509.load_der_x509_certificate(cross.certificate_der)
            until = cross.published_until or certificate.not_valid_after_utc
            by = certificate.issuer.rfc4514_string()
            yield f"{cross.kind.value} by {by}, serial {certificate.serial_number:x}, published until {_moment(until)}"


def _crl(issuer: Issuer, desk: Desk) -> str | None:
    from opencertd.crl.store import Line
    from opencertd.first_start import run_now

    async def latest() -> Any:
        return await desk.stores.crls.latest(Line(issuer.id))

    crl = run_now(latest())
    return None if crl is None else f"number {crl.number}, {_moment(crl.this_update)} to {_moment(crl.next_update)}"


def _state(issuer: Issuer, now: datetime) -> str:
    state: str = issuer.record.state.value
    if issuer.distrusted:
        state = "distrusted" if state == "active" else f"{state}, distrusted"
    if now >= issuer.certificate.not_valid_after_utc:
        return f"{state}, expired"
    return f"{state}, not valid yet" if now < issuer.certificate.not_valid_before_utc else state


def _key_place(issuer: Issuer) -> str:
    reference = issuer.record.key_reference
    if reference is None:
        return "taken away"
    return reference if reference.startswith("pkcs11:") else f"file {reference}"


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%SZ}"


def _orphans(desk: Desk, seen: _Seen) -> list[str]:
    """Files in `keys/` that nothing refers to, those among them that were never written to their end."""
    known = {issuer.record.key_reference for issuer in seen.issuers.all()}
    known |= {pending.key_reference for pending in desk.pending.all()}
    return sorted(path.name for path in desk.state.keys.iterdir() if path.name not in known)


def _print_table(shown: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "STATE", "UNDER", "KEY", "WHERE", "UNTIL", "LIVE", "LAST EXPIRY", "SUBJECT"):
        table.add_column(
            heading, no_wrap=heading != "SUBJECT", overflow="fold", justify="right" if heading == "LIVE" else "left"
        )
    for one in shown:
        place = "token" if one["key_place"].startswith("pkcs11:") else one["key_place"].split()[0]
        place = "gone" if place == "taken" else place
        last = (one["last_expiry"] or "-")[:10]
        row = (one["name"], one["state"], one["under"], one["key"], place, one["until"][:10], str(one["live"]), last)
        table.add_row(*row, one["subject"])
    # As wide as it is: in the 80 columns of a pipe there would be no subject at all. Terminals wrap lines themselves.
    Console(markup=False, highlight=False, width=_WIDEST).print(table)
