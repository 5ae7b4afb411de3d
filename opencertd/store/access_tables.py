"""The tables of who may ask."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text

from opencertd.store.columns import Json, Milliseconds, Seconds
from opencertd.store.tables import ROW_ID, metadata

enrolment_passwords = Table(
    "enrolment_passwords",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("names", Json, nullable=False),
    Column("profiles", Json),
    Column("uses", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at", Seconds, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("until", Seconds, nullable=False, index=True),
    Column("revoked_at", Seconds),
)

# The certificates that a password was used for. Those that were given up do not count.
enrolment_uses = Table(
    "enrolment_uses",
    metadata,
    Column("password_id", Text, ForeignKey("enrolment_passwords.id"), primary_key=True),
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False, index=True),
)

# Wrong passwords in a row, by hashes of whom and where.
login_failures = Table(
    "login_failures",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", BigInteger, nullable=False),
    Column("last_at", Milliseconds, nullable=False, index=True),
)
