"""The tables: every rule that must hold between processes is a constraint here.

Migrations build what this module, `access_tables` and `status_tables` describe; a test holds that together. Columns of
each kind: see `columns`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from opencertd.acme.states import AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus
from opencertd.model.approval import ApprovalState
from opencertd.model.certificates import CertificateState, CrossKind, IssuerRole, IssuerState
from opencertd.store import access_tables, status_tables  # noqa: F401  (their tables belong to the metadata)
from opencertd.store.columns import DerList, Json, Milliseconds, Names, Seconds, Serial, Word
from opencertd.store.tables import ROW_ID, needed
from opencertd.store.tables import metadata as metadata  # noqa: PLC0414  (which makes it this module's too)

issuers = Table(
    "issuers",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    needed("role", Word(IssuerRole)),
    needed("certificate_der", LargeBinary),
    needed("key_reference", Text),  # empty when the key was taken away
    Column("parent_id", Text, ForeignKey("issuers.id")),
    needed("parents_der", DerList),
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
    needed("subject_id", Text, ForeignKey("issuers.id")),
    Column("signer_id", Text, ForeignKey("issuers.id")),
    needed("kind", Word(CrossKind)),
    Column("certificate_sha256", Text, nullable=False, unique=True),
    needed("certificate_der", LargeBinary),
    Column("published_until", Seconds),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    needed("issuer_id", Text, ForeignKey("issuers.id")),
    needed("serial", Serial),
    needed("state", Word(CertificateState)),
    Column("transaction_key", Text, unique=True),  # given up by setting it to NULL
    needed("profile", Text),
    needed("requester", Text),
    needed("requester_label", Text),
    needed("subject", Text),
    needed("names", Names),
    Column("spki_sha256", Text, nullable=False, index=True),
    needed("not_before", Seconds),
    needed("not_after", Seconds),
    needed("owner", Text),
    needed("intended_at", Seconds),
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
    needed("precertificate_der", LargeBinary),
    needed("signed_at", Seconds),
)

# Requests that somebody decides about. `match_key` is given up (NULL) when the request is over.
approvals = Table(
    "approvals",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("match_key", Text, unique=True),
    needed("state", Word(ApprovalState)),
    needed("profile", Text),
    needed("protocol", Text),
    needed("requester", Text),
    needed("requester_label", Text),
    needed("subject", Text),
    needed("names", Names),
    needed("spki_sha256", Text),
    needed("key", Text),
    Column("validity", BigInteger),  # seconds
    needed("transaction_key", Text),
    needed("asked_at", Seconds),
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
    needed("value", LargeBinary),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    needed("kind", Text),
    needed("key", Text),
    Column("run_at", Milliseconds, nullable=False, index=True),
    needed("generation", Integer),
    needed("attempts", Integer),
    needed("failures", Integer),
    Column("lease_owner", Text),
    Column("lease_until", Milliseconds),
    UniqueConstraint("kind", "key"),
)

# One chain, numbered without gaps: whoever breaks it by a statement of their own is found by `opencert audit verify`.
audit = Table(
    "audit",
    metadata,
    Column("sequence", ROW_ID, primary_key=True, autoincrement=False),
    needed("at", Milliseconds),
    needed("deed", Text),
    needed("proof", Text),
    needed("who", Text),
    needed("label", Text),
    needed("what", Text),
    needed("result", Text),
    Column("tbs_sha256", Text),
    needed("previous", LargeBinary),
    needed("hash", LargeBinary),
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
    needed("status", Word(AccountStatus)),
    needed("jwk", Json),
    Column("thumbprint", Text, nullable=False, unique=True),
    needed("contact", Json),
    needed("terms_agreed", Boolean),
    needed("created_at", Seconds),
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
    needed("used_until", Milliseconds),
    sqlite_with_rowid=False,
)

acme_eab_keys = Table(
    "acme_eab_keys",
    metadata,
    Column("id", Text, primary_key=True),
    needed("sealed", LargeBinary),
    Column("profile", Text),
    needed("names", Json),
    needed("created_at", Seconds),
    Column("expires", Seconds),
    Column("most_accounts", Integer),
    needed("accounts", Integer),
    Column("revoked_at", Seconds),
)

acme_orders = Table(
    "acme_orders",
    metadata,
    Column("position", ROW_ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    needed("account_id", Text, ForeignKey("acme_accounts.id")),
    needed("profile", Text),
    needed("names", Names),
    needed("status", Word(OrderStatus)),
    needed("expires", Seconds),
    needed("created_at", Seconds),
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
    needed("position", Integer),
    needed("account_id", Text, ForeignKey("acme_accounts.id")),
    needed("name", Names),
    needed("wildcard", Boolean),
    needed("status", Word(AuthorizationStatus)),
    needed("expires", Seconds),
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
    needed("authorization_id", Text, ForeignKey("acme_authorizations.id")),
    needed("position", Integer),
    needed("type", Text),
    needed("token", Text),
    needed("status", Word(ChallengeStatus)),
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
    needed("failed", Integer),
    needed("since", Seconds),
    Column("last_failed_at", Seconds, nullable=False, index=True),
    Column("paused_at", Seconds),
    sqlite_with_rowid=False,
)
