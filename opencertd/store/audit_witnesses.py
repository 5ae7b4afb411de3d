"""What else in the database bears witness of deeds: whoever cuts the end off the audit chain leaves these behind.

Every signature by an issuer's key is an entry, in the transaction that stores what was signed, and so is every
revocation. So a certificate, a CRL or a revocation without its entry says that the entry was taken away, also where no
checkpoint knows of it yet.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from sqlalchemy import Connection, select
from twisted.internet.defer import Deferred

from opencertd.issuance.audit import tbs_sha256
from opencertd.model.audit import AuditEntry, Deed
from opencertd.model.certificates import CertificateState
from opencertd.store.database import Database
from opencertd.store.schema import certificates
from opencertd.store.status_tables import crls, revocation_changes

_REVOCATIONS = frozenset({Deed.REVOKE.value, Deed.REINSTATE.value})

_AT_ONCE = 1000  # rows: of a year's certificates not all are held at a time

IMPORTED = "import"
"""Owner of certificates that another program signed: of these, one entry tells of all."""


@dataclass(frozen=True)
class Witness:
    """Something done. `words`: what it is; `at`: when; `mark`: one of the `marks_of` its entry."""

    words: str
    at: datetime
    mark: str | None


def marks_of(entry: AuditEntry) -> tuple[str | None, ...]:
    """By what an entry is known to speak of a witness: the hash of what was signed, or the certificate's revocation."""
    if entry.deed not in _REVOCATIONS:
        return (entry.tbs_sha256,)
    try:
        what = json.loads(entry.what)
        return (_revocation_of(what["issuer"], what["serial"]),)
    except (TypeError, ValueError, KeyError):  # somebody has edited it, which is said elsewhere
        return ()


def _revocation_of(issuer_id: str, serial: str) -> str:
    return f"revocation {serial} {issuer_id}"


class SqlAuditWitnesses:
    """Reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unaccounted(self, moment: datetime, told: Collection[str | None]) -> Deferred[tuple[Witness, ...]]:
        """What was signed or revoked at `moment` or later, is still kept, and has none of the marks `told`."""

        def read(connection: Connection) -> tuple[Witness, ...]:
            some = connection.execution_options(yield_per=_AT_ONCE)
            found = chain(_certificates(some, moment), _crls(some, moment), _revocations(some, moment))
            return tuple(witness for witness in found if witness.mark not in told)

        return self._database.read(read, long=True)


def _certificates(connection: Connection, moment: datetime) -> Iterator[Witness]:
    c = certificates.c
    asked = (
        select(c.serial, c.issuer_id, c.issued_at, c.certificate_der)
        .where(c.state == CertificateState.ISSUED, c.owner != IMPORTED, c.issued_at >= moment)
        .order_by(c.id)
    )
    for row in connection.execute(asked):
        if row.certificate_der is not None:
            words = f"certificate {row.serial:x} of issuer {row.issuer_id}"
            yield Witness(words, row.issued_at, tbs_sha256(row.certificate_der))


def _crls(connection: Connection, moment: datetime) -> Iterator[Witness]:
    c = crls.c
    asked = select(c.number, c.issuer_id, c.this_update, c.crl_der).where(c.this_update >= moment).order_by(c.number)
    for row in connection.execute(asked):
        yield Witness(f"CRL {row.number} of issuer {row.issuer_id}", row.this_update, tbs_sha256(row.crl_der))


def _revocations(connection: Connection, moment: datetime) -> Iterator[Witness]:
    change, of = revocation_changes.c, certificates.c
    asked = (
        select(of.serial, of.issuer_id, change.changed_at)
        .join_from(revocation_changes, certificates, change.certificate_id == of.id)
        .where(change.changed_at >= moment, change.requester.not_like(f"{IMPORTED} by %"))
        .order_by(change.changed_at)
    )
    for row in connection.execute(asked):
        words = f"the revocation of {row.serial:x} of issuer {row.issuer_id}"
        yield Witness(words, row.changed_at, _revocation_of(row.issuer_id, f"{row.serial:x}"))
