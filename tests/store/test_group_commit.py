"""Group commit: what shares a commit shares nothing else, and nothing is answered before it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, insert
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from opencertd.errors import Refusal, RefusalKind
from opencertd.store import waiting
from opencertd.store.database import Database
from opencertd.store.group_commit import GROUP
from opencertd.store.schema import secrets
from opencertd.store.sqlite import FileLock, driver_of
from tests.store.values import refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture
async def opened(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/ca.db", reactor)
    yield database
    await database.close()


@pytest.fixture
def lock(tmp_path: Path) -> FileLock:
    """What another process on the same file would take."""
    return FileLock(tmp_path / "ca.db.lock")


def put(name: str, value: bytes = b"") -> Callable[[Connection], str]:
    def put(connection: Connection) -> str:
        connection.execute(insert(secrets).values(name=name, value=value))
        return name

    return put


def refuse(name: str) -> Callable[[Connection], str]:
    def refuse(connection: Connection) -> str:
        put(name)(connection)
        raise Refusal(RefusalKind.CONFLICT, name)

    return refuse


async def together(database: Database, lock: FileLock, *fns: Callable[[Connection], Any]) -> list[tuple[bool, Any]]:
    """The outcomes of functions that wait for the lock together, so that they share one commit."""
    with lock.held():
        asked: list[Deferred[Any]] = [database.write(fn) for fn in fns]
    return list(await DeferredList(asked, consumeErrors=True))


def kept(path: Path) -> set[str]:
    with sqlite3.connect(path / "ca.db") as other:
        return {name for (name,) in other.execute("SELECT name FROM secrets")}


@ensure
async def test_a_failing_function_takes_nobody_with_it(opened: Database, lock: FileLock, tmp_path: Path) -> None:
    def wrong(connection: Connection) -> None:
        put("wrong")(connection)
        connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")

    outcomes = await together(opened, lock, put("a"), refuse("b"), put("a"), wrong, put("c"))
    assert [won for won, _ in outcomes] == [True, False, False, False, True]
    assert kept(tmp_path) == {"a", "c"}


@ensure
async def test_savepoints_are_made_only_for_a_group_in_which_something_fails(opened: Database, lock: FileLock) -> None:
    statements: list[str] = []

    def listen(connection: Connection) -> None:
        driver_of(connection).set_trace_callback(statements.append)

    await opened.write(listen)
    await together(opened, lock, put("a"), put("b"))
    assert not [text for text in statements if text.startswith("SAVEPOINT")]
    await together(opened, lock, put("c"), refuse("d"), put("e"))
    assert len([text for text in statements if text.startswith("SAVEPOINT")]) == 3


@ensure
async def test_a_group_is_one_commit_of_bounded_size(opened: Database, lock: FileLock) -> None:
    commits: list[int] = []
    begun = [0]

    def count(connection: Connection) -> None:
        begun[0] += 1

    def committed(connection: Connection) -> None:
        commits.append(begun[0])
        begun[0] = 0

    event.listen(Engine, "commit", committed)
    try:
        await together(opened, lock, *[count] * (GROUP + 40))
    finally:
        event.remove(Engine, "commit", committed)
    assert sum(commits) == GROUP + 40
    assert max(commits) == GROUP
    assert len(commits) <= 3  # the first may have been taken before the rest was queued


@ensure
async def test_nothing_is_answered_before_it_is_committed(opened: Database, lock: FileLock, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    names = [str(n) for n in range(20)]
    with lock.held():
        asked = [opened.write(put(name)).addCallback(lambda _: seen.append(kept(tmp_path))) for name in names]
    await DeferredList(asked, fireOnOneErrback=True)
    for name, visible in zip(names, seen, strict=True):
        assert name in visible


@ensure
async def test_a_full_disk_refuses_the_whole_group_and_heals(opened: Database, lock: FileLock, tmp_path: Path) -> None:
    def limit(pages: int) -> Callable[[Connection], Any]:
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

    await opened.write(put("before"))
    await opened.write(limit(1))  # SQLite makes it the present size
    big = put("big", bytes(100_000))
    outcomes = await together(opened, lock, put("small"), big, put("after"))
    assert [won for won, _ in outcomes] == [False] * 3
    assert {failure.value.kind for _, failure in outcomes} == {RefusalKind.UNAVAILABLE}
    assert kept(tmp_path) == {"before"}
    await opened.write(limit(1_000_000))
    assert await opened.write(put("small")) == "small"


@ensure
async def test_nothing_is_written_to_a_file_that_was_removed_or_replaced(opened: Database, tmp_path: Path) -> None:
    await opened.write(put("before"))
    file = tmp_path / "ca.db"
    file.rename(tmp_path / "away.db")
    assert await refusal_kind(opened.write(put("lost"))) is RefusalKind.UNAVAILABLE
    file.touch()
    assert await refusal_kind(opened.write(put("lost"))) is RefusalKind.UNAVAILABLE
    (tmp_path / "away.db").rename(file)
    assert await opened.write(put("after")) == "after"
    assert kept(tmp_path) == {"before", "after"}


@ensure
async def test_a_process_that_keeps_the_lock_makes_writes_unavailable_and_undone(
    opened: Database, lock: FileLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.held():
        monkeypatch.setattr(waiting, "PATIENCE", 0.1)
        assert await refusal_kind(opened.write(put("late"))) is RefusalKind.UNAVAILABLE
        monkeypatch.undo()
        assert await opened.read(lambda connection: "readers do not wait") == "readers do not wait"
    await opened.write(put("next"))
    assert kept(tmp_path) == {"next"}


DEEDS = st.lists(st.tuples(st.sampled_from([put, refuse]), st.integers(0, 6)), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=DEEDS)
@ensure
async def test_outcomes_are_those_of_one_after_the_other(
    opened: Database, lock: FileLock, tmp_path: Path, deeds: list[tuple[Any, int]]
) -> None:
    expected: list[bool] = []
    model: set[str] = set()
    for deed, number in deeds:
        good = deed is put and str(number) not in model
        expected.append(good)
        if good:
            model.add(str(number))
    outcomes = await together(opened, lock, *[deed(str(number)) for deed, number in deeds])
    assert [won for won, _ in outcomes] == expected
    assert kept(tmp_path) == model
    await opened.write(lambda connection: connection.exec_driver_sql("DELETE FROM secrets").close())


@ensure
async def test_one_thread_writes(opened: Database) -> None:
    asked = [opened.write(lambda connection: threading.current_thread().name) for _ in range(20)]
    assert {name for _, name in await DeferredList(asked)} == {"store-writer-0"}
