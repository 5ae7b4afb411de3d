"""What else in the database bears witness of deeds: whoever cuts the end off the audit chain leaves these behind.

Every signature by an issuer's key is an entry, in the transaction that stores what was signed, and so is every
revocation. So a certificate, a CRL or a revocation without its entry says that the entry was taken away, also where no
checkpoint knows of it yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.issuance.audit import tbs_sha256
from opencertd.model.audit import AuditEntry, Deed
from opencertd.model.certificates import CertificateState
from opencertd.store.database import Database
from opencertd.store.schema import certificates
from opencertd.store.status_tables import crls, revocation_changes

_REVOCATIONS = frozenset({Deed.REVOKE.value, Deed.REINSTATE.value})

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

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def since(self, moment: datetime) -> Deferred[tuple[Witness, ...]]:
        """What was signed or revoked at `moment` or later and is still kept."""

        def read(connection: Connection) -> tuple[Witness, ...]:
            return (
                *_certificates(connection, moment),
                *_crls(connection, moment),
                *_revocations(connection, moment),
            )

        return self._database.read(read, long=True)


def _certificates(connection: Connection, moment: datetime) -> tuple[Witness, ...]:
    c = certificates.c
    asked = (
        select(c.serial, c.issuer_id, c.issued_at, c.certificate_der)
        .where(c.state == CertificateState.ISSUED, c.owner != IMPORTED, c.issued_at >= moment)
        .order_by(c.id)
    )
    return tuple(
        Witness(f"certificate {row.serial:x} of issuer {row.issuer_id}", row.issued_at, tbs_sha256(row.certificate_der))
        for row in connection.execute(asked)
        if row.certificate_der is not None
    )


def _crls(connection: Connection, moment: datetime) -> tuple[Witness, ...]:
    c = crls.c
    asked = select(c.number, c.issuer_id, c.this_update, c.crl_der).where(c.this_update >= moment).order_by(c.number)
    return tuple(
        Witness(f"CRL {row.number} of issuer {row.issuer_id}", row.this_update, tbs_sha256(row.crl_der))
        for row in connection.execute(asked)
    )


def _revocations(connection: Connection, moment: datetime) -> tuple[Witness, ...]:
    change, of = revocation_changes.c, certificates.c
    asked = (
        select(of.serial, of.issuer_id, change.changed_at)
        .join_from(revocation_changes, certificates, change.certificate_id == of.id)
        .where(change.changed_at >= moment, change.requester.not_like(f"{IMPORTED} by %"))
        .order_by(change.changed_at)
    )
    return tuple(
        Witness(
            f"the revocation of {row.serial:x} of issuer {row.issuer_id}",
            row.changed_at,
            _revocation_of(row.issuer_id, f"{row.serial:x}"),
        )
        for row in connection.execute(asked)
    )
