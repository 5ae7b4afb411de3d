"""A CA and its past come into the store in one transaction: all of it, or nothing.

What this CA knows already stays as it is: coming again brings only what the index has got since. Its first CRL is part
of the deed, so that no moment comes in which a number could be given again or an old revocation be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.crl.store import Entries, PublishedCrl
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.audit import crl_signed, hierarchy_changed, issuer_added
from opencertd.issuance.past import PastCertificate
from opencertd.model.audit import EPOCH
from opencertd.model.certificates import CertificateState, HierarchyChange, IssuerRecord, RevocationState
from opencertd.model.crl_parts import ALL
from opencertd.model.requester import Requester
from opencertd.store.audit import append
from opencertd.store.crls import all_entries, highest_number, insert_crl
from opencertd.store.database import Database
from opencertd.store.hierarchy import all_issuers, insert_issuers
from opencertd.store.revocations import crl_columns
from opencertd.store.schema import certificates
from opencertd.store.statements import on_both
from opencertd.store.status_tables import revocation_changes, revocations

BATCH = 500
"""Rows of one statement."""

BuildCrl = Callable[[int, Entries], PublishedCrl]
"""The CRL after that number, of these entries, signed."""

_ADD = on_both(
    lambda insert: insert(certificates).on_conflict_do_nothing(
        index_elements=[certificates.c.serial, certificates.c.issuer_id]
    )
)
_REVOKE = on_both(
    lambda insert: insert(revocations).on_conflict_do_nothing(index_elements=[revocations.c.certificate_id])
)
_REMEMBER = insert(revocation_changes)
_KNOWN = (
    select(certificates.c.serial, certificates.c.id, revocations.c.certificate_id.label("revoked"))
    .outerjoin_from(certificates, revocations, revocations.c.certificate_id == certificates.c.id)
    .where(
        certificates.c.serial.in_(bindparam("serials", expanding=True)),
        certificates.c.issuer_id == bindparam("issuer_id"),
        certificates.c.state == CertificateState.ISSUED,
    )
)


@dataclass(frozen=True)
class TakenIn:
    """What an import changed: whether the issuer is new here, and how many certificates and revocations are."""

    issuer: bool
    certificates: int
    revocations: int

    def __bool__(self) -> bool:
        return self.issuer or bool(self.certificates or self.revocations)


class SqlImportStore:
    """Takes whole CAs in, over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def take_in(
        self,
        issuer: IssuerRecord,
        own: tuple[str, PastCertificate] | None,
        past: Iterable[PastCertificate],
        build_crl: BuildCrl,
        by: Requester,
        **what: str,
    ) -> Deferred[TakenIn]:
        """Add the issuer, its own certificate under the issuer that signed it (`own`), its past and its first CRL.

        `past` is gone through once in each try. An issuer that is here already under its name gets what is new of
        its past. Refusal CONFLICT when its name or its certificate is taken.
        """

        def take_in(connection: Connection) -> TakenIn:
            now = self._clock.now()
            new = _is_new(connection, issuer)
            if new:
                insert_issuers(connection, (issuer,))
            added = revoked = 0
            for batch in _batches(past):
                more = _take(connection, issuer.id, batch, by, now)
                added, revoked = added + more[0], revoked + more[1]
            if own is not None:
                _take(connection, own[0], [own[1]], by, now)
            taken = TakenIn(new, added, revoked)
            if taken:
                crl = _publish(connection, issuer.id, build_crl)
                said = {**what, "certificates": str(added), "revocations": str(revoked)}
                change = HierarchyChange("import", added=(issuer,) if new else ())
                append(
                    connection,
                    *([issuer_added(issuer, now)] if new else []),
                    hierarchy_changed(change, by, now, {"issuer": issuer.id, "name": issuer.name, **said}),
                    crl_signed(crl.issuer_id, crl.number, crl.crl_der, published=True, at=now),
                )
            return taken

        return self._database.write(take_in)


def _is_new(connection: Connection, issuer: IssuerRecord) -> bool:
    for held in all_issuers(connection):
        if held.id == issuer.id and held.name == issuer.name:
            return False
        if held.id == issuer.id:
            raise Refusal(RefusalKind.CONFLICT, f"this CA is here already, under the name {held.name}")
        if held.name == issuer.name:
            raise Refusal(
                RefusalKind.CONFLICT, f"there is another issuer {issuer.name} here: give this CA another name"
            )
    return True


def _batches(past: Iterable[PastCertificate]) -> Iterator[list[PastCertificate]]:
    rest = iter(past)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _take(
    connection: Connection, issuer_id: str, batch: Sequence[PastCertificate], by: Requester, now: datetime
) -> tuple[int, int]:
    """How many of the batch's certificates and revocations were not known before."""
    known = _ids(connection, issuer_id, batch)
    new = [one for one in batch if one.serial not in known]
    if new:
        connection.execute(
            _ADD[connection.dialect.name], [_certificate_row(issuer_id, one, by, now) for one in new]
        ).close()
        known |= _ids(connection, issuer_id, new)
    fresh = {one.serial for one in new}
    revoked = [one for one in batch if one.revocation is not None and not known[one.serial][1]]
    if revoked:
        rows = [_revocation_row(issuer_id, one, known[one.serial][0], one.serial in fresh, now) for one in revoked]
        connection.execute(_REVOKE[connection.dialect.name], rows).close()
        connection.execute(_REMEMBER, [_change_row(row, by) for row in rows]).close()
    return len(new), len(revoked)


def _ids(connection: Connection, issuer_id: str, batch: Sequence[PastCertificate]) -> dict[int, tuple[int, bool]]:
    """Row id by serial, and whether there is a revocation, of those that are stored."""
    rows = connection.execute(_KNOWN, {"issuer_id": issuer_id, "serials": [one.serial for one in batch]})
    return {row.serial: (row.id, row.revoked is not None) for row in rows}


def _certificate_row(issuer_id: str, one: PastCertificate, by: Requester, now: datetime) -> dict[str, Any]:
    begun = one.not_before or now
    return {
        "issuer_id": issuer_id,
        "serial": one.serial,
        "state": CertificateState.ISSUED,
        "profile": one.profile,
        "requester": f"{by.proof.value}:{by.id}",
        "requester_label": "import",
        "subject": one.subject,
        "names": one.names,
        "spki_sha256": one.spki_sha256,
        "not_before": one.not_before or EPOCH,
        "not_after": one.not_after,
        "owner": "import",
        "intended_at": begun,
        "issued_at": begun,
        "certificate_der": one.certificate_der,
    }


def _revocation_row(issuer_id: str, one: PastCertificate, row_id: int, fresh: bool, now: datetime) -> dict[str, Any]:
    revocation = one.revocation
    assert revocation is not None  # noqa: S101  (the caller has looked)
    return {
        "certificate_id": row_id,
        "issuer_id": issuer_id,
        "serial": one.serial,
        "not_after": one.not_after,
        "revoked_at": revocation.revoked_at,
        "reason": int(revocation.reason),
        # Of what was unknown here until now, no worker has prepared an answer that the feed must take back.
        "recorded_at": min(revocation.revoked_at, now) if fresh else now,
        "state": RevocationState.HELD if revocation.held else RevocationState.REVOKED,
        "changes": 1,
        "invalidity_date": revocation.invalidity_date,
        **crl_columns(one.serial, revocation, one.certificate_der),
    }


def _change_row(row: dict[str, Any], by: Requester) -> dict[str, Any]:
    kept = ("certificate_id", "state", "revoked_at", "reason", "invalidity_date")
    return {
        **{name: row[name] for name in kept},
        "number": 1,
        "changed_at": row["revoked_at"],
        "requester": f"import by {by.label}",
    }


def _publish(connection: Connection, issuer_id: str, build: BuildCrl) -> PublishedCrl:
    crl = build(highest_number(connection, issuer_id, ALL), all_entries(connection, issuer_id))
    if not insert_crl(connection, crl):
        raise Refusal(RefusalKind.CONFLICT, "a CRL was published meanwhile: import again")
    return crl
