"""A client that fails for weeks is told so when it orders, goes on with its other names, and goes on when resumed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from sqlalchemy import Connection

from opencertd.acme.limits import Limits
from opencertd.acme.orders import OrderTerms
from opencertd.acme.pausing import PauseTerms
from opencertd.config import read_settings
from opencertd.errors import StartError
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.acme_admin import SqlAcmeAdmin
from opencertd.store.nonce_ledger import SharedNonceLedger
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import Client, Reply, Rig
from tests.acme.test_cost import MOST_STATEMENTS, Statements, flow

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)
PAUSING = Limits(pausing=PauseTerms(after=14 * DAY, failures=10, help_url="https://ca.example/paused"))
NO = FailedProof(FailureKind.UNAUTHORIZED, "no")


def rig_with(**options: object) -> Rig:
    rig = Rig(limits=PAUSING, **options)
    rig.work._limits = PAUSING
    rig.validator.verdicts["bad.example"] = NO
    return rig


async def fail_for_weeks(rig: Rig, client: Client, *names: str, **members: object) -> None:
    for _ in range(15):
        order = await client.order(*names, **members)
        assert order.status == 201
        await client.prove(order)
        rig.clock.advance(DAY)


def check_paused(reply: Reply, *names: str) -> None:
    assert (reply.status, reply.problem) == (429, "rateLimited")
    assert "paused: this account has failed to prove control of" in reply.json["detail"]
    assert [each["identifier"] for each in reply.json["subproblems"]] == [{"type": "dns", "value": n} for n in names]
    assert '<https://ca.example/paused>;rel="help"' in reply.headers["link"]
    assert "retry-after" not in reply.headers, "time alone changes nothing"


@ensure
async def test_new_orders_are_refused_for_the_names_that_fail() -> None:
    rig = rig_with()
    client, other = Client(rig), Client(rig)
    await client.register()
    await other.register()
    await fail_for_weeks(rig, client, "bad.example", "good.example")
    check_paused(await client.order("good.example", "*.bad.example"), "bad.example")
    assert (await client.order("good.example")).status == 201
    assert (await other.order("bad.example")).status == 201
    rig.clock.advance(30 * DAY)
    check_paused(await client.order("bad.example"), "bad.example")


@ensure
async def test_a_person_resumes_it_and_every_worker_goes_by_that() -> None:
    rig = rig_with()
    client = Client(rig)
    account_id = (await client.register()).location.rpartition("/")[2]
    await fail_for_weeks(rig, client, "bad.example")
    client.rig = Rig(database=rig.database, clock=rig.clock, validator=rig.validator, limits=PAUSING, owner="w2")
    check_paused(await client.order("bad.example"), "bad.example")
    desk = SqlAcmeAdmin(rig.database, rig.clock, Requester(Proof.OPERATOR, "root", "root", ANY_NAME))
    assert await desk.resume(account_id, [AltName(AltNameKind.DNS, "bad.example")])
    assert (await client.order("bad.example")).status == 201


@ensure
async def test_a_proof_for_an_order_that_was_begun_before_ends_the_pause() -> None:
    rig = rig_with()
    client = Client(rig)
    await client.register()
    orders = []
    for _ in range(15):
        orders.append(await client.order("bad.example"))
        await client.prove(await client.order("bad.example"))
        rig.clock.advance(DAY)
    check_paused(await client.order("bad.example"), "bad.example")
    del rig.validator.verdicts["bad.example"]
    await client.prove(orders[-1])
    assert (await client.order("bad.example")).status == 201


@ensure
async def test_an_authorization_made_ahead_is_no_way_around() -> None:
    rig = rig_with(terms=OrderTerms("default", reuse=DAY))
    client = Client(rig)
    await client.register()
    await fail_for_weeks(rig, client, "bad.example")
    asked = {"identifier": {"type": "dns", "value": "bad.example"}}
    check_paused(await client.post("/new-authz", asked), "bad.example")


@ensure
async def test_what_counts_is_the_name_that_is_to_be_proven() -> None:
    rig = rig_with(terms=OrderTerms("default", subdomains=True))
    client = Client(rig)
    await client.register()

    def below(label: str) -> list[dict[str, str]]:
        return [{"type": "dns", "value": f"{label}.bad.example", "ancestorDomain": "bad.example"}]

    for number in range(15):  # each another name, all by proof of the domain above
        await client.prove(await client.post("/new-order", {"identifiers": below(f"n{number}")}))
        rig.clock.advance(DAY)
    check_paused(await client.post("/new-order", {"identifiers": below("new")}), "bad.example")
    assert (await client.order("new.bad.example")).status == 201, "by a proof of its own"


@ensure
async def test_it_costs_two_statements_a_flow(tmp_path: Path) -> None:
    rig = rig_with(ledger=SharedNonceLedger(tmp_path / "nonces"))
    rig.hands_free = True
    client = Client(rig)
    await client.register()
    await flow(rig, client)
    statements = Statements(rig)
    await flow(rig, client)
    assert len(statements.run) <= MOST_STATEMENTS + 2, "\n".join(statements.run)
    own = [one for one in statements.run if "acme_failures" in one]
    assert len(own) == 2

    def plans(connection: Connection) -> list[str]:
        return [str(row[3]) for one in own for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}")]

    for plan in await rig.database.read(plans):
        assert plan.startswith("SEARCH acme_failures USING PRIMARY KEY"), plan


def read(tmp_path: Path, content: str) -> Limits:
    file = tmp_path / "opencertd.toml"
    file.write_text(f'dn = "CN=X"\n[limits]\n{content}\n')
    return read_settings({}, {}, file).limits.build()


def test_the_settings(tmp_path: Path) -> None:
    assert read(tmp_path, "").pausing is None
    assert read(tmp_path, 'pause_after = "28d"').pausing == PauseTerms(28 * DAY, 20)
    url = "https://ca.example/paused"
    found = read(tmp_path, f'pause_after = "7d"\npause_failures = 3\npause_help_url = "{url}"')
    assert found.pausing == PauseTerms(7 * DAY, 3, url)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('pause_after = "6d"', "limits.pause_after"),
        ('pause_after = "2y"', "limits.pause_after"),
        ("pause_after = 28", "limits.pause_after"),
        ("pause_failures = 2", "limits.pause_failures"),
        ('pause_help_url = "https://ca.example/>;rel=x"', "limits.pause_help_url"),
        ('pause_help_url = "help"', "limits.pause_help_url"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(StartError, match=key.replace(".", r"\.")):
        read(tmp_path, line)
