"""Issuers, certificates, revocations, CRLs, jobs, secrets and ACME's records: the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _issuers()
    _certificates()
    _revocations()
    _secrets()
    _crls()
    _jobs()
    _acme_nonces()
    _acme_accounts()
    _acme_orders()
    _acme_authorizations()
    _acme_challenges()


def _issuers() -> None:
    op.create_table(
        "issuers",
        sa.Column("position", ROW_ID, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("key_file", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("parents_der", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["issuers.id"], name="fk_issuers_parent_id"),
        sa.PrimaryKeyConstraint("position", name="pk_issuers"),
        sa.UniqueConstraint("id", name="uq_issuers_id"),
        sa.UniqueConstraint("name", name="uq_issuers_name"),
    )


def _certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("transaction_key", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("requester_label", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("spki_sha256", sa.Text(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("intended_at", sa.BigInteger(), nullable=False),
        sa.Column("tbs_der", sa.LargeBinary(), nullable=True),
        sa.Column("issued_at", sa.BigInteger(), nullable=True),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_certificates_issuer_id"),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("serial", "issuer_id", name="uq_certificates_serial_issuer_id"),
        sa.UniqueConstraint("transaction_key", name="uq_certificates_transaction_key"),
    )
    op.create_index(
        "ix_certificates_intended",
        "certificates",
        ["owner"],
        sqlite_where=sa.text("state = 'intended'"),
        postgresql_where=sa.text("state = 'intended'"),
    )


def _revocations() -> None:
    op.create_table(
        "revocations",
        sa.Column("certificate_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_revocations_certificate_id"),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_revocations_issuer_id"),
        sa.PrimaryKeyConstraint("certificate_id", name="pk_revocations"),
    )
    op.create_index("ix_revocations_issuer_id_not_after", "revocations", ["issuer_id", "not_after"])
    op.create_index("ix_revocations_recorded_at", "revocations", ["recorded_at"])


def _secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )


def _crls() -> None:
    op.create_table(
        "crls",
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("crl_der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_crls_issuer_id"),
        sa.PrimaryKeyConstraint("issuer_id", "number", name="pk_crls"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("kind", "key", name="uq_jobs_kind_key"),
    )
    op.create_index("ix_jobs_run_at", "jobs", ["run_at"])


def _acme_nonces() -> None:
    op.create_table(
        "acme_nonces",
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_acme_nonces"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_acme_nonces_expires", "acme_nonces", ["expires"])


def _acme_accounts() -> None:
    op.create_table(
        "acme_accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("jwk", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.Text(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column("terms_agreed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_acme_accounts"),
        sa.UniqueConstraint("thumbprint", name="uq_acme_accounts_thumbprint"),
    )


def _acme_orders() -> None:
    op.create_table(
        "acme_orders",
        sa.Column("position", ROW_ID, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("csr_der", sa.LargeBinary(), nullable=True),
        sa.Column("certificate_id", ROW_ID, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["acme_accounts.id"], name="fk_acme_orders_account_id"),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_acme_orders_certificate_id"),
        sa.PrimaryKeyConstraint("position", name="pk_acme_orders"),
        sa.UniqueConstraint("id", name="uq_acme_orders_id"),
    )
    op.create_index("ix_acme_orders_account_id_position", "acme_orders", ["account_id", "position"])
    op.create_index("ix_acme_orders_certificate_id", "acme_orders", ["certificate_id"])


def _acme_authorizations() -> None:
    op.create_table(
        "acme_authorizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wildcard", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["acme_accounts.id"], name="fk_acme_authorizations_account_id"),
        sa.ForeignKeyConstraint(["order_id"], ["acme_orders.id"], name="fk_acme_authorizations_order_id"),
        sa.PrimaryKeyConstraint("id", name="pk_acme_authorizations"),
        sa.UniqueConstraint("order_id", "position", name="uq_acme_authorizations_order_id_position"),
    )


def _acme_challenges() -> None:
    op.create_table(
        "acme_challenges",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("authorization_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("validated_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["authorization_id"], ["acme_authorizations.id"], name="fk_acme_challenges_authorization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_acme_challenges"),
        sa.UniqueConstraint("authorization_id", "position", name="uq_acme_challenges_authorization_id_position"),
    )
