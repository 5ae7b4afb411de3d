"""Statements are made once, when a module is loaded: making one costs more than running it.

`on_both` is for what both engines can do and SQLAlchemy spells once for each: an insert that says what happens when a
row is there. A race for a unique key then ends in the documented answer, where a plain insert would end PostgreSQL's
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sqlalchemy import Connection, CursorResult
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import Executable

Insert: TypeAlias = postgresql.Insert | sqlite.Insert
InsertInto: TypeAlias = Callable[..., Insert]
OnBoth: TypeAlias = Mapping[str, Executable]


def on_both(build: Callable[[InsertInto], Executable]) -> OnBoth:
    """What `build` makes with each engine's `insert(table)`, which has `on_conflict_do_nothing` and `…_do_update`."""
    return {"postgresql": build(postgresql.insert), "sqlite": build(sqlite.insert)}


def execute(connection: Connection, statement: OnBoth, values: Mapping[str, Any]) -> CursorResult[Any]:
    """Run this engine's form of the statement."""
    return connection.execute(statement[connection.dialect.name], values)
