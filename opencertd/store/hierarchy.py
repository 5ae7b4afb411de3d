"""Issuers and their cross-certificates in SQL: a change of them is one transaction with its audit entries."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, or_, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.audit import hierarchy_changed, issuer_added
from opencertd.issuance.shipped import responder_profile
from opencertd.model.certificates import (
    CertificateState,
    CrossCertificate,
    Hierarchy,
    HierarchyChange,
    IssuerRecord,
    IssuerState,
)
from opencertd.model.requester import Requester
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.schema import certificates, cross_certificates, issuers
from opencertd.store.statements import execute, on_both

_CROSS_OF = select(cross_certificates).where(cross_certificates.c.certificate_sha256 == bindparam("fingerprint"))


class SqlHierarchyStore:
    """The `HierarchyStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def hierarchy(self) -> Deferred[Hierarchy]:
        return self._database.read(_hierarchy)

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        return self._database.read(lambda connection: last_expiry(connection, issuer_id, authorities=False))

    def change(self, change: HierarchyChange, by: Requester, **what: str) -> Deferred[None]:
        def do(connection: Connection) -> None:
            insert_issuers(connection, change.added)
            for before, after in change.changed:
                _update_issuer(connection, before, after)
            for cross in change.crossed:
                _insert_cross(connection, cross)
            for cross in change.closed:
                _close_cross(connection, cross)
            now = self._clock.now()
            added = (issuer_added(issuer, now) for issuer in change.added)
            append(connection, *added, hierarchy_changed(change, by, now, what))

        return self._database.write(do)


def all_issuers(connection: Connection) -> tuple[IssuerRecord, ...]:
    """In the order in which they were added."""
    return tuple(_issuer(row) for row in connection.execute(select(issuers).order_by(issuers.c.position)))


def last_expiry(connection: Connection, issuer_id: str, *, authorities: bool) -> datetime | None:
    """When the last certificate that the issuer signed expires; its own and its OCSP responders' do not count.

    `authorities`: whether certificates of this CA's issuers count.
    """
    issuer = connection.execute(
        select(issuers.c.name, issuers.c.certificate_der).where(issuers.c.id == issuer_id)
    ).one()
    der = certificates.c.certificate_der
    counted = [
        certificates.c.issuer_id == issuer_id,
        certificates.c.state == CertificateState.ISSUED,
        certificates.c.profile != responder_profile(issuer.name).name,
        der.is_distinct_from(issuer.certificate_der),  # imported certificates may have none
    ]
    if not authorities:
        ours = (select(table.c.certificate_der) for table in (issuers, cross_certificates))
        counted += [or_(der.is_(None), der.not_in(known)) for known in ours]
    found: datetime | None = connection.execute(select(func.max(certificates.c.not_after)).where(*counted)).scalar()
    return found


def note_revoked(connection: Connection, certificate_der: bytes, by: Requester, now: datetime) -> None:
    """When this revoked certificate is an issuer's, the issuer is revoked; when a cross-certificate, it is closed."""
    fingerprint = hashlib.sha256(certificate_der).hexdigest()
    found = connection.execute(select(issuers).where(issuers.c.id == fingerprint[:32])).one_or_none()
    before = None if found is None else _issuer(found)
    if before is not None and before.state is not IssuerState.REVOKED:
        connection.execute(update(issuers).where(issuers.c.id == before.id).values(state=IssuerState.REVOKED))
        changed = ((before, replace(before, state=IssuerState.REVOKED)),)
        append(connection, hierarchy_changed(HierarchyChange("revoke", changed=changed), by, now, {}))
    crossed = connection.execute(_CROSS_OF, {"fingerprint": fingerprint}).one_or_none()
    if crossed is not None:
        closed = replace(_cross(crossed), published_until=now.replace(microsecond=0))
        _close_cross(connection, closed)
        append(connection, hierarchy_changed(HierarchyChange("revoke", closed=(closed,)), by, now, {}))


def insert_issuers(connection: Connection, new: tuple[IssuerRecord, ...]) -> None:
    """Add all or none. Refusal CONFLICT when an id or a name is taken."""
    if not new:
        return
    rows = [_issuer_row(issuer) for issuer in new]  # one statement: a child may stand before its parent
    add = on_both(lambda insert: insert(issuers).values(rows).on_conflict_do_nothing().returning(issuers.c.id))
    if len(execute(connection, add, {}).all()) != len(new):
        raise Refusal(RefusalKind.CONFLICT, "an issuer of that id or name exists already")


def _hierarchy(connection: Connection) -> Hierarchy:
    rows = connection.execute(select(cross_certificates).order_by(cross_certificates.c.position))
    return Hierarchy(all_issuers(connection), tuple(_cross(row) for row in rows))


def _update_issuer(connection: Connection, before: IssuerRecord, after: IssuerRecord) -> None:
    held = (
        issuers.c.id == before.id,
        issuers.c.state == before.state,
        issuers.c.key_reference == (before.key_reference or ""),
        issuers.c.published_until.is_not_distinct_from(before.published_until),
        issuers.c.distrusted_at.is_not_distinct_from(before.distrusted_at),
    )
    becomes = {
        "state": after.state,
        "key_reference": after.key_reference or "",
        "published_until": after.published_until,
        "distrusted_at": after.distrusted_at,
    }
    if not connection.execute(update(issuers).where(*held).values(becomes)).rowcount:
        raise Refusal(RefusalKind.CONFLICT, f"the issuer {before.name} was changed by somebody else meanwhile")


def _insert_cross(connection: Connection, cross: CrossCertificate) -> None:
    row = {
        "subject_id": cross.subject_id,
        "signer_id": cross.signer_id,
        "kind": cross.kind,
        "certificate_sha256": _fingerprint(cross),
        "certificate_der": cross.certificate_der,
        "published_until": cross.published_until,
    }
    key = cross_certificates.c.certificate_sha256
    add = on_both(lambda insert: insert(cross_certificates).values(row).on_conflict_do_nothing().returning(key))
    if not execute(connection, add, {}).all():
        raise Refusal(RefusalKind.CONFLICT, "this certificate is known already")


def _close_cross(connection: Connection, cross: CrossCertificate) -> None:
    of = cross_certificates.c.certificate_sha256 == _fingerprint(cross)
    close = update(cross_certificates).where(of).values(published_until=cross.published_until)
    if not connection.execute(close).rowcount:
        raise Refusal(RefusalKind.CONFLICT, "there is no such cross-certificate")


def _fingerprint(cross: CrossCertificate) -> str:
    return hashlib.sha256(cross.certificate_der).hexdigest()


def _cross(row: Row[Any]) -> CrossCertificate:
    return CrossCertificate(row.subject_id, row.kind, row.certificate_der, row.signer_id, row.published_until)


def _issuer_row(issuer: IssuerRecord) -> dict[str, Any]:
    return {
        "id": issuer.id,
        "name": issuer.name,
        "role": issuer.role,
        "certificate_der": issuer.certificate_der,
        "key_reference": issuer.key_reference or "",
        "parent_id": issuer.parent_id,
        "parents_der": issuer.parents_der,
        "scheme": issuer.scheme,
        "state": issuer.state,
        "predecessor_id": issuer.predecessor_id,
        "published_until": issuer.published_until,
        "distrusted_at": issuer.distrusted_at,
    }


def _issuer(row: Row[Any]) -> IssuerRecord:
    return IssuerRecord(
        id=row.id,
        name=row.name,
        role=row.role,
        certificate_der=row.certificate_der,
        key_reference=row.key_reference or None,
        parent_id=row.parent_id,
        parents_der=row.parents_der,
        scheme=row.scheme,
        state=row.state,
        predecessor_id=row.predecessor_id,
        published_until=row.published_until,
        distrusted_at=row.distrusted_at,
    )
