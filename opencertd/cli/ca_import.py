"""`opencert ca import`: an existing CA becomes an issuer of the CA in a state directory."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opencertd.cli.files import prompt_secret, read_secret, report

if TYPE_CHECKING:
    from opencertd.config import Settings
    from opencertd.desk.imports import ImportReport
    from opencertd.model.requester import Requester


@click.command(
    "import",
    epilog="""\b
Examples:
  opencert ca import office /etc/easy-rsa/pki --state-dir ./ca
  opencert ca import office /root/demoCA /media/stick/cakey.pem --passphrase-file secret
  opencert ca import office ca.p12 --config /etc/opencertd/opencertd.toml
  opencert ca import office ca.crt ca.key intermediate.pem --state-dir ./ca""",
)
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE…|DIR")
@click.option("--passphrase-file", metavar="FILE", help="The passphrase of the key or PKCS#12 file that is brought.")
@click.option("--config", metavar="FILE", help="The daemon's settings file; its OPENCERT_… variables count too.")
@click.option("--state-dir", metavar="DIR", help="The daemon's state directory, if the settings do not say.")
def import_ca(
    *, name: str, paths: tuple[Path, ...], passphrase_file: str | None, config: str | None, state_dir: str | None
) -> None:
    """Take an existing CA in as the issuer NAME, which then issues, answers OCSP and publishes CRLs.

    FILEs hold its certificate, its private key and the certificates above it, in PEM, DER or PKCS#12. A DIR of easy-rsa
    (its pki directory) or of openssl ca brings its past too: all that index.txt knows of, with every revocation. A key
    that is kept elsewhere is given as a FILE after the DIR.

    All of it is taken in, or nothing. Importing again brings what the index has got since. In an empty state directory
    the CA becomes that of a new daemon, which then starts without --dn.

    When `opencert ca csr NAME` has made a request, the FILEs are the answer: its certificate, with the chain above it.
    """
    from opencertd.clock import SystemClock
    from opencertd.config import ENVIRONMENT_PREFIX, read_settings
    from opencertd.desk import imports
    from opencertd.desk.pending_requests import PendingRequests

    file = config or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    given = {"state_dir": state_dir} if state_dir else {}
    settings = read_settings(given, os.environ, Path(file) if file else None, existing=True)

    if PendingRequests(settings.state_dir).get(name) is not None:
        _take_answer(settings, name, paths)
        return

    def ask(what: str) -> bytes:
        if passphrase_file:
            return read_secret(passphrase_file, "passphrase").encode()
        return prompt_secret(f"passphrase of {what}", "--passphrase-file").encode()

    done = imports.import_ca(settings, name, paths, ask=ask, by=_operator(), clock=SystemClock())
    for line in _words(name, done):
        report(line)


def _take_answer(settings: Settings, name: str, paths: tuple[Path, ...]) -> None:
    from opencertd.clock import SystemClock
    from opencertd.desk.answers import take_answer
    from opencertd.desk.deeds import open_desk

    with open_desk(settings, SystemClock()) as desk:
        record = take_answer(desk, name, [str(path) for path in paths])
        above = desk.issuers().by_id(record.id)
    report(f"{name} has its certificate, and is an issuer now")
    if above is not None and above.root_der is None:
        report("the root above it was not among the files: clients that need it do not get it from here")


def _operator() -> Requester:
    from opencertd.model.requester import ANY_NAME, Proof, Requester

    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return Requester(Proof.OPERATOR, user, user, ANY_NAME)


def _words(name: str, done: ImportReport) -> list[str]:
    past, taken = done.brought, done.taken
    what = f"the CA {done.subject} ({done.key}, until {done.not_after.date()})"
    said = [f"{what} is the issuer {name} now" if taken.issuer else f"{what} was here already, as the issuer {name}"]
    if past.certificates:
        said.append(
            f"its index tells of {past.certificates} certificates, {past.revoked} of them revoked or on hold, "
            f"{past.without_certificate} without a file of the certificate itself"
        )
        new = f"{taken.certificates} certificates and {taken.revocations} revocations were new here"
        said.append(new if taken else "all of them were known here; nothing was changed")
    if done.crl_number is not None:
        said.append(f"its CRL goes on with number {done.crl_number} (hex {done.crl_number:X})")
    said.extend(done.notes)
    if taken.issuer:
        said.append("keep its old key and database away from use: from now on only this CA may issue and revoke")
    return said
