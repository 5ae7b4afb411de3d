"""`opencert ca rollover`: a new key for an issuer or a root, while the daemon runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from opencertd.cli.ca_options import parse_type, settings_of, where_options
from opencertd.cli.files import report

if TYPE_CHECKING:
    from opencertd.config import Settings
    from opencertd.issuance.issuers import Issuer
    from opencertd.issuance.rollover import Succession

_MOST_DAYS = 7300


@click.command(
    "rollover",
    short_help="Give an issuer or a root a new key, while the daemon runs.",
    epilog="""\b
Examples:
  opencert ca rollover ecdsa --config /etc/opencertd/opencertd.toml
  opencert ca rollover ecdsa-root --with-issuing --window 180 --config ca.toml
  opencert ca rollover ecdsa-root --close --config ca.toml""",
)
@click.argument("issuer")
@click.option("--key-type", metavar="TYPE", help="Kind of the new key, as twistd's --key-type. [default: as before]")
@click.option(
    "--key-store",
    type=click.Choice(["file", "pkcs11"]),
    help="Where the new key is made. [default: where the old one is]",
)
@click.option(
    "--window",
    metavar="DAYS",
    type=click.IntRange(1, _MOST_DAYS),
    help="How long old and new are handed out together. [default: 365]",
)
@click.option("--with-issuing", is_flag=True, help="With a root, also roll over the issuing CAs under it.")
@click.option("--close", is_flag=True, help="End the window of ISSUER's rollover now.")
@where_options
def rollover(
    *,
    issuer: str,
    key_type: str | None,
    key_store: str | None,
    window: int | None,
    with_issuing: bool,
    close: bool,
    **where: str | None,
) -> None:
    """Give ISSUER (ecdsa, rsa-root …) a new key: ISSUER-2 takes its place, and ISSUER is retired.

    The daemon may run: its workers know the new one within a second, sign by it some seconds later, and lose no
    request. The old key goes on signing CRLs, and its OCSP responder answers, until all that it signed has expired.
    If the command is broken off, give it again: it finishes, or says that all was done.
    """
    if close and (key_type or key_store or window or with_issuing):
        raise click.UsageError("--close ends a window, and takes none of the options of a rollover")
    from opencertd.desk.rollover import rollover_session
    from opencertd.issuance.rollover import CLOSE, DEED, DEFAULT_WINDOW, Wish

    wanted = parse_type(key_type) if key_type else None
    settings = settings_of(where)
    with rollover_session(settings, key_store) as session:
        if close:
            _report_closed(issuer, session.do(CLOSE, issuer, lambda rollover: rollover.close(issuer)))
            return
        length = DEFAULT_WINDOW if window is None else timedelta(days=window)
        wish = Wish(issuer, length, wanted, with_issuing)
        made, left = session.do(DEED, issuer, lambda rollover: rollover.roll_over(wish))
        _report_done(made, settings)
        _report_left(left, made)


def _report_done(made: Sequence[Succession], settings: Settings) -> None:
    for one in made:
        before, after = one.before.name, one.after.name
        report(f"{after} has taken the place of {before}; its certificate is valid until {_day(one.after)}")
        if one.last_expiry is not None and one.last_expiry > one.until:
            report(
                f"  the last certificate under {before} expires on {one.last_expiry:%Y-%m-%d}, after the window: "
                f"whoever is to verify it then must have kept {before}"
            )
    report(f"old and new are handed out together until {made[0].until:%Y-%m-%d} (--close ends that)")
    files = [key for one in made if (key := one.after.record.key_reference) and not key.startswith("pkcs11:")]
    if files and settings.database is not None and settings.database.startswith("postgresql"):
        report(
            f"copy {', '.join(files)} from {settings.state_dir / 'keys'} to the other nodes that share the database: "
            "until it is there, they sign by the old key"
        )


def _report_left(left: Sequence[Issuer], made: Sequence[Succession]) -> None:
    for issuer in left:
        report(
            f"{issuer.name} still stands under {made[0].before.name}, until it is rolled over too: "
            f"opencert ca rollover {issuer.name}"
        )


def _report_closed(name: str, last: datetime | None) -> None:
    report(f"{name} is handed out no more; its CRLs and its OCSP answers go on until all that it signed has expired")
    if last is None:
        report("no certificate needs it any more")
    else:
        report(f"the last certificate that needs it expires on {last:%Y-%m-%d %H:%M:%S} UTC")


def _day(issuer: Issuer) -> str:
    return f"{issuer.certificate.not_valid_after_utc:%Y-%m-%d}"
