"""What a whole flow asks of the database: few statements, each by an index, however much is stored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest_twisted
from sqlalchemy import Connection

from opencertd.store.nonce_ledger import SharedNonceLedger
from opencertd.store.sqlite import driver_of
from tests.acme.rig import Client, Rig
from tests.acme.signing import csr_for, ec_key

MOST_STATEMENTS = 25
_FRAME = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")
_SCAN = re.compile(r"SCAN (?!CONSTANT ROW|audit$)")  # of the audit chain it looks at the end
_VALUES = re.compile(r"(INSERT INTO \w+ \(.*?\) VALUES) ")


class Statements:
    """What SQLite runs, without the frames of transactions; an insert of several rows is one."""

    def __init__(self, rig: Rig) -> None:
        self.run: list[str] = []
        rig.database.write(lambda connection: driver_of(connection).set_trace_callback(self._note))

    def _note(self, statement: str) -> None:
        insert = _VALUES.match(statement)
        more = insert is not None and self.run and self.run[-1].startswith(insert[0])
        if not more and not _FRAME.match(statement):
            self.run.append(statement)


async def flow(rig: Rig, client: Client) -> None:
    """What a client asks for at least, and one look at the authorization after its validation."""
    order = await client.order("a.example")
    (url,) = order.json["authorizations"]
    challenge = (await client.post(url)).json["challenges"][0]
    await client.post(challenge["url"], {})
    await rig.work.validate(rig.taken_on.pop())
    assert (await client.post(url)).json["status"] == "valid"
    final = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert final.json["status"] == "valid"
    assert (await client.post(final.json["certificate"])).status == 200


@pytest_twisted.ensureDeferred
async def test_a_flow_is_few_statements_and_none_looks_at_a_whole_table(tmp_path: Path) -> None:
    rig = Rig(ledger=SharedNonceLedger(tmp_path / "nonces"))
    rig.hands_free = True
    client = Client(rig)
    await client.register()
    await flow(rig, client)
    statements = Statements(rig)
    await flow(rig, client)
    run = statements.run.copy()
    assert len(run) <= MOST_STATEMENTS, "\n".join(run)

    def plans(connection: Connection) -> list[str]:
        driver = driver_of(connection)
        return [str(row[3]) for one in run for row in driver.execute(f"EXPLAIN QUERY PLAN {one}")]

    found: list[list[str]] = []
    rig.database.write(plans).addCallback(found.append)
    assert found[0]
    assert [plan for plan in found[0] if _SCAN.match(plan)] == []
