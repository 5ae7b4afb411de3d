"""The tables of revocations and CRLs: what is said of certificates once they are issued."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from opencertd.model.certificates import RevocationState
from opencertd.store.columns import Json, Milliseconds, Seconds, Serial, Word
from opencertd.store.tables import ROW_ID, metadata, needed

# Issuer, serial and not_after never change; they stand here again so that a CRL is read without the certificates.
revocations = Table(
    "revocations",
    metadata,
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False),
    needed("issuer_id", Text, ForeignKey("issuers.id")),
    needed("serial", Serial),
    needed("not_after", Seconds),
    needed("revoked_at", Seconds),
    needed("reason", Integer),
    Column("recorded_at", Milliseconds, nullable=False, index=True),
    needed("state", Word(RevocationState)),
    needed("changes", Integer),  # the number of the latest in `revocation_changes`
    Column("invalidity_date", Seconds),
    needed("entry_der", LargeBinary),  # as CRLs have it
    needed("bucket", Integer),  # of the serial: shards of CRLs are made of these
    needed("ca", Boolean),
    Index(None, "issuer_id", "not_after"),
    Index(None, "issuer_id", "bucket"),
)

revocation_changes = Table(
    "revocation_changes",
    metadata,
    Column("certificate_id", ROW_ID, ForeignKey("certificates.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    needed("state", Word(RevocationState)),
    needed("changed_at", Milliseconds),
    needed("revoked_at", Seconds),
    needed("reason", Integer),
    Column("invalidity_date", Seconds),
    needed("requester", Text),
)

crls = Table(
    "crls",
    metadata,
    Column("issuer_id", Text, ForeignKey("issuers.id"), primary_key=True),
    # Empty: all certificates of the issuer. Complete and delta CRLs share one succession of numbers.
    Column("part", Text, primary_key=True, default=""),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    needed("this_update", Seconds),
    needed("next_update", Seconds),
    needed("crl_der", LargeBinary),
    Column("base", BigInteger),  # of a delta CRL
)

# How certificates are and were spread over CRLs: what else than the CRL of all is owed after a revocation.
crl_schemes = Table(
    "crl_schemes",
    metadata,
    Column("issuer_id", Text, ForeignKey("issuers.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    needed("points", Json),
    needed("wait", Integer),  # seconds
)
