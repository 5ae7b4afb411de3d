"""A running CA goes by its lists of keys and asks pkilint, as openssl and curl-like clients see it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, PASSWORD, USER, certs_only, enrol, request
from tests.interop.revoking import revoke
from tests.interop.wire import Answer

CSR = {"Content-Type": "application/pkcs10", **BASIC}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keychecks")


@pytest.fixture(scope="module")
def ca(directory: Path) -> Iterator[Daemon]:
    """Two workers, an empty blocklist, and pkilint that may refuse."""
    users, password, config = directory / "users", directory / "password", directory / "opencertd.toml"
    password.write_text(PASSWORD + "\n")
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password)
    (directory / "blocklist").write_text("# nothing yet\n")
    config.write_text(f'[keys]\nblocklist = "{directory}/blocklist"\n[lint]\npkilint = "refuse"\n')
    host = "ca.keychecks.test"  # pkilint takes localhost for a fault in URLs
    extra = ("--config", str(config), "--est-users", str(users), "--hostname", host)
    daemon = Daemon(directory / "state", workers=2, host=host, extra=extra)
    with daemon.running():
        yield daemon
    assert not daemon.faults()


def ask(ca: Daemon, key: Path, name: str) -> Answer:
    return request(ca, "POST", f"{EST}/simpleenroll", new_csr(key, name, name).read_bytes(), CSR)


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.3)


def test_a_key_that_is_put_on_the_list_is_refused_by_all_workers(ca: Daemon, directory: Path) -> None:
    key = new_key(directory / "listed.key")
    certs_only(ask(ca, key, "listed.test"))
    spki = openssl("pkey", "-in", key, "-pubout", "-outform", "DER").stdout
    (directory / "blocklist").write_text(f"{hashlib.sha256(spki).hexdigest()}  # lost\n")
    wait_until(lambda: all(ask(ca, key, "listed.test").status == 400 for _ in range(8)))
    assert b"list of compromised keys" in ask(ca, key, "listed.test").body
    (directory / "blocklist").write_text("nonsense\n")
    wait_until(lambda: ca.log.count(f"{directory}/blocklist, line 1: 'nonsense'") == ca.workers)
    assert ask(ca, key, "listed.test").status == 400
    certs_only(ask(ca, new_key(directory / "fresh.key"), "fresh.test"))


def test_a_key_that_was_compromised_is_refused(ca: Daemon, directory: Path) -> None:
    identity = enrol(ca, directory, "compromised.test")
    revoke(ca, identity, "keyCompromise")
    answer = ask(ca, identity.key_file, "compromised.test")
    assert answer.status == 400
    assert b"compromised" in answer.body


def test_pkilint_stops_what_it_finds_fault_with(ca: Daemon, directory: Path) -> None:
    key = new_key(directory / "odd.key")
    answer = ask(ca, key, "oneword")
    assert answer.status == 403, "a name is refused, and nothing is wrong with the server"
    assert b"pkix.invalid_domain_name_syntax" in answer.body
    certs_only(ask(ca, key, "two.words"))
