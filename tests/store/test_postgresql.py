"""PostgreSQL: lost races and lost connections are tried again where that is safe, and nothing hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
import pytest_twisted
from sqlalchemy import Connection, event, insert, select, text
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from opencertd.errors import RefusalKind
from opencertd.store import postgresql
from opencertd.store.database import Database
from opencertd.store.schema import secrets
from tests.postgres import Cluster
from tests.store.values import refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture
async def opened(postgresql_url: str) -> AsyncIterator[Database]:
    database = Database.open(postgresql_url, reactor)
    yield database
    await database.close()


def put(connection: Connection, name: str) -> str:
    connection.execute(insert(secrets).values(name=name, value=b""))
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(secrets.c.name).order_by(secrets.c.name)).scalars())


def hang_up(connection: Connection) -> None:
    """The server ends this connection, as it does when it restarts."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@ensure
async def test_a_connection_lost_before_the_commit_is_tried_again(opened: Database) -> None:
    tries: list[int] = []

    def lose_the_first(connection: Connection) -> str:
        tries.append(1)
        put(connection, "one")
        if len(tries) == 1:
            hang_up(connection)
        return "done"

    assert await opened.write(lose_the_first) == "done"
    assert len(tries) == 2
    assert await opened.read(names) == ["one"]


@ensure
async def test_a_connection_lost_in_the_commit_is_not_tried_again(opened: Database, postgresql_url: str) -> None:
    tries: list[int] = []

    def lose_at_commit(connection: Connection) -> None:
        tries.append(1)
        put(connection, "perhaps")
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()

        def cut(_connection: Connection) -> None:
            with psycopg.connect(postgresql_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        event.listen(connection, "commit", cut)

    assert await refusal_kind(opened.write(lose_at_commit)) is RefusalKind.UNAVAILABLE
    assert len(tries) == 1


@ensure
async def test_deadlocks_are_tried_again(opened: Database) -> None:
    for name in ("a", "b"):
        await opened.write(lambda connection, name=name: put(connection, name))
    meeting = threading.Barrier(2)
    tries: list[str] = []

    def lock(connection: Connection, first: str, second: str) -> str:
        for name in (first, second):
            connection.execute(select(secrets).where(secrets.c.name == name).with_for_update())
            if len(tries) < 2:
                tries.append(name)
                meeting.wait(10)
        return first

    both = [
        opened.write(lambda connection: lock(connection, "a", "b")),
        opened.write(lambda connection: lock(connection, "b", "a")),
    ]
    assert [result for _, result in await DeferredList(both, fireOnOneErrback=True)] == ["a", "b"]


@ensure
async def test_a_stopped_server_is_unavailable_until_it_is_back(opened: Database, cluster: Cluster) -> None:
    await opened.write(lambda connection: put(connection, "before"))
    cluster.stop()
    try:
        started = time.monotonic()
        for ask in (opened.read, opened.write):
            assert await refusal_kind(ask(names)) is RefusalKind.UNAVAILABLE
        assert time.monotonic() - started < 2 * postgresql.CONNECT_TIMEOUT
    finally:
        cluster.start()
    await opened.write(lambda connection: put(connection, "after"))
    assert await opened.read(names) == ["after", "before"]


def sleep(connection: Connection) -> None:
    connection.execute(text("SELECT pg_sleep(30)"))


def wait_for_lock(connection: Connection) -> None:
    connection.execute(text("LOCK TABLE secrets"))


@ensure
@pytest.mark.parametrize(("limit", "deed"), [("STATEMENT_TIMEOUT", sleep), ("LOCK_TIMEOUT", wait_for_lock)])
async def test_no_statement_and_no_lock_is_waited_for_without_end(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, limit: str, deed: Callable[[Connection], Any]
) -> None:
    monkeypatch.setattr(postgresql, limit, 300)
    database = Database.open(postgresql_url, reactor)
    with psycopg.connect(postgresql_url) as other:
        other.execute("LOCK TABLE secrets")
        assert await refusal_kind(database.write(deed)) is RefusalKind.UNAVAILABLE
        other.rollback()
    await database.close()
