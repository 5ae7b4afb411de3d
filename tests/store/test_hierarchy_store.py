"""The contract of `HierarchyStore`, over every database."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.errors import RefusalKind
from opencertd.issuance.shipped import responder_profile
from opencertd.issuance.store import HierarchyStore
from opencertd.model.certificates import CrossCertificate, CrossKind, Hierarchy, HierarchyChange, IssuerState
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.hierarchy import SqlHierarchyStore
from tests.store.values import ISSUER, NOW, OTHER, ROOT, intent, issue, refusal_kind

OPERATOR = Requester(Proof.OPERATOR, "alice", "alice", ANY_NAME)
CROSS = CrossCertificate(ISSUER.id, CrossKind.NEW_WITH_OLD, b"cross", ROOT.id, datetime(2027, 1, 1, tzinfo=UTC))
NEXT = dataclasses.replace(ISSUER, id="dd" * 16, name="rsa-2", certificate_der=b"next", predecessor_id=ISSUER.id)
RETIRED = dataclasses.replace(ISSUER, state=IssuerState.RETIRED, published_until=datetime(2026, 12, 1, tzinfo=UTC))
ROLLOVER = HierarchyChange("rollover", added=(NEXT,), changed=((ISSUER, RETIRED),), crossed=(CROSS,))


@pytest.fixture
def store(database: Database) -> HierarchyStore:
    return SqlHierarchyStore(database, FixedClock(NOW))


@pytest_twisted.ensureDeferred
async def test_what_is_added_is_there_in_order(store: HierarchyStore) -> None:
    await store.change(HierarchyChange("import", added=(ISSUER, ROOT, OTHER)), OPERATOR)
    assert await store.hierarchy() == Hierarchy((ISSUER, ROOT, OTHER))


@pytest_twisted.ensureDeferred
async def test_a_rollover_is_one_deed(store: HierarchyStore, database: Database) -> None:
    await store.change(HierarchyChange("import", added=(ROOT, ISSUER)), OPERATOR)
    await store.change(ROLLOVER, OPERATOR, reason="key age")
    assert await store.hierarchy() == Hierarchy((ROOT, RETIRED, NEXT), (CROSS,))
    entries = await SqlAuditStore(database, FixedClock(NOW)).page(None, 100)
    said = json.loads(entries[-1].what)
    assert (entries[-1].deed, entries[-1].who, said["deed"], said["reason"]) == (
        "change-ca",
        "alice",
        "rollover",
        "key age",
    )


@pytest_twisted.ensureDeferred
async def test_a_change_of_what_has_changed_already_does_nothing(store: HierarchyStore, database: Database) -> None:
    await store.change(HierarchyChange("import", added=(ROOT, ISSUER)), OPERATOR)
    await store.change(HierarchyChange("retire", changed=((ISSUER, RETIRED),)), OPERATOR)
    before = (await store.hierarchy(), await SqlAuditStore(database, FixedClock(NOW)).page(None, 100))
    assert await refusal_kind(store.change(ROLLOVER, OPERATOR)) is RefusalKind.CONFLICT
    assert (await store.hierarchy(), await SqlAuditStore(database, FixedClock(NOW)).page(None, 100)) == before


@pytest_twisted.ensureDeferred
async def test_a_cross_certificate_is_known_once_and_can_be_closed(store: HierarchyStore) -> None:
    await store.change(HierarchyChange("import", added=(ROOT, ISSUER), crossed=(CROSS,)), OPERATOR)
    again: Any = HierarchyChange("cross", crossed=(CROSS,))
    assert await refusal_kind(store.change(again, OPERATOR)) is RefusalKind.CONFLICT
    closed = dataclasses.replace(CROSS, published_until=NOW)
    await store.change(HierarchyChange("close", closed=(closed,)), OPERATOR)
    assert (await store.hierarchy()).cross_certificates == (closed,)


@pytest_twisted.ensureDeferred
async def test_a_key_can_be_taken_away(store: HierarchyStore) -> None:
    await store.change(HierarchyChange("import", added=(ROOT,)), OPERATOR)
    keyless = dataclasses.replace(ROOT, key_reference=None)
    await store.change(HierarchyChange("remove-key", changed=((ROOT, keyless),)), OPERATOR)
    assert (await store.hierarchy()).issuers == (keyless,)


@pytest_twisted.ensureDeferred
async def test_a_distrust_is_kept_and_ends_and_of_two_at_once_one_is_done(store: HierarchyStore) -> None:
    await store.change(HierarchyChange("import", added=(ROOT, ISSUER)), OPERATOR)
    below, above = (dataclasses.replace(each, distrusted_at=NOW) for each in (ISSUER, ROOT))
    distrust = HierarchyChange("distrust", changed=((ROOT, above), (ISSUER, below)))
    await store.change(distrust, OPERATOR)
    assert (await store.hierarchy()).issuers == (above, below)
    assert await refusal_kind(store.change(distrust, OPERATOR)) is RefusalKind.CONFLICT
    await store.change(HierarchyChange("trust", changed=((above, ROOT), (below, ISSUER))), OPERATOR)
    assert (await store.hierarchy()).issuers == (ROOT, ISSUER)


@pytest_twisted.ensureDeferred
async def test_the_last_expiry_counts_what_others_rely_on(store: HierarchyStore, database: Database) -> None:
    clock = FixedClock(NOW)
    certificates, crls = SqlCertificateStore(database, clock), SqlCrlStore(database, clock)
    below = dataclasses.replace(NEXT, certificate_der=b"certificate 5", parent_id=ISSUER.id)
    await store.change(HierarchyChange("import", added=(ROOT, ISSUER, OTHER, below)), OPERATOR)
    assert await store.last_expiry(ISSUER.id) is None
    day = timedelta(days=1)
    await issue(certificates, 1, not_after=NOW + day)
    await issue(certificates, 2, not_after=NOW + 2 * day)
    await issue(certificates, 3, not_after=NOW + 9 * day, issuer_id=OTHER.id)
    await issue(certificates, 4, not_after=NOW + 9 * day, profile=responder_profile(ISSUER.name).name)
    await issue(certificates, 5, not_after=NOW + 7 * day)
    await certificates.reserve(intent(6, not_after=NOW + 9 * day), None, NOW)
    assert await store.last_expiry(ISSUER.id) == NOW + 2 * day
    assert await crls.last_expiry(ISSUER.id) == NOW + 7 * day  # a CA's own revocation must be found, too
