"""Authorizations may belong to no order, speak for the names below theirs, and copy another's proof."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("acme_authorizations", "order_id", nullable=True)
    else:
        _rebuild()
    op.add_column(
        "acme_authorizations", sa.Column("subdomains", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("acme_authorizations", sa.Column("origin", sa.Text(), nullable=True))
    copied = sa.text("origin IS NOT NULL")
    op.create_index(
        "ix_acme_authorizations_origin",
        "acme_authorizations",
        ["origin"],
        sqlite_where=copied,
        postgresql_where=copied,
    )
    alone = sa.text("order_id IS NULL")
    op.create_index(
        "ix_acme_authorizations_ahead", "acme_authorizations", ["expires"], sqlite_where=alone, postgresql_where=alone
    )


def _rebuild() -> None:
    """SQLite changes no column: both tables are made anew, as challenges refer to authorizations; nothing else does."""
    for name, table in (("acme_authorizations", _authorizations), ("acme_challenges", _challenges)):
        table(f"{name}_new")
        op.execute(f"INSERT INTO {name}_new SELECT * FROM {name}")  # noqa: S608  (names from above)
    for name in ("acme_challenges", "acme_authorizations"):
        op.drop_table(name)
    for name in ("acme_authorizations", "acme_challenges"):
        op.rename_table(f"{name}_new", name)
    valid = sa.text("status = 'valid'")
    op.create_index("ix_acme_authorizations_valid", "acme_authorizations", ["account_id", "name"], sqlite_where=valid)


def _authorizations(name: str) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wildcard", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_acme_authorizations"),
        sa.ForeignKeyConstraint(["order_id"], ["acme_orders.id"], name="fk_acme_authorizations_order_id"),
        sa.ForeignKeyConstraint(["account_id"], ["acme_accounts.id"], name="fk_acme_authorizations_account_id"),
        sa.UniqueConstraint("order_id", "position", name="uq_acme_authorizations_order_id_position"),
    )


def _challenges(name: str) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("authorization_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("validated_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_acme_challenges"),
        sa.ForeignKeyConstraint(
            ["authorization_id"],
            ["acme_authorizations_new.id"],
            name="fk_acme_challenges_authorization_id",
        ),
        sa.UniqueConstraint("authorization_id", "position", name="uq_acme_challenges_authorization_id_position"),
    )
