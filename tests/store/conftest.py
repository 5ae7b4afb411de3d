"""One database of each kind for every contract: in memory, a SQLite file with its threads, PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_twisted
from twisted.internet import reactor

from opencertd.clock import FixedClock
from opencertd.store.database import Database
from tests.postgres import Cluster, running_cluster
from tests.store.values import NOW


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def _postgresql_url(cluster: Cluster) -> str:
    url = cluster.new_database()
    Database.open_inline(url)  # makes the tables
    return url


@pytest.fixture
def postgresql_url(_postgresql_url: str) -> str:
    """A migrated database without rows."""
    with psycopg.connect(_postgresql_url) as connection:
        tables = connection.execute(
            "SELECT string_agg(quote_ident(tablename), ',') FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchone()
        assert tables
        connection.execute(f"TRUNCATE {tables[0]} RESTART IDENTITY CASCADE".encode())
    return _postgresql_url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ca.db"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest_twisted.async_yield_fixture(params=["memory", "sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Each kind in turn; empty."""
    if request.param == "memory":
        opened = Database.in_memory()
    else:
        opened = Database.open(request.getfixturevalue(f"{request.param}_url"), reactor)
    yield opened
    await opened.close()
