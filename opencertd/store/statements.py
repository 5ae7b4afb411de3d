"""Statements are made once, when a module is loaded: making one costs more than running it.

`on_both` is for what both engines can do and SQLAlchemy spells once for each: an insert that says what happens when a
row is there. A race for a unique key then ends in the documented answer, where a plain insert would end PostgreSQL's
transaction.

`Direct` is for what every request asks. SQLAlchemy writes the statement and knows how each column is kept; what it does
besides at every execution costs several times what SQLite needs to answer.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Boolean, Connection, CursorResult, Dialect, FromClause
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeDecorator, TypeEngine

Insert: TypeAlias = postgresql.Insert | sqlite.Insert
InsertInto: TypeAlias = Callable[..., Insert]
OnBoth: TypeAlias = Mapping[str, Executable]


def on_both(build: Callable[[InsertInto], Executable]) -> OnBoth:
    """What `build` makes with each engine's `insert(table)`, which has `on_conflict_do_nothing` and `…_do_update`."""
    return {"postgresql": build(postgresql.insert), "sqlite": build(sqlite.insert)}


def execute(connection: Connection, statement: OnBoth, values: Mapping[str, Any]) -> CursorResult[Any]:
    """Run this engine's form of the statement."""
    return connection.execute(statement[connection.dialect.name], values)


_Convert: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class _Written:
    """A statement as one driver takes it.

    `constants`: its parameters, a list or a mapping as the driver wants them, where those that are given at each
    execution are still missing; `given`: their places, names and conversions. `row` makes a named tuple of the values
    of a row, of which those at the places in `converted` are converted first.
    """

    text: str
    constants: list[Any] | dict[str, Any]
    given: tuple[tuple[Any, str, _Convert | None], ...]
    row: Callable[[Sequence[Any]], Any] | None
    converted: tuple[tuple[int, _Convert], ...]

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The driver's result."""
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            return driver.execute(self.text, self._parameters(values))
        return connection.exec_driver_sql(self.text, self._parameters(values))

    def open(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The driver's cursor, from which rows are fetched as they are wanted."""
        driver: Any = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            return driver.execute(self.text, self._parameters(values))
        cursor = driver.cursor("rows")  # one with a name stays on the server
        cursor.execute(self.text, self._parameters(values), binary=True)
        return cursor

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each."""
        driver = connection.connection.driver_connection
        parameters = [self._parameters(values) for values in rows]
        if isinstance(driver, sqlite3.Connection):
            driver.executemany(self.text, parameters)
        else:
            connection.exec_driver_sql(self.text, parameters)

    def _parameters(self, values: Mapping[str, Any]) -> Any:
        parameters: Any = self.constants.copy()
        for place, name, convert in self.given:
            value = values[name]
            parameters[place] = value if convert is None else convert(value)
        return parameters

    def read(self, raw: Sequence[Any]) -> Any:
        """A row as Python values."""
        row = list(raw)
        for place, convert in self.converted:
            row[place] = convert(row[place])
        return row if self.row is None else self.row(row)


class Direct:
    """A statement that the driver is given as SQLAlchemy has written it once; rows are named tuples.

    It means the same as `connection.execute`, but no list may stand for one parameter (`expanding`).
    """

    def __init__(self, statement: Executable | OnBoth) -> None:
        self._statement = statement
        self._written: dict[tuple[str, ...], _Written] = {}

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """All rows."""
        written = self._for(connection, values)
        return [written.read(raw) for raw in written.run(connection, values).fetchall()]

    def raw(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """All rows as the driver gives them, for whoever reads them by `Part`s."""
        rows: list[tuple[Any, ...]] = self._for(connection, values).run(connection, values).fetchall()
        return rows

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert the rows, which have the same columns."""
        if rows:
            self._for(connection, rows[0]).run_many(connection, rows)

    def stream(self, connection: Connection, size: int, **values: Any) -> Iterator[list[tuple[Any, ...]]]:
        """Rows as the driver gives them, so many at a time: never more than these are in memory."""
        cursor = self._for(connection, values).open(connection, values)
        try:
            while rows := cursor.fetchmany(size):
                yield rows
        finally:
            cursor.close()

    def first(self, connection: Connection, **values: Any) -> Any:
        """The first row, None when there is none."""
        written = self._for(connection, values)
        rows = written.run(connection, values).fetchall()  # all of them, or SQLite would not be done with it
        return written.read(rows[0]) if rows else None

    def count(self, connection: Connection, **values: Any) -> int:
        """How many rows a statement without RETURNING has changed."""
        count: int = self._for(connection, values).run(connection, values).rowcount
        return count

    def _for(self, connection: Connection, values: Mapping[str, Any]) -> _Written:
        # What an insert or update sets depends on which values there are.
        key = (connection.dialect.name, *values)
        written = self._written.get(key)
        if written is None:
            statement = self._statement
            if isinstance(statement, Mapping):
                statement = statement[connection.dialect.name]
            written = self._written[key] = _write(statement, connection.dialect, list(values))
        return written


def _write(statement: Executable, dialect: Dialect, names: list[str]) -> _Written:
    compiled: Any = statement.compile(dialect=dialect, column_keys=names)  # type: ignore[attr-defined]
    if compiled.post_compile_params or compiled.literal_execute_params:
        raise TypeError("this statement is written anew for every execution")
    places = _places(compiled)
    constants: dict[Any, Any] = {}
    given = []
    for place, name in places.items():
        bind = compiled.binds[name]
        convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if bind.key in names:
            given.append((place, bind.key, convert))
            constants[place] = None
        elif bind.required:
            raise TypeError(f"the statement needs a value for {bind.key}")
        else:
            constants[place] = convert(bind.effective_value) if convert else bind.effective_value
    columns = getattr(statement, "exported_columns", ())
    converted = (column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns)
    return _Written(
        text=compiled.string,
        constants=list(constants.values()) if compiled.positional else constants,
        given=tuple(given),
        row=_row_of([column.key for column in columns]) if columns else None,
        converted=tuple((place, convert) for place, convert in enumerate(converted) if convert is not None),
    )


class Part:
    """Some of a raw row's columns, those from place `start` on: by the names of the columns, as Python values.

    For rows that join several tables, most of which say the same in row after row.
    """

    def __init__(self, table: FromClause, start: int = 0) -> None:
        columns = list(table.c)
        self.end = start + len(columns)
        self._start = start
        self._row = _row_of([column.key for column in columns])
        self._converted = [
            (place, convert) for place, column in enumerate(columns) if (convert := _reads(column.type)) is not None
        ]

    def raw(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """These columns, as the driver gave them."""
        return tuple(row[self._start : self.end])

    def read(self, raw: Sequence[Any]) -> Any:
        """What `raw` answered, as a named tuple of Python values."""
        values = list(raw)
        for place, convert in self._converted:
            values[place] = convert(values[place])
        return self._row(values)


def is_absent(raw: tuple[Any, ...]) -> bool:
    """Whether this is what an outer join puts where no row is: it begins with a column that is never NULL."""
    return raw[0] is None


_ANY_DIALECT = DefaultDialect()
"""Columns are read alike from both engines."""


def _reads(kind: TypeEngine[Any]) -> _Convert | None:
    if isinstance(kind, TypeDecorator):
        return partial(kind.process_result_value, dialect=_ANY_DIALECT)
    return bool if isinstance(kind, Boolean) else None


def _row_of(names: list[str]) -> Callable[[Sequence[Any]], Any]:
    """What makes a named tuple of a row's values."""
    kind: Any = namedtuple("Row", names)  # type: ignore[misc]
    make: Callable[[Sequence[Any]], Any] = kind._make
    return make


def _places(compiled: Any) -> dict[Any, str]:
    """The statement's parameters by their place in it: a number, or the name that the driver knows."""
    if compiled.positional:
        return dict(enumerate(compiled.positiontup))
    return {name: name for name in compiled.binds if f"%({name})s" in compiled.string}
