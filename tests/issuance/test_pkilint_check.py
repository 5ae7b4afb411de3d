"""pkilint has its say before a certificate exists; slow, dead or mad, it holds nothing up and lets nothing slip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.pkilint_check import PkilintCheck
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import Proof
from opencertd.store.audit import SqlAuditStore
from tests.ca import TestCa, dns, make_ca, request, requester

Make = Callable[..., PkilintCheck]

ECHO = "import sys\nfor line in sys.stdin:\n    print('[]', flush=True)\n"
DIES = "import sys\nsys.stdin.readline()\nsys.exit('ran out of things')\n"
HANGS = "import sys, time\nsys.stdin.readline()\ntime.sleep(600)\n"
RAVES = "import sys\nfor line in sys.stdin:\n    print('<html>', flush=True)\n"
HANGS_ONCE = """
import pathlib, sys, time
flag = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    if not flag.exists():
        flag.touch()
        time.sleep(600)
    print('[]', flush=True)
"""


@pytest_twisted.async_yield_fixture
async def make() -> AsyncIterator[Make]:
    made: list[PkilintCheck] = []

    def make_check(script: str = "", *arguments: str, refuse: bool = True, **changes: Any) -> PkilintCheck:
        if script:
            changes["command"] = (sys.executable, "-c", script, *arguments)
        made.append(PkilintCheck(reactor, **{"mode": "refuse" if refuse else "warn", **changes}))
        return made[-1]

    yield make_check
    for check in made:
        await check.stop()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def pkilint_says(path: Path) -> list[str]:
    """A line for each finding at ERROR or above of the command that pkilint comes with."""
    program = Path(sys.executable).with_name("lint_pkix_cert")
    command = (program, "lint", "--document-format", "DER", "-s", "ERROR", "-f", "CSV", path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return list(filter(None, done.stdout.splitlines()[1:]))


def ca_with(check: PkilintCheck, rules: str = "") -> TestCa:
    ca = make_ca(rules=rules)
    ca.authority._preparation._pkilint = check
    return ca


async def refusal_of(ca: TestCa, **changes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await ca.authority.issue(request(**changes))
    return caught.value


async def issued(ca: TestCa) -> int:
    return sum(record.profile == "default" for record in await ca.store.inventory(0, 1000))


WITH_AN_ODD_URL = '[profiles.own]\nocsp = ["http://localhost/ocsp"]'
FAULTS: dict[str, Any] = {
    "a host of one label": ({"names": dns("localhost")}, RefusalKind.REJECTED_NAME, "invalid_domain_name", "localhost"),
    "a mailbox": (
        {"names": (AltName(AltNameKind.EMAIL, "a@localhost"),)},
        RefusalKind.REJECTED_NAME,
        "invalid_email_address",
        "a@localhost",
    ),
    "a URN": (
        {"names": (AltName(AltNameKind.URI, "urn:xx:y"),)},
        RefusalKind.REJECTED_NAME,
        'pkix.invalid_uri_syntax: Invalid URI syntax: "urn:xx:y"',
    ),
    "a bare domain component": (
        {"subject": parse_dn("DC=test")},
        RefusalKind.REJECTED_NAME,
        "pkix.name_domain_components_invalid_domain_name",
    ),
    "a URL of the settings": ({"profile": "own"}, RefusalKind.INTERNAL, "pkix.invalid_uri_syntax", "http://localhost"),
    "both": ({"profile": "own", "subject": parse_dn("DC=test")}, RefusalKind.INTERNAL, "http://localhost"),
}

ODD = {"subject": parse_dn("CN=localhost"), "names": dns("localhost")}
"""A name pkilint finds fault with."""


@pytest_twisted.ensureDeferred
async def test_what_is_right_is_issued(make: Make, logged: list[LogEvent]) -> None:
    ca = ca_with(make())
    await ca.authority.issue(request())
    await ca.authority.issue(request(profile="rsa"))
    assert not [event for event in logged if "pkilint" in str(event.get("log_format"))]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", FAULTS)
async def test_a_fault_stops_issuance_before_anything_is_stored_and_is_named(how: str, make: Make) -> None:
    """In the refusal and in the audit chain. What the request did not choose is not its fault."""
    changes, kind, *words = FAULTS[how]
    ca = ca_with(make(), WITH_AN_ODD_URL)
    refusal = await refusal_of(ca, **changes)
    assert refusal.kind is kind
    assert all(word in refusal.detail for word in words), refusal.detail
    assert await issued(ca) == 0
    assert await ca.store.abandon_intents(owner=None, before=None) == 0, "no intent was written either"
    *_, last = await SqlAuditStore(ca.database, ca.clock).page(None, 1000)
    assert (last.result, json.loads(last.what)["why"]) == (kind.value, refusal.detail)


@pytest_twisted.ensureDeferred
async def test_pkilints_own_command_finds_the_same(make: Make, tmp_path: Path, logged: list[LogEvent]) -> None:
    check = make(refuse=False)
    ca = ca_with(check)
    made = await ca.authority.issue(request(**ODD))
    (event,) = (event for event in logged if "findings" in event)
    path = tmp_path / "odd.der"
    path.write_bytes(made.certificate_der)
    said = pkilint_says(path)
    assert len(said) == len(event["findings"])
    for line, finding in zip(said, event["findings"], strict=True):
        assert finding.split(": ")[0] in line


@pytest_twisted.ensureDeferred
async def test_what_is_no_certificate_is_a_finding(make: Make) -> None:
    with pytest.raises(Refusal) as caught:
        await make().check(b"\x30\x03\x02\x01\x01")
    assert caught.value.kind is RefusalKind.INTERNAL


FAILING = {"dies": (DIES, "ran out of things"), "hangs": (HANGS, "longer than 1 seconds"), "raves": (RAVES, "sense")}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("refuse", [True, False])
async def test_without_an_answer_it_refuses_or_warns_as_told(
    how: str, refuse: bool, make: Make, logged: list[LogEvent]
) -> None:
    script, words = FAILING[how]
    ca = ca_with(make(script, refuse=refuse, limit=1.0))
    if refuse:
        refusal = await refusal_of(ca)
        assert (refusal.kind, refusal.retry_after) == (RefusalKind.UNAVAILABLE, 30)
        assert await issued(ca) == 0
    else:
        await ca.authority.issue(request())
        assert await issued(ca) == 1
    assert any(words in str(event.get("why")) for event in logged)


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there_is_no_answer(make: Make) -> None:
    with pytest.raises(Refusal) as caught:
        await make(command=("/nowhere/python",)).check(b"0")
    assert caught.value.kind is RefusalKind.UNAVAILABLE


@pytest_twisted.ensureDeferred
async def test_after_one_that_hung_a_fresh_process_goes_on(make: Make, tmp_path: Path) -> None:
    check = make(HANGS_ONCE, str(tmp_path / "flag"), processes=1, limit=1.0)
    with pytest.raises(Refusal):
        await check.check(b"0")
    await check.check(b"0")
    assert len(check._all) == 1


@pytest_twisted.ensureDeferred
async def test_many_at_once_share_the_processes(make: Make) -> None:
    check = make(ECHO, processes=2, limit=30.0)
    await gatherResults([deferred(check) for _ in range(50)])
    assert len(check._all) == 2


@pytest_twisted.ensureDeferred
async def test_the_line_of_those_who_wait_has_an_end(make: Make) -> None:
    check = make(HANGS, processes=1, limit=1.0, most_waiting=1)
    first, second = deferred(check), deferred(check)
    for each in (first, second):
        each.addErrback(lambda failure: failure.trap(Refusal) and None)
    with pytest.raises(Refusal) as caught:
        await check.check(b"0")
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    await first
    await second


@pytest_twisted.ensureDeferred
async def test_the_reactor_goes_on_meanwhile_and_stop_leaves_no_process(make: Make) -> None:
    check = make(HANGS, processes=1, limit=30.0)
    waiting = deferred(check)
    await deferLater(reactor, 0.1)
    (process,) = check._all
    pid = process.transport.pid
    os.kill(pid, 0)
    await check.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Refusal):
        await waiting


@pytest_twisted.ensureDeferred
async def test_the_daemons_own_certificates_are_not_its_business(make: Make) -> None:
    """They bear names such as localhost, and are made when no reactor runs."""
    ca = ca_with(make(DIES))
    internal = next(name for name, profile in ca.authority.profiles.items() if not profile.public)
    await ca.authority.issue(request(profile=internal, requester=requester(proof=Proof.DAEMON), **ODD))


MODES = """
[profiles.off]
pkilint = "off"
[profiles.warn]
pkilint = "warn"
[profiles.refuse]
pkilint = "refuse"
[profiles.child]
like = "refuse"
"""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("usual", ["off", "warn", "refuse"])
async def test_profiles_say_otherwise(usual: str, make: Make, logged: list[LogEvent]) -> None:
    check = make(mode=usual)
    ca = ca_with(check, MODES)
    for profile in ("default", "off", "warn", "refuse", "child"):
        mode = {"default": usual, "child": "refuse"}.get(profile, profile)
        asked = {"profile": profile, "names": (AltName(AltNameKind.URI, "urn:xx:y"),)}
        before = len(logged)
        if mode == "refuse":
            assert "pkix.invalid_uri_syntax" in (await refusal_of(ca, **asked)).detail
        else:
            await ca.authority.issue(request(**asked))
        said = [event for event in logged[before:] if "findings" in event]
        assert bool(said) is (mode != "off"), profile


@pytest_twisted.ensureDeferred
async def test_where_it_is_off_no_process_is_started(make: Make) -> None:
    check = make(mode="off")
    await ca_with(check).authority.issue(request(**ODD))
    assert not check._all


def test_an_order_fails_when_it_is_made(make: Make) -> None:
    """Before anybody proves control of a name that is not issued in the end."""
    ca = ca_with(make(mode="off"), MODES)
    for name in ("localhost", "*.localhost"):
        ca.authority.check_order("warn", dns(name), requester(), IssuingProtocol.ACME)
        with pytest.raises(Refusal) as caught:
            ca.authority.check_order("refuse", dns("a.test", name), requester(), IssuingProtocol.ACME)
        (refused,) = caught.value.names
        assert refused.name == name and "pkix.invalid_domain_name_syntax" in refused.detail
    ca.authority.check_order("refuse", dns("a.test", "*.a.test"), requester(), IssuingProtocol.ACME)


def deferred(check: PkilintCheck) -> Deferred[None]:
    return Deferred.fromCoroutine(check.check(b"0"))


def test_only_where_pkilint_is_asked_is_there_somebody_to_wait_for(make: Make) -> None:
    of_its_own = '[profiles.watched]\npkilint = "warn"\n[profiles.unwatched]\npkilint = "off"'
    for mode, waits in (("off", {"watched"}), ("warn", {"default", "watched"}), ("refuse", {"default", "watched"})):
        authority = ca_with(make(mode=mode), of_its_own).authority
        for profile in ("default", "watched", "unwatched"):
            assert authority.is_prompt(profile) == (profile not in waits), (mode, profile)
