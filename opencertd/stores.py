"""What every room keeps, over one database."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_stars import SqlStarStore
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.clean_up import SqlCleanUp
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.enrolment_passwords import SqlEnrolmentPasswordStore
from opencertd.store.hierarchy import SqlHierarchyStore
from opencertd.store.jobs import SqlJobStore
from opencertd.store.login_failures import SqlLoginFailures
from opencertd.store.precertificates import SqlPrecertificateStore
from opencertd.store.status import SqlStatusStore


@dataclass(frozen=True)
class Stores:
    """The stores of all rooms."""

    certificates: SqlCertificateStore
    precertificates: SqlPrecertificateStore
    hierarchy: SqlHierarchyStore
    acme: SqlAcmeStore
    stars: SqlStarStore
    crls: SqlCrlStore
    status: SqlStatusStore
    jobs: SqlJobStore
    audit: SqlAuditStore
    clean_up: SqlCleanUp
    approvals: SqlApprovalStore
    enrolment_passwords: SqlEnrolmentPasswordStore
    login_failures: SqlLoginFailures

    @classmethod
    def over(cls, database: Database, clock: Clock) -> Stores:
        """All of them over this database."""
        return cls(
            SqlCertificateStore(database, clock),
            SqlPrecertificateStore(database, clock),
            SqlHierarchyStore(database, clock),
            SqlAcmeStore(database, clock),
            SqlStarStore(database, clock),
            SqlCrlStore(database, clock),
            SqlStatusStore(database, clock),
            SqlJobStore(database, clock),
            SqlAuditStore(database, clock),
            SqlCleanUp(database),
            SqlApprovalStore(database, clock),
            SqlEnrolmentPasswordStore(database, clock),
            SqlLoginFailures(database, clock),
        )

    def shared_secret(self) -> Deferred[bytes]:
        """The 32 bytes that all workers and nodes share, made when there are none."""
        return self.certificates.secret("shared", secrets.token_bytes(32))
