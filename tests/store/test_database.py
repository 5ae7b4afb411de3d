"""What `Database` promises, over every engine; then what only a SQLite file has: its modes, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import pytest_twisted
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.store import sqlite, waiting
from opencertd.store.database import Database
from opencertd.store.schema import secrets
from tests.store.values import refusal_kind

ensure = pytest_twisted.ensureDeferred


def put(connection: Connection, name: str) -> str:
    connection.execute(insert(secrets).values(name=name, value=b""))
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(secrets.c.name).order_by(secrets.c.name)).scalars())


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


class TestEveryDatabase:
    @ensure
    async def test_reads_what_was_answered_as_written(self, database: Database) -> None:
        for number in range(5):
            assert await database.write(lambda connection, name=str(number): put(connection, name)) == str(number)
            assert await database.read(names) == [str(n) for n in range(number + 1)]

    @ensure
    async def test_keeps_nothing_of_what_raised(self, database: Database) -> None:
        def put_and_refuse(connection: Connection) -> None:
            put(connection, "half")
            raise Refusal(RefusalKind.CONFLICT, "no")

        assert await refusal_kind(database.write(put_and_refuse)) is RefusalKind.CONFLICT
        assert await database.read(names) == []

    @ensure
    async def test_what_a_function_raises_is_what_the_deferred_fails_with(self, database: Database) -> None:
        def wrong(connection: Connection) -> None:
            raise KeyError("wrong")

        for ask in (database.read, database.write):
            with pytest.raises(KeyError, match="wrong"):
                await ask(wrong)

    @ensure
    async def test_foreign_keys_hold(self, database: Database) -> None:
        with pytest.raises(DBAPIError):
            await database.write(
                lambda connection: connection.exec_driver_sql(
                    "INSERT INTO crl_schemes VALUES ('nobody', 'apart', '[]', 0)"
                ).close()
            )


@pytest_twisted.async_yield_fixture(params=["sqlite", "postgresql"])
async def kept(request: pytest.FixtureRequest):
    opened = Database.open(request.getfixturevalue(f"{request.param}_url"), reactor)
    yield opened
    await opened.close()


class TestDatabasesWithThreads:
    @ensure
    async def test_a_reading_function_cannot_write(self, kept: Database) -> None:
        assert await refusal_kind(kept.read(lambda connection: put(connection, "sly"))) is RefusalKind.UNAVAILABLE
        await kept.write(lambda connection: put(connection, "honest"))
        assert await kept.read(names) == ["honest"]

    @ensure
    async def test_a_read_sees_one_moment(self, kept: Database) -> None:
        seen, written = threading.Event(), threading.Event()

        def look_twice(connection: Connection) -> tuple[list[str], list[str]]:
            first = names(connection)
            seen.set()
            assert written.wait(10)
            return first, names(connection)

        looking = kept.read(look_twice)
        assert await kept.write(lambda connection: seen.wait(10) and put(connection, "new"))
        written.set()
        assert await looking == ([], [])

    @ensure
    async def test_answers_come_in_the_reactors_thread(self, kept: Database) -> None:
        threads: list[threading.Thread] = []
        asked = kept.write(lambda connection: threading.current_thread())
        asked.addCallback(lambda worker: threads.extend([worker, threading.current_thread()]))
        await asked
        assert threads[0] is not threads[1] is threading.current_thread()

    @ensure
    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    async def test_closing_waits_for_what_is_queued_and_refuses_the_rest(
        self, kind: str, request: pytest.FixtureRequest
    ) -> None:
        kept = Database.open(request.getfixturevalue(f"{kind}_url"), reactor)
        asked = [kept.write(lambda connection, name=f"{n:02}": put(connection, name)) for n in range(50)]
        closing = Deferred.fromCoroutine(kept.close())
        assert await refusal_kind(kept.write(names)) is RefusalKind.UNAVAILABLE
        assert await refusal_kind(kept.read(names)) is RefusalKind.UNAVAILABLE
        await closing
        assert all(one.called for one in asked)
        assert [await one for one in asked] == [f"{n:02}" for n in range(50)]

    @ensure
    async def test_nobody_waits_for_ever(self, kept: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waiting, "PATIENCE", 0.1)
        stuck = threading.Event()
        try:
            for ask in (kept.read, kept.write):
                assert await refusal_kind(ask(lambda connection: stuck.wait(20))) is RefusalKind.UNAVAILABLE
        finally:
            stuck.set()


class TestSqliteFile:
    @ensure
    async def test_is_its_owners_alone_with_all_that_lies_beside_it(self, tmp_path: Path) -> None:
        before = os.umask(0o022)
        try:
            opened = Database.open(f"sqlite:///{tmp_path}/ca.db", reactor)
            await opened.write(lambda connection: put(connection, "one"))
            await opened.read(names)
        finally:
            os.umask(before)
        assert modes_in(tmp_path) == dict.fromkeys(("ca.db", "ca.db-wal", "ca.db-shm", "ca.db.lock"), 0o600)
        await opened.close()

    @ensure
    async def test_a_file_that_others_could_read_is_closed_to_them(self, tmp_path: Path) -> None:
        (tmp_path / "ca.db").touch(0o644)
        await Database.open_inline(f"sqlite:///{tmp_path}/ca.db").close()
        assert stat.S_IMODE((tmp_path / "ca.db").stat().st_mode) == 0o600

    @ensure
    async def test_is_durable_and_written_ahead(self, tmp_path: Path) -> None:
        opened = Database.open(f"sqlite:///{tmp_path}/ca.db", reactor)

        def settings(connection: Connection) -> list[object]:
            asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [connection.exec_driver_sql(f"PRAGMA {one}").scalar() for one in asked]

        assert await opened.write(settings) == await opened.read(settings) == ["wal", 2, 1, sqlite.BUSY_TIMEOUT]
        await opened.close()

    @ensure
    async def test_inline_needs_no_reactor_and_keeps_what_it_wrote(self, sqlite_url: str) -> None:
        inline = Database.open_inline(sqlite_url)
        written = inline.write(lambda connection: put(connection, "one"))
        assert written.called
        await inline.close()
        again = Database.open_inline(sqlite_url)
        assert again.read(names).result == ["one"]
        await again.close()

    def test_says_what_is_wrong_with_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match=r"No such file or directory. Its directory must exist"):
            Database.open_inline(f"sqlite:///{tmp_path}/missing/ca.db")
        (tmp_path / "text").write_text("this is no database at all, but a text\n" * 100)
        with pytest.raises(StartError, match="file is not a database"):
            Database.open_inline(f"sqlite:///{tmp_path}/text")

    @ensure
    async def test_another_programs_lock_makes_it_unavailable_not_stuck(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 50)
        opened = Database.open(f"sqlite:///{tmp_path}/ca.db", reactor)
        await opened.write(lambda connection: put(connection, "one"))
        other = sqlite3.connect(tmp_path / "ca.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await refusal_kind(opened.write(lambda connection: put(connection, "two"))) is RefusalKind.UNAVAILABLE
        assert await opened.read(names) == ["one"]
        other.execute("ROLLBACK")
        other.close()
        await opened.write(lambda connection: put(connection, "two"))
        await opened.write(lambda connection: connection.execute(delete(secrets)).close())
        await opened.close()


@pytest.mark.parametrize("url", ["mysql://root@localhost/ca", "sqlite://", "nonsense", "sqlite:///:memory:"])
def test_an_unusable_url_is_named_as_such(url: str) -> None:
    with pytest.raises(StartError, match="The database URL"):
        Database.open_inline(url)


@ensure
async def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot be used") as raised:
        Database.open_inline(f"postgresql://ann:hunter2@/ca?host={tmp_path}")
    assert "hunter2" not in str(raised.value)


@ensure
async def test_what_is_cancelled_before_its_turn_is_not_done(sqlite_url: str) -> None:
    opened = Database.open(sqlite_url, reactor)
    started, go = threading.Event(), threading.Event()
    first = opened.write(lambda connection: started.set() or go.wait(10))
    await opened.read(lambda connection: started.wait(10))
    second = opened.write(lambda connection: put(connection, "unwanted"))
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    go.set()
    await first
    await opened.write(lambda connection: put(connection, "wanted"))
    assert await opened.read(names) == ["wanted"]
    await opened.close()
