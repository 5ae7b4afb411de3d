"""Clients beyond a limit are told so by rateLimited and Retry-After, and go on when that is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted

from opencertd.acme.limits import Limit, Limits, Rate, registered
from opencertd.model.names import AltName, AltNameKind
from opencertd.settings.limits import LimitSettings, parse_rate
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import Client, Reply, Rig
from tests.acme.signing import csr_for, ec_key

ensure = pytest_twisted.ensureDeferred
TWO = Rate(2, timedelta(hours=2))


def limited(limit: Limit, **overrides: Rate | None) -> Limits:
    return Limits({limit: TWO}, {(limit, key): rate for key, rate in overrides.items()})


def check_limited(reply: Reply, words: str) -> None:
    assert (reply.status, reply.problem) == (429, "rateLimited")
    assert words in reply.json["detail"]
    assert "2 in 2 hours 0 remain" in reply.json["detail"]
    assert 0 < int(reply.headers["retry-after"][0]) <= 3600


@ensure
async def test_new_accounts_of_an_address() -> None:
    rig = Rig(limits=limited(Limit.ACCOUNTS))
    clients = [Client(rig) for _ in range(3)]
    assert [(await client.register()).status for client in clients[:2]] == [201, 201]
    check_limited(await clients[2].register(), "new accounts from")
    assert (await clients[0].register()).status == 200
    rig.clock.advance(timedelta(hours=1))
    assert (await clients[2].register()).status == 201


@ensure
async def test_orders_of_an_account() -> None:
    rig = Rig(limits=limited(Limit.ORDERS))
    ann, bob = Client(rig), Client(rig)
    await ann.register()
    await bob.register()
    assert [(await ann.order("a.example")).status for _ in range(2)] == [201, 201]
    check_limited(await ann.order("a.example"), "new orders of this account")
    assert (await bob.order("a.example")).status == 201


@ensure
async def test_an_account_with_a_rate_of_its_own() -> None:
    rig = Rig()
    ann = Client(rig)
    account_id = (await ann.register()).location.rpartition("/")[2]
    names = (AltName(AltNameKind.DNS, "a.example"),)
    limits = limited(Limit.ORDERS, **{account_id: None})
    assert limits.new_order(account_id, names) == ()
    assert [charge.rate for charge in limits.new_order("bob", names)] == [TWO]


@ensure
async def test_names_that_cannot_be_validated() -> None:
    rig = Rig(limits=limited(Limit.FAILURES))
    rig.work._limits = limited(Limit.FAILURES)
    rig.validator.verdicts["bad.example"] = FailedProof(FailureKind.UNAUTHORIZED, "no")
    ann, bob = Client(rig), Client(rig)
    await ann.register()
    await bob.register()
    for _ in range(2):
        await ann.prove(await ann.order("bad.example"))
    check_limited(await ann.order("*.bad.example"), "failed validations of bad.example by this account")
    assert (await ann.order("good.example")).status == 201
    assert (await bob.order("bad.example")).status == 201


@ensure
async def test_certificates_of_a_domain() -> None:
    rig = Rig(limits=limited(Limit.CERTIFICATES))
    ann, bob = Client(rig), Client(rig)
    await bob.register()
    ready = await bob.ready("late.corp.example")
    await ann.certificate("a.corp.example")
    await ann.certificate("b.corp.example")
    check_limited(await ann.order("c.corp.example"), "certificates for corp.example and names below it")
    csr = csr_for(ec_key(), "late.corp.example")
    check_limited(await bob.finalize(ready, csr), "certificates for corp.example")
    rig.clock.advance(timedelta(hours=1))
    assert (await bob.finalize(ready, csr)).json["status"] == "valid"


@pytest.mark.parametrize(
    ("kind", "name", "counted"),
    [
        (AltNameKind.DNS, "*.a.b.example", "b.example"),
        (AltNameKind.DNS, "localhost", "localhost"),
        (AltNameKind.IP, "192.0.2.7", "192.0.2.7"),
        (AltNameKind.IP, "2001:db8::7", "2001:db8::/64"),
    ],
)
def test_what_names_are_counted_under(kind: AltNameKind, name: str, counted: str) -> None:
    assert registered(AltName(kind, name)) == counted


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_host_has_one_key(address: str, key: str) -> None:
    (charge,) = limited(Limit.ACCOUNTS).new_account(address)
    assert charge.key == key
    assert limited(Limit.ACCOUNTS).new_account(None) == ()


def test_rates_as_people_write_them() -> None:
    assert parse_rate("300 per 3h") == Rate(300, timedelta(hours=3))
    assert parse_rate("off") is None
    table = {"limit": "orders_per_account", "key": "ann", "rate": "off"}
    built = LimitSettings.model_validate({"orders_per_account": "1 per 1d", "overrides": [table]}).build()
    assert built == Limits({Limit.ORDERS: Rate(1, timedelta(days=1))}, {(Limit.ORDERS, "ann"): None})
    assert LimitSettings().build() == Limits()


@pytest.mark.parametrize(
    "text", ["", "300", "300 per", "0 per 1h", "-1 per 1h", "5 per 0s", "5 per 2y", "5 in 1h", "٣ per 1h"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate|length of time"):
        parse_rate(text)
