"""The tables: every rule that must hold between processes is a constraint here.

Migrations build what this module describes; a test holds the two together. Columns of each kind: see `columns`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from opencertd.acme.states import AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus
from opencertd.model.approval import ApprovalState
from opencertd.model.certificates import CertificateState, CrossKind, IssuerRole, IssuerState, RevocationState
from opencertd.store.columns import DerList, Json, Milliseconds, Names, Seconds, Serial, Word

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

ROW_ID = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only for INTEGER


def _needed(name: str, *kind: Any) -> Column[Any]:
    return Column(name, *kind, nullable=False)


issuers = Table(
    "issuers",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    _needed("role", Word(IssuerRole)),
    _needed("certificate_der", LargeBinary),
    _needed("key_reference", Text),  # empty when the key was taken away
    Column("parent_id", Text, ForeignKey("issuers.id")),
    _needed("parents_der", DerList),
    Column("scheme", Text),
    Column("state", Word(IssuerState), nullable=False, server_default=IssuerState.ACTIVE.value),
    Column("predecessor_id", Text),
    Column("published_until", Seconds),
    Column("distrusted_at", Seconds),
)

cross_certificates = Table(
    "cross_certificates",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    _needed("subject_id", Text, ForeignKey("issuers.id")),
    Column("signer_id", Text, ForeignKey("issuers.id")),
    _needed("kind", Word(CrossKind)),
    Column("certificate_sha256", Text, nullable=False, unique=True),
    _needed("certificate_der", LargeBinary),
    Column("published_until", Seconds),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _needed("issuer_id", Text, ForeignKey("issuers.id")),
    _needed("serial", Serial),
    _needed("state", Word(CertificateState)),
    Column("transaction_key", Text, unique=True),  # given up by setting it to NULL
    _needed("profile", Text),
    _needed("requester", Text),
    _needed("requester_label", Text),
    _needed("subject", Text),
    _needed("names", Names),
    Column("spki_sha256", Text, nullable=False, index=True),
    _needed("not_before", Seconds),
    _needed("not_after", Seconds),
    _needed("owner", Text),
    _needed("intended_at", Seconds),
    Column("tbs_der", LargeBinary),  # NULL once issued: the certificate holds the same bytes
    Column("issued_at", Seconds),
    Column("certificate_der", LargeBinary),
    # The serial first: the constraint then also finds a serial of whatever issuer.
    UniqueConstraint("serial", "issuer_id"),
)

Index(
    "ix_certificates_intended",
    certificates.c.owner,
    sqlite_where=certificates.c.state == CertificateState.INTENDED,
    postgresql_where=certificates.c.state == CertificateState.INTENDED,
)

# Signed for the logs of Certificate Transparency, under the intent of that id.
precertificates = Table(
    "precertificates",
    metadata,
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False),
    _needed("precertificate_der", LargeBinary),
    _needed("signed_at", Seconds),
)

# Issuer, serial and not_after never change; they stand here again so that a CRL is read without the certificates.
revocations = Table(
    "revocations",
    metadata,
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False),
    _needed("issuer_id", Text, ForeignKey("issuers.id")),
    _needed("serial", Serial),
    _needed("not_after", Seconds),
    _needed("revoked_at", Seconds),
    _needed("reason", Integer),
    Column("recorded_at", Milliseconds, nullable=False, index=True),
    _needed("state", Word(RevocationState)),
    _needed("changes", Integer),  # the number of the latest in `revocation_changes`
    Column("invalidity_date", Seconds),
    Index(None, "issuer_id", "not_after"),
)

revocation_changes = Table(
    "revocation_changes",
    metadata,
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _needed("state", Word(RevocationState)),
    _needed("changed_at", Milliseconds),
    _needed("revoked_at", Seconds),
    _needed("reason", Integer),
    Column("invalidity_date", Seconds),
    _needed("requester", Text),
)

# Requests that somebody decides about. `match_key` is given up (NULL) when the request is over.
approvals = Table(
    "approvals",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("match_key", Text, unique=True),
    _needed("state", Word(ApprovalState)),
    _needed("profile", Text),
    _needed("protocol", Text),
    _needed("requester", Text),
    _needed("requester_label", Text),
    _needed("subject", Text),
    _needed("names", Names),
    _needed("spki_sha256", Text),
    _needed("key", Text),
    Column("validity", BigInteger),  # seconds
    _needed("transaction_key", Text),
    _needed("asked_at", Seconds),
    Column("until", Seconds, nullable=False, index=True),
    Column("decided_at", Seconds),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), index=True),
)

Index(
    "ix_approvals_waiting",
    approvals.c.requester,
    sqlite_where=approvals.c.state == ApprovalState.WAITING,
    postgresql_where=approvals.c.state == ApprovalState.WAITING,
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    _needed("value", LargeBinary),
)

crls = Table(
    "crls",
    metadata,
    Column("issuer_id", Text, ForeignKey("issuers.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _needed("this_update", Seconds),
    _needed("next_update", Seconds),
    _needed("crl_der", LargeBinary),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _needed("kind", Text),
    _needed("key", Text),
    Column("run_at", Milliseconds, nullable=False, index=True),
    _needed("generation", Integer),
    _needed("attempts", Integer),
    _needed("failures", Integer),
    Column("lease_owner", Text),
    Column("lease_until", Milliseconds),
    UniqueConstraint("kind", "key"),
)

# One chain, numbered without gaps: whoever breaks it by a statement of their own is found by `opencert audit verify`.
audit = Table(
    "audit",
    metadata,
    Column("sequence", ROW_ID, primary_key=True, autoincrement=False),
    _needed("at", Milliseconds),
    _needed("deed", Text),
    _needed("proof", Text),
    _needed("who", Text),
    _needed("label", Text),
    _needed("what", Text),
    _needed("result", Text),
    Column("tbs_sha256", Text),
    _needed("previous", LargeBinary),
    _needed("hash", LargeBinary),
)

Index(
    "ix_audit_settings",
    audit.c.who,
    audit.c.sequence,
    sqlite_where=audit.c.deed == "settings",
    postgresql_where=audit.c.deed == "settings",
)

acme_nonces = Table(
    "acme_nonces",
    metadata,
    Column("nonce", Text, primary_key=True),
    Column("expires", Seconds, nullable=False, index=True),
    sqlite_with_rowid=False,
)

acme_accounts = Table(
    "acme_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    _needed("status", Word(AccountStatus)),
    _needed("jwk", Json),
    Column("thumbprint", Text, nullable=False, unique=True),
    _needed("contact", Json),
    _needed("terms_agreed", Boolean),
    _needed("created_at", Seconds),
    Column("terms_url", Text),
    Column("eab_key", Text, index=True),
    Column("binding", Json),
)

# Keys that accounts had before, by their thumbprints: records in DNS may name an account by any of them.
acme_prior_keys = Table(
    "acme_prior_keys",
    metadata,
    Column("account_id", Text, ForeignKey("acme_accounts.id"), primary_key=True),
    Column("thumbprint", Text, primary_key=True),
    _needed("used_until", Milliseconds),
    sqlite_with_rowid=False,
)

acme_eab_keys = Table(
    "acme_eab_keys",
    metadata,
    Column("id", Text, primary_key=True),
    _needed("sealed", LargeBinary),
    Column("profile", Text),
    _needed("names", Json),
    _needed("created_at", Seconds),
    Column("expires", Seconds),
    Column("most_accounts", Integer),
    _needed("accounts", Integer),
    Column("revoked_at", Seconds),
)

acme_orders = Table(
    "acme_orders",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    _needed("account_id", Text, ForeignKey("acme_accounts.id")),
    _needed("profile", Text),
    _needed("names", Names),
    _needed("status", Word(OrderStatus)),
    _needed("expires", Seconds),
    _needed("created_at", Seconds),
    # The end of the order, or of its certificate once it has one.
    Column("useful_until", Seconds, nullable=False, server_default="0", index=True),
    Column("csr_der", LargeBinary),
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), index=True),
    Column("error", Json),
    Column("eab_key", Text),
    Column("replaces", Text),
    Column("not_before", Seconds),
    Column("not_after", Seconds),
    Column("renewal", Json),
    Column("renews_from", Seconds),
    Index(None, "account_id", "position"),
)

Index(
    "ix_acme_orders_replaces",
    acme_orders.c.replaces,
    sqlite_where=acme_orders.c.replaces.isnot(None),
    postgresql_where=acme_orders.c.replaces.isnot(None),
)

# The certificates of orders that renew theirs, by their place in the series.
acme_renewals = Table(
    "acme_renewals",
    metadata,
    Column("order_id", Text, ForeignKey("acme_orders.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), nullable=False, unique=True),
)

acme_authorizations = Table(
    "acme_authorizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey("acme_orders.id")),  # NULL: made ahead of orders
    _needed("position", Integer),
    _needed("account_id", Text, ForeignKey("acme_accounts.id")),
    _needed("name", Names),
    _needed("wildcard", Boolean),
    _needed("status", Word(AuthorizationStatus)),
    _needed("expires", Seconds),
    Column("subdomains", Boolean, nullable=False, server_default=false()),
    Column("origin", Text),  # whose proof it copies
    UniqueConstraint("order_id", "position"),
)

# Proofs that serve further orders, and who may revoke by what they control: both are valid authorizations.
Index(
    "ix_acme_authorizations_valid",
    acme_authorizations.c.account_id,
    acme_authorizations.c.name,
    sqlite_where=acme_authorizations.c.status == AuthorizationStatus.VALID,
    postgresql_where=acme_authorizations.c.status == AuthorizationStatus.VALID,
)
Index(
    "ix_acme_authorizations_ahead",
    acme_authorizations.c.expires,
    sqlite_where=acme_authorizations.c.order_id.is_(None),
    postgresql_where=acme_authorizations.c.order_id.is_(None),
)

Index(
    "ix_acme_authorizations_origin",
    acme_authorizations.c.origin,
    sqlite_where=acme_authorizations.c.origin.isnot(None),
    postgresql_where=acme_authorizations.c.origin.isnot(None),
)

acme_challenges = Table(
    "acme_challenges",
    metadata,
    Column("id", Text, primary_key=True),
    _needed("authorization_id", Text, ForeignKey("acme_authorizations.id")),
    _needed("position", Integer),
    _needed("type", Text),
    _needed("token", Text),
    _needed("status", Word(ChallengeStatus)),
    Column("validated_at", Seconds),
    Column("error", Json),
    Column("attested_spki", LargeBinary),
    UniqueConstraint("authorization_id", "position"),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    # Milliseconds since 1970, as a number: statements add to it.
    Column("used_until", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Validations that failed with no success between; whose `paused_at` is set gets no new orders for the name.
acme_failures = Table(
    "acme_failures",
    metadata,
    Column("account_id", Text, ForeignKey("acme_accounts.id"), primary_key=True),
    Column("name", Names, primary_key=True),
    _needed("failed", Integer),
    _needed("since", Seconds),
    Column("last_failed_at", Seconds, nullable=False, index=True),
    Column("paused_at", Seconds),
    sqlite_with_rowid=False,
)
