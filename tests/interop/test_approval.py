"""Real clients wait for a person: strongSwan and `opencert est-enroll` poll, an operator decides beside the daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import new_csr, new_key, openssl, program, run
from tests.interop.daemon import Daemon, environment
from tests.interop.https import BASIC, PASSWORD, USER, request
from tests.interop.inventory import inventory
from tests.interop.site import Site, site
from tests.interop.test_est_clients import EST, sending, strongswan_anchors
from tests.interop.test_opencert import by_password, server
from tests.postgres import running_cluster

PAUSE = 2
RULES = f"""
[approval]
retry_after = "{PAUSE}s"
[profiles.default]
approval = "person"
"""


@pytest.fixture(scope="module", params=["sqlite, one worker", "sqlite, three workers", "postgresql, three workers"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A CA whose default profile wants a person's approval."""
    engine, _, number = str(request.param).partition(", ")
    workers = 1 if number == "one worker" else 3
    directory = tmp_path_factory.mktemp("approval")
    if engine == "sqlite":
        with site(directory, workers=workers, settings=RULES) as running:
            yield running
        return
    with running_cluster() as cluster:
        settings = f'database = "{cluster.new_database()}"\n{RULES}'
        with site(directory, workers=workers, settings=settings) as running:
            yield running


def est(ca: Daemon, *words: str, ok: bool = True) -> subprocess.CompletedProcess[bytes]:
    """`opencert est …` for that CA, with its settings file."""
    where = ("--config", ca.state.parent / "opencertd.toml", "--state-dir", ca.state)
    return run("opencert", "est", *words, *where, ok=ok)


def waiting(ca: Daemon, name: str) -> str:
    """The id of the request for that name, once it waits."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = est(ca, "pending").stdout.decode()
        found = re.search(rf"^(\S+)  waiting .*\n- subject CN={re.escape(name)} ", listed, re.MULTILINE)
        if found:
            return found[1]
        time.sleep(0.2)
    pytest.fail(f"no request for {name} waits")


def begin(*command: str | Path, stdin: Path | None = None) -> subprocess.Popen[bytes]:
    """A client that goes on while the test decides."""
    words = [*program(str(command[0])), *map(str, command[1:])]
    with (stdin or Path(os.devnull)).open("rb") as source:
        return subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())


def test_strongswan_polls_until_a_person_has_approved(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    key, csr = tmp_path / "swan.key", tmp_path / "swan.csr"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256").stdout)
    csr.write_bytes(run("pki", "--req", "--type", "ecdsa", "--in", key, "--dn", "CN=swan.test").stdout)
    who = ("--userpass", f"{USER}:{PASSWORD}", "--interval", str(PAUSE))
    client = begin("pki", "--est", "--url", ca.url, *strongswan_anchors(ca, tmp_path), *who, stdin=csr)
    request_id = waiting(ca, "swan.test")
    time.sleep(2 * PAUSE)  # it polls meanwhile
    assert client.poll() is None
    est(ca, "approve", request_id, "--reason", "known")
    out, said = client.communicate(timeout=60)
    assert client.returncode == 0, said.decode()
    certificate = x509.load_der_x509_certificate(out)
    assert certificate.subject.rfc4514_string() == "CN=swan.test"
    assert [entry.subject for entry in inventory(ca)].count("CN=swan.test") == 1
    assert "swan.test" not in est(ca, "pending").stdout.decode()
    assert f"{request_id}  issued" in est(ca, "pending", "--all").stdout.decode()


def test_strongswan_ends_when_it_is_rejected(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    key, csr = tmp_path / "swan.key", tmp_path / "swan.csr"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256").stdout)
    csr.write_bytes(run("pki", "--req", "--type", "ecdsa", "--in", key, "--dn", "CN=rejected.test").stdout)
    who = ("--userpass", f"{USER}:{PASSWORD}", "--interval", str(PAUSE))
    client = begin("pki", "--est", "--url", ca.url, *strongswan_anchors(ca, tmp_path), *who, stdin=csr)
    est(ca, "reject", waiting(ca, "rejected.test"), "--reason", "no device of ours")
    _, said = client.communicate(timeout=60)
    assert client.returncode != 0
    assert b"403" in said


def test_our_client_polls_and_is_told_what_was_decided(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    who = (*server(ca), *by_password(tmp_path))
    wish = ("--san", "dns:ours.test", "--subject", "CN=ours.test", "--out", tmp_path / "ours.pem")
    client = begin("opencert", "est-enroll", *who, "--new-key", tmp_path / "ours.key", *wish, "--wait", "60")
    est(ca, "approve", waiting(ca, "ours.test"))
    _, said = client.communicate(timeout=60)
    assert client.returncode == 0, said.decode()
    assert f"asking again in {PAUSE} seconds".encode() in said
    openssl("x509", "-in", tmp_path / "ours.pem", "-noout", "-subject")


def test_a_key_is_made_for_the_client_that_waits_when_it_was_approved(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    who = (*server(ca), *by_password(tmp_path))
    out = ("--key-out", tmp_path / "made.key", "--out", tmp_path / "made.pem")
    client = begin("opencert", "est-serverkeygen", *who, "--subject", "CN=made.test", *out, "--wait", "60")
    request_id = waiting(ca, "made.test")
    assert "key made by this CA" in est(ca, "pending").stdout.decode()
    est(ca, "approve", request_id)
    _, said = client.communicate(timeout=60)
    assert client.returncode == 0, said.decode()
    public = openssl("pkey", "-in", tmp_path / "made.key", "-pubout").stdout
    assert openssl("x509", "-in", tmp_path / "made.pem", "-noout", "-pubkey").stdout == public


def test_our_client_comes_back_another_day_with_the_key_it_made(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    who = (*server(ca), *by_password(tmp_path))
    wish = ("--subject", "CN=later.test", "--out", tmp_path / "later.pem")
    first = run("opencert", "est-enroll", *who, "--new-key", tmp_path / "later.key", *wish, "--wait", "0", ok=False)
    assert first.returncode == 1 and b"--use-key" in first.stderr
    request_id = waiting(ca, "later.test")
    est(ca, "reject", request_id, "--reason", "wrong site")
    second = run("opencert", "est-enroll", *who, "--use-key", tmp_path / "later.key", *wish, ok=False)
    assert b"was rejected: wrong site" in second.stderr
    late = est(ca, "approve", request_id, ok=False)
    assert late.returncode == 1 and b"was rejected by operator:" in late.stderr


def test_kill_between_approval_and_issue_loses_nothing(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    csr = new_csr(new_key(tmp_path / "k.key"), "killed.test").read_bytes()
    headers = {**BASIC, "Content-Type": "application/pkcs10"}

    def ask() -> int:
        return request(ca, "POST", f"{EST}/simpleenroll", csr, headers).status

    assert ask() == 202
    request_id = waiting(ca, "killed.test")
    ca.kill()
    est(ca, "approve", request_id)
    ca.start()
    assert [ask(), ask()] == [200, 200]
    assert [entry.subject for entry in inventory(ca)].count("CN=killed.test") == 1


def test_of_two_operators_at_once_one_decides(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    csr = new_csr(new_key(tmp_path / "k.key"), "raced.test")
    run(
        "curl",
        "-sS",
        "--cacert",
        ca.trust_anchors,
        "-u",
        f"{USER}:{PASSWORD}",
        *sending(csr),
        f"{ca.url}{EST}/simpleenroll",
    )
    request_id = waiting(ca, "raced.test")
    where = ("--config", ca.state.parent / "opencertd.toml", "--state-dir", ca.state)
    racers = [begin("opencert", "est", deed, request_id, "--reason", "mine", *where) for deed in ("approve", "reject")]
    said = [racer.communicate(timeout=60)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 1], said
    assert any(b"was approved by" in words or b"was rejected by" in words for words in said)


def test_a_worker_that_is_killed_while_clients_poll_changes_nothing(desk: Site, tmp_path: Path) -> None:
    ca = desk.ca
    if len(ca.pids()) < 4:
        return  # there is but one, whose end is the daemon's
    who = (*server(ca), *by_password(tmp_path))
    wish = ("--subject", "CN=polled.test", "--out", tmp_path / "p.pem", "--wait", "60")
    client = begin("opencert", "est-enroll", *who, "--new-key", tmp_path / "p.key", *wish)
    request_id = waiting(ca, "polled.test")
    os.kill(ca.pids()[-1], signal.SIGKILL)
    est(ca, "approve", request_id)
    _, said = client.communicate(timeout=60)
    assert client.returncode == 0, said.decode()
