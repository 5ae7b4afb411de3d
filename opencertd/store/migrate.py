"""Brings a database to the present schema at open; processes that start at once do it once.

Alembic is imported only when there is something to do: it costs a tenth of a second of every start.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, column, inspect, select, table, text

from opencertd.errors import StartError

HEAD = "0024"
"""The revision this code works with (a test compares it with the newest migration)."""

_VERSION = table("alembic_version", column("version_num"))
_MIGRATING = 0x6F70656E63657274  # the key of PostgreSQL's advisory lock: "opencert" in ASCII


def migrate(engine: Engine) -> None:
    """Make or upgrade the tables, all or nothing. Raises StartError when the database is of a later opencertd.

    On SQLite the caller holds the lock between processes. Blocks.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        revision = _revision(connection)
        if revision != HEAD:
            _upgrade(connection, revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def _upgrade(connection: Connection, revision: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError:
            raise StartError(
                f"The database has schema {revision!r}, which this opencertd does not know:"
                " a later version has written it. Start that version, or restore a backup."
            ) from None
    command.upgrade(config, "head")
