"""Profiles and policies of a settings file, as clients of a running daemon meet them, and changed while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeError, csr_for
from tests.interop.acme_load import acme_client
from tests.interop.clients import run
from tests.interop.daemon import Daemon, family
from tests.interop.https import BASIC, EST, PASSWORD, USER, request

PKCS10 = {"Content-Type": "application/pkcs10"}
RULES = """
[profiles.web]
like = "tls-server"
validity = "{validity}"
protocols = ["est", "ca_api"]
[profiles.api-only]
protocols = ["ca_api"]
[policy.deny]
dns = [".denied.test"]
"""
MANY = 24
"""New connections until every worker has surely been met."""


@contextlib.contextmanager
def daemon(directory: Path, workers: int, rules: str) -> Iterator[tuple[Daemon, Path]]:
    users, password, config = directory / "est-users", directory / "password", directory / "opencertd.toml"
    password.write_text(PASSWORD + "\n")
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password)
    config.write_text(rules)
    ca = Daemon(directory / "state", workers=workers, extra=("--est-users", str(users), "--config", str(config)))
    with ca.running():
        yield ca, config
    assert not ca.faults()


@pytest.fixture(scope="module", params=[1, 3], ids=["one worker", "three workers"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Path]]:
    with daemon(tmp_path_factory.mktemp("profiles"), request.param, RULES.format(validity="1d")) as found:
        yield found


KEY = ec.generate_private_key(ec.SECP256R1())


def csr(name: str) -> bytes:
    """A new request each time: the same one twice would get the same certificate."""
    return csr_for(KEY, name)


def days(ca: Daemon, profile: str = "web") -> int | None:
    """For how many days a certificate of the profile is good; None when there is no such profile."""
    answer = request(ca, "POST", f"/ca/csr?profile={profile}", csr("days.test"), BASIC)
    if answer.status == 404:
        return None
    assert answer.status == 200, answer
    leaf = x509.load_pem_x509_certificate(answer.body)
    return round((leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() / 86400)


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.3)


def everywhere(ca: Daemon, wanted: int | None) -> bool:
    return {days(ca) for _ in range(MANY)} == {wanted}


def test_labels_and_names_choose_profiles_that_are_for_that_protocol(
    running: tuple[Daemon, Path],
) -> None:
    ca, _ = running
    wish = csr("labels.test")
    for profile, est, api in (
        ("web", 200, 200),
        ("api-only", 404, 200),
        ("sub-ca", 404, 403),
        ("code-signing", 403, 403),
        ("nothing", 404, 404),
        ("daemon-tls", 404, 404),
    ):
        path = f"{EST}/{profile}"
        assert request(ca, "POST", f"{path}/simpleenroll", wish, PKCS10 | BASIC).status == est, profile
        assert request(ca, "GET", f"{path}/cacerts").status == (404 if est == 404 else 200), profile
        assert request(ca, "POST", f"/ca/csr?profile={profile}", wish, BASIC).status == api, profile


def test_a_refusal_names_the_rule(running: tuple[Daemon, Path]) -> None:
    ca, _ = running
    wish = csr("x.denied.test")
    for path in (f"{EST}/simpleenroll", "/ca/csr"):
        answer = request(ca, "POST", path, wish, PKCS10 | BASIC)
        assert answer.status == 403 and b"'.denied.test' of [policy]" in answer.body, answer

    async def order() -> None:
        async with acme_client(ca) as client:
            await client.register()
            with pytest.raises(AcmeError) as refused:
                await client.order("x.denied.test")
            assert refused.value.type == "rejectedIdentifier" and ".denied.test" in str(refused.value)
            assert "of [policy]" in str(refused.value)

    asyncio.run(order())


def test_a_validity_may_be_asked_where_the_profile_lets_it(running: tuple[Daemon, Path]) -> None:
    ca, _ = running
    wish = csr("length.test")
    for asked, status in (("3d", 200), ("8d", 403), ("3", 400), ("0s", 400)):
        answer = request(ca, "POST", f"/ca/csr?profile=short-lived&validity={asked}", wish, BASIC)
        assert answer.status == status, (asked, answer)
    assert request(ca, "POST", "/ca/csr?validity=3d", wish, BASIC).status == 403


def test_a_change_of_the_file_reaches_every_worker(running: tuple[Daemon, Path]) -> None:
    ca, config = running
    config.write_text(RULES.format(validity="2d"))
    eventually(lambda: everywhere(ca, 2))


def test_sighup_reads_the_file_at_once(running: tuple[Daemon, Path]) -> None:
    ca, config = running
    config.write_text(RULES.format(validity="3d"))
    assert ca.process is not None
    ca.process.send_signal(signal.SIGHUP)
    eventually(lambda: everywhere(ca, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('[profiles.web]\nvalidity = "x"\n', "bad setting 'profiles.web.validity' in "),
        ('[profiles.web]\nissuers = ["dsa"]\n', "'profiles.web.issuers': there is no issuer 'dsa'"),
        ("[profiles", "is not valid TOML"),
    ],
)
def test_a_bad_file_keeps_the_last_good_one(running: tuple[Daemon, Path], change: str, words: str) -> None:
    ca, config = running
    config.write_text(RULES.format(validity="4d"))
    eventually(lambda: everywhere(ca, 4))
    config.write_text(change)
    eventually(lambda: any("stay as they were" in line and words in line for line in ca.log.splitlines()))
    assert everywhere(ca, 4)
    config.write_text(RULES.format(validity="5d"))
    eventually(lambda: everywhere(ca, 5))


@pytest.mark.parametrize("running", [3], indirect=True, ids=["three workers"])
def test_a_worker_that_is_started_again_has_the_last_good_rules(running: tuple[Daemon, Path]) -> None:
    ca, config = running
    config.write_text(RULES.format(validity="6d"))
    eventually(lambda: everywhere(ca, 6))
    config.write_text("[profiles")
    assert ca.process is not None
    before = set(family(ca.process.pid)) - {ca.process.pid}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(family(ca.process.pid)) - {ca.process.pid} - before) == ca.workers)
    assert everywhere(ca, 6)


def test_a_profile_that_contradicts_itself_is_refused_at_start(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError) as failed,
        daemon(tmp_path, 1, '[profiles.web]\nvalidity = "2d"\nvalidity_max = "1d"\n'),
    ):
        pass
    assert "the profile 'web' contradicts itself: 'profiles.web.validity'" in str(failed.value)
    assert "Traceback" not in str(failed.value)
