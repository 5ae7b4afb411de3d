"""Whoever revokes a CA's certificate, by whatever door, revokes the issuer in the same transaction."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.model.certificates import (
    CrossCertificate,
    CrossKind,
    HierarchyChange,
    IssuerState,
    Revocation,
    RevocationReason,
)
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.hierarchy import SqlHierarchyStore
from tests.store.values import ANN, ISSUER, NOW, OTHER, ROOT, SECOND, intent

CA = dataclasses.replace(ISSUER, id=hashlib.sha256(b"issuing").hexdigest()[:32])
CROSS = CrossCertificate(OTHER.id, CrossKind.CROSS, b"cross", ROOT.id)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("certificate_der", "reason", "state", "closed"),
    [
        (b"issuing", RevocationReason.KEY_COMPROMISE, IssuerState.REVOKED, False),
        (b"issuing", RevocationReason.CERTIFICATE_HOLD, IssuerState.ACTIVE, False),
        (b"cross", RevocationReason.SUPERSEDED, IssuerState.ACTIVE, True),
        (b"a leaf", RevocationReason.KEY_COMPROMISE, IssuerState.ACTIVE, False),
    ],
)
async def test_the_issuer_goes_with_its_certificate(
    database: Database, certificate_der: bytes, reason: RevocationReason, state: IssuerState, closed: bool
) -> None:
    clock = FixedClock(NOW)
    hierarchy, store = SqlHierarchyStore(database, clock), SqlCertificateStore(database, clock)
    await hierarchy.change(HierarchyChange("import", added=(ROOT, CA, OTHER), crossed=(CROSS,)), ANN)
    record = await store.reserve(intent(7, issuer_id=ROOT.id), None, NOW - SECOND)
    await store.complete(record.id, certificate_der, NOW)
    await store.revoke(ROOT.id, 7, Revocation(NOW, reason), ANN)
    now = await hierarchy.hierarchy()
    assert now.issuers == (ROOT, dataclasses.replace(CA, state=state), OTHER)
    assert now.cross_certificates == (dataclasses.replace(CROSS, published_until=NOW if closed else None),)
    last = (await SqlAuditStore(database, clock).page(None, 100))[-1]
    changed = state is IssuerState.REVOKED or closed
    assert last.deed == ("change-ca" if changed else "revoke")
    assert not changed or (last.who == ANN.id and json.loads(last.what)["deed"] == "revoke")
