"""`opencert acme …` beside a CA on disk: what it says, what it keeps, and what of that the database gives away."""

from __future__ import annotations

import base64
import sqlite3
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from opencertd.acme.limits import Limits
from opencertd.acme.pausing import PauseTerms
from opencertd.acme.states import Account, AccountStatus
from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare, run_now
from opencertd.keys.sealing import EAB_FILE, Sealing
from opencertd.model.names import AltName, AltNameKind, parse_dns_name, parse_ip_address
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.database import Database
from opencertd.store.rate_limits import weigh
from tests.cli.shell import opencert


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state_dir = tmp_path_factory.mktemp("ca") / "state"
    prepare(Settings(dn="CN=Accounts", state_dir=state_dir, hostname=("localhost",)), SystemClock()).unlock()
    return state_dir


def test_a_key_is_shown_once_and_kept_so_that_the_database_does_not_tell_it(made: Path) -> None:
    result = opencert("acme", "eab", "add", "printers", "--allow-name", "*.p.example", "--state-dir", made)
    assert result.exit_code == 0, result.output
    words = result.stdout.split()
    assert words[:3] == ["--eab-kid", "printers", "--eab-hmac-key"]
    secret = base64.urlsafe_b64decode(words[3] + "==")
    assert len(secret) == 64
    database = made / "opencertd.sqlite3"
    content = b"".join(path.read_bytes() for path in made.iterdir() if path.name.startswith(database.name))
    assert b"printers" in content
    assert secret not in content
    assert words[3].encode() not in content
    with sqlite3.connect(database) as connection:
        (sealed,) = connection.execute("SELECT sealed FROM acme_eab_keys WHERE id = 'printers'").fetchone()
    assert Sealing(made / "keys" / EAB_FILE).open("printers", sealed) == secret
    listed = opencert("acme", "eab", "list", "--state-dir", made).stdout
    assert "printers  good  accounts 0  profile -  names *.p.example" in listed
    assert words[3] not in listed


def test_an_id_is_used_once_even_after_its_key_was_revoked(made: Path) -> None:
    add = ("acme", "eab", "add", "once", "--accounts", "3", "--expires", "7d", "--profile", "rsa", "--state-dir", made)
    assert opencert(*add).exit_code == 0
    assert "accounts 0/3  profile rsa  names *" in opencert("acme", "eab", "list", "--state-dir", made).stdout
    assert opencert("acme", "eab", "revoke", "once", "--state-dir", made).exit_code == 0
    assert "once  was revoked" in opencert("acme", "eab", "list", "--state-dir", made).stdout
    again = opencert(*add)
    assert (again.exit_code, "there is a key once already" in again.stderr) == (1, True)
    assert opencert("acme", "eab", "revoke", "nobody", "--state-dir", made).exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        *[("a b",), ("",), ("-x",), ("x" * 65,), ("ok", "--expires", "soon"), ("ok", "--accounts", "0")],
        *[("ok", "--allow-name", "a b"), ("ok", "--allow-name", "*x"), ("ok", "--expires", "999999999y")],
    ],
)
def test_what_makes_no_sense_is_refused_in_words(made: Path, words: tuple[str, ...]) -> None:
    result = opencert("acme", "eab", "add", "--state-dir", made, "--", *words[:1], *words[1:])
    if len(words) > 1:
        result = opencert("acme", "eab", "add", *words, "--state-dir", made)
    assert result.exit_code == 2, result.output
    assert "--eab-hmac-key" not in result.stdout


def test_accounts_are_listed_shown_blocked_and_closed(made: Path) -> None:
    at = SystemClock().now().replace(microsecond=0)
    database = Database.open_inline(f"sqlite:///{made / 'opencertd.sqlite3'}")
    store = SqlAcmeStore(database, SystemClock())

    async def fill() -> None:
        for number in range(3):
            jwk = {"kty": "EC", "crv": "P-256", "x": f"{number}", "y": "y"}
            made_at = at - timedelta(days=3 - number)
            contact = (f"mailto:a{number}@example.org",)
            await store.create_account(
                Account(f"account{number}", AccountStatus.VALID, jwk, f"t{number}", contact, True, made_at)
            )
        await database.close()

    run_now(fill())
    where = ("--state-dir", made)

    def statuses() -> list[str]:
        return [line.split()[1] for line in opencert("acme", "account", "list", *where).stdout.splitlines()]

    assert statuses() == ["valid", "valid", "valid"]
    shown = opencert("acme", "account", "show", "https://ca.example/account/account1", *where).stdout
    assert "mailto:a1@example.org" in shown
    assert "EC P-256" in shown
    assert opencert("acme", "account", "block", "account1", *where).exit_code == 0
    assert "was that already" in opencert("acme", "account", "block", "account1", *where).stderr
    assert statuses() == ["valid", "blocked", "valid"]
    assert opencert("acme", "account", "unblock", "account1", *where).exit_code == 0
    assert opencert("acme", "account", "deactivate", "account2", *where).exit_code == 0
    assert statuses() == ["valid", "valid", "deactivated"]
    for deed, account in (("unblock", "account2"), ("block", "account2"), ("block", "nobody"), ("unblock", "\0")):
        assert opencert("acme", "account", deed, account, *where).exit_code == 1


def test_what_is_paused_is_listed_and_resumed(made: Path) -> None:
    at = SystemClock().now().replace(microsecond=0)
    database = Database.open_inline(f"sqlite:///{made / 'opencertd.sqlite3'}")
    limits = Limits(pausing=PauseTerms(timedelta(days=7), 3))
    names = [parse_dns_name("a.example"), parse_dns_name("b.example"), parse_ip_address("2001:db8::1")]
    names.append(AltName(AltNameKind.PERMANENT_IDENTIFIER, "No 5/1.2.3"))

    async def fail() -> None:
        jwk = {"kty": "EC", "crv": "P-256", "x": "p", "y": "y"}
        await SqlAcmeStore(database, SystemClock()).create_account(
            Account("failing", AccountStatus.VALID, jwk, "failing", (), True, at)
        )
        for days in (9, 5, 1):
            for name in names:
                charges = limits.failure("failing", name)
                when = at - timedelta(days=days)
                await database.write(partial(weigh, charges=charges, now=when))
        await database.close()

    run_now(fail())
    where = ("--state-dir", made)

    def listed(*words: str) -> list[str]:
        return [line.split("  ")[1] for line in opencert("acme", "paused", "list", *words, *where).stdout.splitlines()]

    assert set(listed()) == {name.value for name in names}
    assert set(listed("https://ca.example/account/failing")) == {name.value for name in names}
    assert listed("other") == []
    line = opencert("acme", "paused", "list", *where).stdout.splitlines()[0]
    assert "3 failures since" in line
    done = opencert("acme", "paused", "resume", "failing", "*.A.example", "2001:DB8:0::1", *where)
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    assert set(listed()) == {"b.example", "No 5/1.2.3"}
    assert "nothing of that is paused" in opencert("acme", "paused", "resume", "failing", "a.example", *where).stderr
    assert opencert("acme", "paused", "resume", "failing", "No 5/1.2.3", *where).stdout.count("resumed") == 1
    assert "b.example" in opencert("acme", "paused", "resume", "failing", "--all-names", *where).stdout
    assert "nothing of that" in opencert("acme", "paused", "resume", "--all-accounts", *where).stderr


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("ann",),
        ("--all-names",),
        ("ann", "--all-accounts"),
        ("ann", "x", "--all-names"),
        ("ann", "x", "--all-accounts"),
    ],
)
def test_what_is_to_be_resumed_must_be_said(made: Path, words: tuple[str, ...]) -> None:
    assert opencert("acme", "paused", "resume", *words, "--state-dir", made).exit_code == 2


def test_without_a_ca_there_is_nothing_to_work_on(tmp_path: Path) -> None:
    for words in (("eab", "list"), ("eab", "add", "x"), ("account", "list"), ("paused", "list")):
        result = opencert("acme", *words, "--state-dir", tmp_path / "nothing")
        assert (result.exit_code, "no state directory" in result.stderr) == (1, True)
    assert not (tmp_path / "nothing").exists()
