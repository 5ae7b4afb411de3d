"""`opencert ca retire | revoke`: an issuer ends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from opencertd.cli.ca_options import desk_of, where_options
from opencertd.cli.files import report
from opencertd.errors import StartError

if TYPE_CHECKING:
    from opencertd.desk.deeds import Desk
    from opencertd.issuance.issuers import Issuer, Issuers

_REASONS = ("unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation")


@click.command(
    "retire",
    epilog="""\b
Example:
  opencert ca retire rsa --state-dir ./ca""",
)
@click.argument("name")
@click.option(
    "--even-if-profiles-lose-their-issuer",
    "even_so",
    is_flag=True,
    help="Retire it though some profiles can then issue nothing.",
)
@where_options
def retire(*, name: str, even_so: bool, **where: Any) -> None:
    """Let the issuer NAME sign no more certificates. OCSP and CRLs of those it signed go on until the last expires."""
    from opencertd.first_start import run_now

    with desk_of(where) as desk:
        deeds, issuers = desk.deeds(), desk.issuers()
        issuer = deeds.issuer(name)
        left = left_without(desk, issuers, issuer)
        check_left(name, left, even_so)
        run_now(deeds.retire(name))
    report(f"{name} is retired: it signs no more certificates; OCSP and CRLs for those it signed go on")
    report_left(left)


def left_without(desk: Desk, issuers: Issuers, *without: Issuer) -> tuple[str, ...]:
    """The profiles that can issue nothing without these issuers."""
    from opencertd.first_start import rules_for
    from opencertd.issuance.hierarchy import left_without_issuers

    records = tuple(one.record for one in issuers.all())
    return left_without_issuers(rules_for(desk.settings, desk.settings.rules(), records).profiles, issuers, without)


def check_left(name: str, left: tuple[str, ...], even_so: bool) -> None:
    """Raise StartError where profiles lose their last issuer and nobody said that they may."""
    if left and not even_so:
        raise StartError(
            f"without {name} these profiles could issue nothing: {', '.join(left)}. Make another issuer or give "
            "them one by `issuers` first, or use --even-if-profiles-lose-their-issuer"
        )


def report_left(profiles: tuple[str, ...]) -> None:
    for profile in profiles:
        report(f"the profile {profile} can issue nothing now")
    if "daemon-tls" in profiles:
        report(
            "the daemon's listener keeps the certificate that it has before there is another issuer for it: "
            "opencert ca create NAME --parent ISSUER, or --tls-cert and --tls-key"
        )


@click.command(
    "revoke",
    epilog="""\b
Example:
  opencert ca revoke office --reason keyCompromise --state-dir ./ca""",
)
@click.argument("name")
@click.option("--reason", type=click.Choice(_REASONS, False), required=True, help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@where_options
def revoke(*, name: str, reason: str, yes: bool, **where: Any) -> None:
    """Revoke the certificate of the issuer NAME. Nothing it signed is trusted any more; there is no way back."""
    from opencertd.first_start import run_now
    from opencertd.model.certificates import REASONS_BY_NAME

    with desk_of(where) as desk:
        deeds = desk.deeds()
        issuer = deeds.issuer(name)
        if not yes:
            click.confirm(f"Revoke the CA {name} for good, with all that it signed?", abort=True, err=True)
        left: tuple[str, ...] = ()
        with contextlib.suppress(StartError):  # settings that are wrong are no reason not to revoke
            left = left_without(desk, desk.issuers(), issuer)
        said = run_now(deeds.revoke(name, REASONS_BY_NAME[reason.lower()]))
        above = desk.issuers().by_id(issuer.record.parent_id or "")
        desk.publish_anchors()
    report(f"{name} is revoked: it signs nothing, and this CA hands its certificate out no more")
    if said and above is not None and not above.has_key:
        report(
            f"{above.name}, whose CRL is to say so, has its key elsewhere: bring it back by `opencert ca import-key`"
        )
    elif said:
        report("the CRL and OCSP of the CA above it say so")
    elif issuer.certificate.issuer == issuer.certificate.subject:
        report("no CRL can revoke a root: have everybody take it out of what they trust")
    else:
        report("the CA that signed its certificate is elsewhere: have it revoked there too")
    report_left(left)
