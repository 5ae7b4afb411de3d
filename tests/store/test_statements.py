"""A direct statement says the same as SQLAlchemy's own execution of it, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, bindparam, insert, select, update

from opencertd.clock import FixedClock
from opencertd.model.certificates import CertificateState
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.schema import audit, certificates, issuers, secrets
from opencertd.store.statements import Direct, Part, is_absent, on_both
from tests.store.values import ISSUER, NOW, ROOT, SECOND, intent, issue

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_yield_fixture(autouse=True)
async def some_rows(database: Database) -> Any:
    store = SqlCertificateStore(database, FixedClock(NOW))
    await store.add_issuers((ROOT, ISSUER))
    await issue(store, 5)
    await issue(store, 6, names=(), transaction="t")
    await store.reserve(intent(7), None, NOW - SECOND)
    yield None


@ensure
@pytest.mark.parametrize("table", [certificates, issuers, audit], ids=lambda table: table.name)
async def test_rows_hold_what_sqlalchemy_reads(database: Database, table: Any) -> None:
    statement = select(table).order_by(*table.primary_key)
    direct = Direct(statement)

    def both(connection: Connection) -> tuple[list[Any], list[Any], Any]:
        expected = [row._asdict() for row in connection.execute(statement)]
        return expected, [row._asdict() for row in direct.all(connection)], direct.first(connection)

    expected, found, first = await database.read(both)
    assert expected and found == expected
    assert first._asdict() == expected[0]


@ensure
async def test_what_the_statement_says_by_itself_and_what_is_given_are_told_apart(database: Database) -> None:
    issued_after = Direct(
        select(certificates.c.serial)
        .where(certificates.c.state == CertificateState.ISSUED, certificates.c.not_after > bindparam("moment"))
        .order_by(certificates.c.id)
        .limit(bindparam("most"))
    )

    def serials(connection: Connection, **values: Any) -> list[int]:
        return [row.serial for row in issued_after.all(connection, **values)]

    assert await database.read(lambda connection: serials(connection, moment=NOW, most=9)) == [5, 6]
    assert await database.read(lambda connection: serials(connection, most=1, moment=NOW)) == [5]
    assert await database.read(lambda connection: serials(connection, moment=intent().not_after, most=9)) == []


@ensure
async def test_an_update_sets_the_columns_that_are_given_each_time(database: Database) -> None:
    change = Direct(update(certificates).where(certificates.c.serial == bindparam("of_serial")))
    read = Direct(select(certificates.c.owner, certificates.c.profile).where(certificates.c.serial == 5))

    def deed(connection: Connection) -> list[Any]:
        counts = [
            change.count(connection, of_serial=5, owner="a"),
            change.count(connection, of_serial=5, profile="p", owner="b"),
            change.count(connection, of_serial=5, owner="c"),
            change.count(connection, of_serial=99, owner="d"),
        ]
        return [*counts, *read.first(connection)]

    assert await database.write(deed) == [1, 1, 1, 0, "c", "p"]


@ensure
async def test_an_insert_that_meets_a_row_answers_nothing(database: Database) -> None:
    add = Direct(on_both(lambda insert: insert(secrets).on_conflict_do_nothing().returning(secrets.c.value)))

    def deed(connection: Connection) -> list[Any]:
        return [add.first(connection, name="n", value=value) for value in (b"\x00\xff", b"other")]

    first, second = await database.write(deed)
    assert first.value == b"\x00\xff" and second is None


@ensure
async def test_a_wrong_statement_is_the_callers_fault_and_undone(database: Database) -> None:
    add = Direct(insert(secrets))

    def twice(connection: Connection) -> None:
        add.count(connection, name="n", value=b"")
        add.count(connection, name="n", value=b"")

    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.write(twice)
    names = Direct(select(secrets.c.name))
    assert await database.read(names.all) == []
    assert (await SqlAuditStore(database, None).head()).sequence > 0  # type: ignore[arg-type]  # and all goes on


@ensure
async def test_what_it_cannot_do_it_says(database: Database) -> None:
    several = Direct(select(certificates.c.id).where(certificates.c.serial.in_(bindparam("serials", expanding=True))))
    with pytest.raises(TypeError, match="anew"):
        await database.read(lambda connection: several.all(connection, serials=[5]))
    one = Direct(select(certificates.c.id).where(certificates.c.serial == bindparam("serial")))
    with pytest.raises(TypeError, match="serial"):
        await database.read(one.all)


@ensure
@pytest.mark.parametrize("table", [certificates, issuers, audit], ids=lambda table: table.name)
async def test_parts_of_a_raw_row_hold_the_same(database: Database, table: Any) -> None:
    statement = select(secrets.c.name.label("absent"), table).select_from(
        table.outerjoin(secrets, secrets.c.name == "none")
    )
    statement = statement.order_by(*table.primary_key)
    direct, part = Direct(statement), Part(table, 1)

    def both(connection: Connection) -> tuple[list[Any], list[Any]]:
        raw = direct.raw(connection)
        assert all(is_absent((row[0],)) and not is_absent(part.raw(row)) for row in raw)
        expected = [row._asdict() for row in connection.execute(select(table).order_by(*table.primary_key))]
        return expected, [part.read(part.raw(row))._asdict() for row in raw]

    expected, found = await database.read(both)
    assert expected and found == expected
    assert part.end == 1 + len(table.c)


@ensure
async def test_many_rows_are_inserted(database: Database) -> None:
    add = Direct(insert(secrets))
    rows = [{"name": f"n{n}", "value": b"%d" % n} for n in range(3)]
    await database.write(lambda connection: add.many(connection, rows))
    await database.write(lambda connection: add.many(connection, []))
    kept = Direct(select(secrets).where(secrets.c.name.like("n%")).order_by(secrets.c.name))
    found = await database.read(kept.all)
    assert [row._asdict() for row in found] == rows
