"""What both engines can do and SQLAlchemy spells once for each: an insert that says what happens when a row is there.

A race for a unique key then ends in the documented answer, where a plain insert would end PostgreSQL's transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
