"""`opencert ca distrust | trust`: what an issuer signed is to be replaced soon, and goes on working meanwhile."""

from __future__ import annotations

from typing import Any

import click

from opencertd.cli.ca_life import check_left, left_without, report_left
from opencertd.cli.ca_options import desk_of, where_options
from opencertd.cli.files import report


@click.command(
    "distrust",
    epilog="""\b
Examples:
  opencert ca distrust rsa --state-dir ./ca
  opencert ca distrust rsa-root --config /etc/opencertd/opencertd.toml""",
)
@click.argument("name")
@click.option(
    "--even-if-profiles-lose-their-issuer",
    "even_so",
    is_flag=True,
    help="Do it though some profiles can then issue nothing.",
)
@where_options
def distrust(*, name: str, even_so: bool, **where: Any) -> None:
    """Have everything replaced that the issuer NAME and those below it signed, without revoking any of it.

    ACME clients that ask when to renew (RFC 9773) are told: now. New certificates come from other issuers. What there
    is goes on working: OCSP, CRLs and trust anchors stay. `opencert ca trust` ends it, `opencert ca revoke` goes on.
    """
    from opencertd.first_start import run_now
    from opencertd.issuance.hierarchy import below

    with desk_of(where) as desk:
        deeds, issuers = desk.deeds(), desk.issuers()
        issuer = deeds.issuer(name)
        left = left_without(desk, issuers, issuer, *below(issuers, issuer))
        check_left(name, left, even_so)
        names = run_now(deeds.distrust(name))
    report(f"distrusted: {', '.join(names)}; they sign no certificates, and clients that ask are told to renew now")
    report_left(left)


@click.command("trust", epilog="\b\nExample:\n  opencert ca trust rsa --state-dir ./ca")
@click.argument("name")
@where_options
def trust(*, name: str, **where: Any) -> None:
    """End the distrust of the issuer NAME, and of those below it that were distrusted with it."""
    from opencertd.first_start import run_now

    with desk_of(where) as desk:
        names = run_now(desk.deeds().trust(name))
    report(f"trusted again: {', '.join(names)}")
