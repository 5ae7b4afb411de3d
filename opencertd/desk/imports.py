"""An existing CA becomes an issuer here, with all it ever issued and revoked: `opencert ca import`.

Everything that is brought is read and judged first. Then its key is written, and one transaction does the rest: a
failure at any point leaves the CA as it was. The daemon may run meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.asn1.crl import Scope
from opencertd.clock import Clock
from opencertd.config import Settings
from opencertd.crl.messages import Draft, build_crl, build_tbs
from opencertd.crl.publisher import next_number
from opencertd.crl.store import Entries, PublishedCrl
from opencertd.errors import Refusal, StartError, in_full
from opencertd.first_start import at_once, check_new, rules_for, run_now
from opencertd.issuance.brought import AskPassphrase, BroughtCa, read_ca
from opencertd.issuance.ca_directory import CaDirectory, find_ca_directory
from opencertd.issuance.ceremony import issuer_record
from opencertd.issuance.existing import is_signed_by
from opencertd.issuance.issuer_names import check_issuer_name
from opencertd.issuance.issuers import Issuer, chain_of, read_issuer_key
from opencertd.issuance.key_move import shred
from opencertd.issuance.past import Past, PastCertificate, past_certificate, read_past, spooled
from opencertd.keys.files import read_passphrase, write_private_key
from opencertd.keys.kinds import label_of, scheme_of
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.certificates import IssuerRecord, IssuerRole
from opencertd.model.requester import Requester
from opencertd.state import StateDirectory
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.imports import BuildCrl, SqlImportStore, TakenIn

CRL_VALIDITY = timedelta(days=7)
"""Of the CRL that an import publishes; the daemon publishes the next one within a day."""


@dataclass(frozen=True)
class ImportReport:
    """What was brought, what of it was new, and the number of the CRL that was published (None: nothing was new)."""

    subject: str
    key: str
    not_after: datetime
    brought: Past
    taken: TakenIn
    crl_number: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Bundle:
    """All that paths on a command line led to."""

    ca: BroughtCa
    directory: CaDirectory | None
    crl_number: int  # the highest used elsewhere
    notes: tuple[str, ...]


def import_ca(
    settings: Settings, name: str, paths: Sequence[Path], *, ask: AskPassphrase, by: Requester, clock: Clock
) -> ImportReport:
    """Take the CA in `paths` in as the issuer `name`: files with its certificate and key, or its directory, or both.

    Raises StartError in words, and then nothing has changed.
    """
    check_issuer_name(name)
    bundle = _read(paths, ask, clock.now())
    said = {"from": " ".join(map(str, paths))}
    with contextlib.closing(_past(bundle)) as past, _open(settings, clock, by) as place:
        taken, crl_number = run_now(_take_in(place, name, bundle, past, said))
    certificate = bundle.ca.certificate
    return ImportReport(
        subject=dn.format_dn(certificate.subject),
        key=label_of(bundle.ca.key.public_key()),
        not_after=certificate.not_valid_after_utc,
        brought=past,
        taken=taken,
        crl_number=crl_number,
        notes=bundle.notes,
    )


@dataclass(frozen=True)
class _Place:
    """Where the CA is taken in."""

    settings: Settings
    clock: Clock
    state: StateDirectory
    certificates: SqlCertificateStore
    imports: SqlImportStore
    by: Requester


async def _take_in(
    place: _Place, name: str, bundle: _Bundle, past: Past, said: dict[str, str]
) -> tuple[TakenIn, int | None]:
    """What was new, and the number of the CRL that says so."""
    settings, ca = place.settings, bundle.ca
    records = await place.certificates.issuers()
    if not records:
        check_new(settings, place.state)
    record = _record(name, ca, records)
    if all(held.id != record.id for held in records):
        rules_for(settings, settings.rules(), (*records, record))
    build, made = _crl_builder(record, records, bundle, place.clock.now().replace(microsecond=0))
    own, said = _own(record, ca.certificate), {**said, "index_sha256": past.index_sha256}
    key_file = _keep_key(record, records, ca, place.state, read_passphrase(settings.key_passphrase_file))
    try:
        taken = await place.imports.take_in(record, own, past, build, place.by, **said)
    except BaseException:
        if key_file is not None:
            await _forget_key(place, record, key_file)
        raise
    return taken, made[-1].number if taken else None


def _read(paths: Sequence[Path], ask: AskPassphrase, now: datetime) -> _Bundle:
    directories = [path for path in paths if path.is_dir()]
    files = [path for path in paths if path not in directories]
    if not directories:
        return _Bundle(read_ca(files, ask, now), None, 0, ())
    if len(directories) > 1:
        raise StartError(f"{directories[0]} and {directories[1]} are two directories: import one CA at a time")
    directory = find_ca_directory(directories[0])
    if not files:
        if directory.key is None:
            raise StartError(f"the private key is not in {directory.path}: give its file after the directory")
        files = [directory.key]
    ca = read_ca([directory.certificate, *files], ask, now)
    number, notes = _last_crl(directory, ca.certificate)
    if directory.has_unique_subjects():
        notes = (*notes, "unique_subject = yes does not come along: a subject may have several certificates here")
    return _Bundle(ca, directory, max(number, directory.crl_number()), notes)


def _last_crl(directory: CaDirectory, certificate: x509.Certificate) -> tuple[int, tuple[str, ...]]:
    """The number of the CRL in the directory, 0 when there is none, and what to say of it."""
    if directory.crl is None:
        return 0, ()
    try:
        data = _read_crl(directory.crl)
        crl = x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)
        if crl.issuer != certificate.subject:
            return 0, (f"{directory.crl} is another CA's and was passed over",)
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, ()
    except x509.ExtensionNotFound:
        return 0, ()
    except ValueError:
        return 0, (f"{directory.crl} cannot be read and was passed over",)


def _read_crl(path: Path) -> bytes:
    """Everything in the file, however many entries it has. Raises StartError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None


def _past(bundle: _Bundle) -> Past:
    if bundle.directory is None:
        return spooled(())
    return read_past(bundle.directory, bundle.ca.certificate, IssuerRole.ISSUING.value)


@contextlib.contextmanager
def _open(settings: Settings, clock: Clock, by: Requester) -> Iterator[_Place]:
    """The state directory, held unless a daemon runs on it, and the store without a reactor."""
    state = StateDirectory(settings.state_dir)
    with contextlib.suppress(StartError):
        state.lock()
    try:
        database = Database.open_inline(settings.database_url())
        try:
            stores = SqlCertificateStore(database, clock), SqlImportStore(database, clock)
            yield _Place(settings, clock, state, *stores, by)
        finally:
            run_now(database.close())
    except Refusal as refusal:
        raise StartError(f"nothing was imported: {in_full(refusal)}") from None
    finally:
        state.unlock()


def _record(name: str, ca: BroughtCa, records: tuple[IssuerRecord, ...]) -> IssuerRecord:
    """As it is here already, else as it is to be: under one of our own issuers where one of them has signed it."""
    record = issuer_record(name, IssuerRole.ISSUING, ca.certificate, parents_der=ca.parents_der)
    for held in records:
        if held.id == record.id and held.name == name:
            return held
    for held in records:
        if held.id != record.id and is_signed_by(ca.certificate, x509.load_der_x509_certificate(held.certificate_der)):
            record = replace(record, parent_id=held.id, parents_der=())
            break
    # Part of the id, so that no file of another key is ever in the way.
    return replace(record, key_reference=f"{name}-{record.id[:8]}.pem")


def _own(record: IssuerRecord, certificate: x509.Certificate) -> tuple[str, PastCertificate] | None:
    """The CA certificate's own place: under the issuer here that signed it."""
    signer = record.parent_id or (record.id if certificate.issuer == certificate.subject else None)
    return None if signer is None else (signer, past_certificate(certificate, None, IssuerRole.ISSUING.value))


def _crl_builder(
    record: IssuerRecord, records: tuple[IssuerRecord, ...], bundle: _Bundle, now: datetime
) -> tuple[BuildCrl, list[PublishedCrl]]:
    """What makes the issuer's CRL, and where it puts those it made."""
    key, certificate = bundle.ca.key, bundle.ca.certificate
    scheme = scheme_of(key.public_key(), record.scheme)
    signer = SoftwareSigner(key, at_once, scheme)
    issuer = Issuer(record, certificate, signer, *chain_of(record, {held.id: held for held in records}))
    made: list[PublishedCrl] = []

    def build(after: int, entries: Entries) -> PublishedCrl:
        number = next_number(max(after, bundle.crl_number), now)
        draft = Draft(issuer, number, now, now + CRL_VALIDITY, Scope())
        tbs = build_tbs(draft, entries)
        crl = build_crl(draft, tuple(map(len, entries)), tbs, scheme.sign(key, tbs))
        made.append(PublishedCrl(record.id, number, now, now + CRL_VALIDITY, crl))
        return made[-1]

    return build, made


def _keep_key(
    record: IssuerRecord,
    records: tuple[IssuerRecord, ...],
    ca: BroughtCa,
    state: StateDirectory,
    passphrase: bytes | None,
) -> Path | None:
    """Write the new issuer's key before the issuer is known; the file, None when it was there. Raises StartError."""
    if any(held.id == record.id for held in records) or record.key_reference is None:
        return None
    path = state.keys / record.key_reference
    if path.exists():  # an earlier import was stopped right after it
        read_issuer_key(record, state.keys, passphrase)
        return None
    write_private_key(path, ca.key, passphrase)
    return path


async def _forget_key(place: _Place, record: IssuerRecord, path: Path) -> None:
    """Remove the key of an issuer that did not come to be.

    A database that went away while it committed may have done so: unless it says now that it has no such issuer, the
    key stays, and importing again finds it.
    """
    with contextlib.suppress(Refusal):
        if all(held.id != record.id for held in await place.certificates.issuers()):
            shred(path)
