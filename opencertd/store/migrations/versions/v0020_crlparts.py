"""A revocation is kept with its CRL entry and its place in partitioned CRLs; CRLs belong to a part."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from opencertd.asn1.certificate import is_ca
from opencertd.asn1.crl import encode_entry
from opencertd.model.certificates import Revocation, RevocationReason

revision = "0020"
down_revision = "0019"

_BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "crl_schemes",
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("points", sa.Text(), nullable=False),
        sa.Column("wait", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_crl_schemes_issuer_id"),
        sa.PrimaryKeyConstraint("issuer_id", "name", name="pk_crl_schemes"),
    )
    with op.batch_alter_table("revocations") as revocations:
        revocations.add_column(sa.Column("entry_der", sa.LargeBinary(), nullable=True))
        revocations.add_column(sa.Column("bucket", sa.Integer(), nullable=True))
        revocations.add_column(sa.Column("ca", sa.Boolean(), nullable=True))
    _fill(op.get_bind())
    with op.batch_alter_table("revocations") as revocations:
        revocations.alter_column("entry_der", existing_type=sa.LargeBinary(), nullable=False)
        revocations.alter_column("bucket", existing_type=sa.Integer(), nullable=False)
        revocations.alter_column("ca", existing_type=sa.Boolean(), nullable=False)
    op.create_index("ix_revocations_issuer_id_bucket", "revocations", ["issuer_id", "bucket"])
    with op.batch_alter_table("crls") as crls:
        crls.add_column(sa.Column("part", sa.Text(), nullable=True))
        crls.add_column(sa.Column("base", sa.BigInteger(), nullable=True))
    op.execute("UPDATE crls SET part = ''")
    with op.batch_alter_table("crls") as crls:
        crls.alter_column("part", existing_type=sa.Text(), nullable=False)
        crls.drop_constraint("pk_crls", type_="primary")
        crls.create_primary_key("pk_crls", ["issuer_id", "part", "number"])


def _fill(connection: sa.Connection) -> None:
    """What was not kept until now follows from what was."""
    rows = sa.text(
        "SELECT r.certificate_id, r.serial, r.revoked_at, r.reason, r.invalidity_date, c.certificate_der"
        " FROM revocations r JOIN certificates c ON c.id = r.certificate_id"
        " WHERE r.certificate_id > :after ORDER BY r.certificate_id LIMIT :most"
    )
    put = sa.text(
        "UPDATE revocations SET entry_der = :entry_der, bucket = :bucket, ca = :ca"
        " WHERE certificate_id = :certificate_id"
    ).bindparams(sa.bindparam("ca", type_=sa.Boolean()))
    after = 0
    while batch := connection.execute(rows, {"after": after, "most": _BATCH}).all():
        connection.execute(put, [_filled(row) for row in batch])
        after = batch[-1].certificate_id


def _filled(row: sa.Row[tuple[int, str, int, int, int | None, bytes | None]]) -> dict[str, object]:
    serial = int(row.serial, 16)
    since = None if row.invalidity_date is None else datetime.fromtimestamp(row.invalidity_date, UTC)
    revocation = Revocation(datetime.fromtimestamp(row.revoked_at, UTC), RevocationReason(row.reason), since)
    return {
        "certificate_id": row.certificate_id,
        "entry_der": encode_entry(serial, revocation),
        "bucket": serial % (1 << 16),
        "ca": isinstance(row.certificate_der, bytes) and is_ca(row.certificate_der),
    }
