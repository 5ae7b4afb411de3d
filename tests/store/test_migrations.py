"""Migrations build what the schema describes, once, however many processes start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import IntegrityError

import opencertd.store.migrate
import opencertd.store.migrations
from opencertd.clock import FixedClock
from opencertd.errors import StartError
from opencertd.first_start import run_now
from opencertd.model.certificates import Revocation, RevocationChange, RevocationReason, RevocationState
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.migrate import HEAD
from opencertd.store.schema import metadata
from tests.postgres import Cluster
from tests.store.values import NOW

OPEN = "import sys; from opencertd.store.database import Database; Database.open_inline(sys.argv[1]); print('open')"


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest) -> str:
    """A database that nobody has opened yet."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture
def engine(fresh_url: str) -> Iterator[Engine]:
    url = make_url(fresh_url)
    made = create_engine(url if url.drivername == "sqlite" else url.set(drivername="postgresql+psycopg"))
    yield made
    made.dispose()


def test_they_build_the_schema(fresh_url: str, engine: Engine) -> None:
    Database.open_inline(fresh_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_is_the_one_this_code_works_with() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(opencertd.store.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_revocations_of_the_first_schema_are_kept(fresh_url: str, engine: Engine, monkeypatch: Any) -> None:
    from alembic import command

    really = command.upgrade
    with monkeypatch.context() as first:
        first.setattr(command, "upgrade", lambda config, _: really(config, "0001"))
        first.setattr(opencertd.store.migrate, "HEAD", "0001")
        Database.open_inline(fresh_url)
    with engine.begin() as connection:
        for statement in _FIRST_ROWS:
            connection.execute(text(statement))
    database = Database.open_inline(fresh_url)
    store = SqlCertificateStore(database, FixedClock(NOW))
    revocation = Revocation(datetime(2026, 1, 1, tzinfo=UTC), RevocationReason.KEY_COMPROMISE)
    (record,) = run_now(awaited(store.by_serial(0x2A)))
    assert record.revocation == revocation
    (issuer,) = run_now(awaited(store.issuers()))
    assert issuer.key_reference == "k"
    (change,) = run_now(awaited(store.revocation_history(record.id)))
    assert change == RevocationChange(RevocationState.REVOKED, revocation.revoked_at, revocation, "")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_authorizations_and_challenges_of_before_are_kept(fresh_url: str, engine: Engine, monkeypatch: Any) -> None:
    from alembic import command

    really = command.upgrade
    with monkeypatch.context() as before:
        before.setattr(command, "upgrade", lambda config, _: really(config, "0011"))
        before.setattr(opencertd.store.migrate, "HEAD", "0011")
        Database.open_inline(fresh_url)
    with engine.begin() as connection:
        for statement in _ACME_ROWS:
            connection.execute(text(statement))
    store = SqlAcmeStore(Database.open_inline(fresh_url), FixedClock(NOW))
    found = run_now(awaited(store.order("o")))
    assert found is not None
    (authorization,) = found.authorizations
    (challenge,) = authorization.challenges
    assert (authorization.id, authorization.name.value, authorization.subdomains) == ("z", "a.example", False)
    assert (authorization.origin, challenge.id, challenge.token) == (None, "c", "t")
    with engine.connect() as connection, pytest.raises(IntegrityError):
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA foreign_keys=ON"))
        connection.execute(text(_ACME_ROWS[-1].replace("'c', 'z'", "'d', 'nobody'")))


_ACME_ROWS = (
    "INSERT INTO acme_accounts (id, status, jwk, thumbprint, contact, terms_agreed, created_at)"
    " VALUES ('a', 'valid', '{}', 't', '[]', true, 0)",
    "INSERT INTO acme_orders (id, account_id, profile, names, status, expires, created_at)"
    """ VALUES ('o', 'a', 'default', '[["dns","a.example"]]', 'pending', 0, 0)""",
    "INSERT INTO acme_authorizations (id, order_id, position, account_id, name, wildcard, status, expires)"
    """ VALUES ('z', 'o', 0, 'a', '[["dns","a.example"]]', false, 'pending', 0)""",
    "INSERT INTO acme_challenges (id, authorization_id, position, type, token, status)"
    " VALUES ('c', 'z', 0, 'dns-01', 't', 'pending')",
)

_JANUARY = 1767225600
_FIRST_ROWS = (
    "INSERT INTO issuers (id, name, role, certificate_der, key_file, parents_der)"
    " VALUES ('i', 'rsa', 'issuing', '', 'k', '[]')",
    "INSERT INTO certificates (id, issuer_id, serial, state, profile, requester, requester_label, subject, names,"
    " spki_sha256, not_before, not_after, owner, intended_at, certificate_der)"
    " VALUES (1, 'i', '2a', 'issued', 'default', 'r', 'r', 'CN=a', '[]', '', 0, 0, 'w', 0, '')",
    "INSERT INTO revocations (certificate_id, issuer_id, serial, not_after, revoked_at, reason, recorded_at)"
    f" VALUES (1, 'i', '2a', 0, {_JANUARY}, 1, {_JANUARY}000)",
)


async def awaited(answer: Any) -> Any:
    return await answer


def test_processes_that_start_at_once_migrate_once(fresh_url: str, engine: Engine) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", OPEN, fresh_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(5)
    ]
    for racer in racers:
        out, error = racer.communicate(timeout=60)
        assert out == b"open\n", error.decode()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]


def test_a_later_versions_database_is_left_alone(fresh_url: str, engine: Engine) -> None:
    Database.open_inline(fresh_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartError, match="'9999', which this opencertd does not know"):
        Database.open_inline(fresh_url)


def test_a_step_that_fails_leaves_nothing(fresh_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (something INTEGER)"))  # stands in the first step's way
    with pytest.raises(StartError, match="jobs"):
        Database.open_inline(fresh_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE jobs"))
    Database.open_inline(fresh_url)
