"""A glance answers at once, sees what was committed, changes nothing, and waits for nobody in the reactor's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from sqlalchemy import Connection, insert, select
from twisted.internet import reactor

from opencertd.errors import RefusalKind
from opencertd.store.database import Database
from opencertd.store.schema import secrets
from tests.store.values import refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture
async def opened(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database.open(sqlite_url, reactor)
    yield database
    await database.close()


def keep(connection: Connection) -> None:
    connection.execute(insert(secrets).values(name="a", value=b"1"))


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(secrets.c.name)).scalars())


@ensure
async def test_it_has_answered_when_it_returns_and_sees_what_was_committed(opened: Database) -> None:
    assert opened.glance(names).result == []
    await opened.write(keep)
    for _ in range(2):
        assert opened.glance(names).result == ["a"]


@ensure
async def test_it_cannot_change_anything(opened: Database) -> None:
    assert await refusal_kind(opened.glance(keep)) is RefusalKind.UNAVAILABLE
    assert await opened.glance(names) == []


@ensure
async def test_what_is_raised_is_its_answer_and_harms_no_other(opened: Database) -> None:
    def fail(connection: Connection) -> None:
        names(connection)
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await opened.glance(fail)
    await opened.write(keep)
    assert await opened.glance(names) == ["a"]


@ensure
async def test_it_does_not_wait_for_one_who_has_the_file_for_himself(opened: Database) -> None:
    """The question goes to the reading thread, which waits; it is answered when the file is free."""
    calls = 0

    def busy_at_first(connection: Connection) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return names(connection)

    asked = opened.glance(busy_at_first)
    assert calls == 1
    assert await asked == []


@ensure
async def test_what_is_asked_after_the_end_is_refused(sqlite_url: str) -> None:
    database = Database.open(sqlite_url, reactor)
    await database.close()
    assert await refusal_kind(database.glance(names)) is RefusalKind.UNAVAILABLE
