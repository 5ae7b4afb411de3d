"""A worker learns of a new issuer at once, signs by it a little later, and goes on as it was when it cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from opencertd.asn1.dn import parse_dn
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import at_once
from opencertd.hierarchy_follower import HierarchyFollower, loader
from opencertd.issuance.ceremony import NewAuthority, make_authorities
from opencertd.issuance.issuers import Issuers
from opencertd.issuance.key_types import parse_key_types
from opencertd.keys.files import write_private_key
from opencertd.model.certificates import Hierarchy, IssuerRecord, IssuerState
from tests.ca import NOW

ROOT, OLD = make_authorities(parse_dn("CN=A"), NOW - timedelta(days=9), parse_key_types(("ecdsa",)))
_, NEXT = make_authorities(parse_dn("CN=A"), NOW - timedelta(days=9), parse_key_types(("ecdsa",)))
NEW = dataclasses.replace(
    NEXT.record, name="ecdsa-2", key_reference="ecdsa-2.pem", predecessor_id=OLD.record.id, parent_id=ROOT.record.id
)
RETIRED = dataclasses.replace(OLD.record, state=IssuerState.RETIRED)
BEFORE = Hierarchy((ROOT.record, OLD.record))
AFTER = Hierarchy((ROOT.record, RETIRED, NEW))


class Rig:
    """A follower over a store that says what a test wants it to say."""

    def __init__(self, keys: Path, begun: Hierarchy = BEFORE) -> None:
        self.keys, self.reactor, self.clock = keys, Clock(), FixedClock(NOW)
        for made in (ROOT, OLD):
            self.put(made, str(made.record.key_reference))
        self.now: Hierarchy | Exception = begun
        self.adopted: list[Issuers] = []
        self.refuse = False
        self.follower = self.follow(begun)

    def follow(self, begun: Hierarchy) -> HierarchyFollower:
        return HierarchyFollower(
            store=self,  # type: ignore[arg-type]  # only what it asks is here
            held=begun,
            load=loader(self.keys, None, at_once, None),
            adopt=self.adopt,
            elsewhere=at_once,
            clock=self.clock,
            reactor=self.reactor,
        )

    def put(self, made: NewAuthority, file: str) -> None:
        write_private_key(self.keys / file, made.key, None)

    def hierarchy(self) -> Deferred[Hierarchy]:
        return fail(self.now) if isinstance(self.now, Exception) else succeed(self.now)

    def adopt(self, issuers: Issuers) -> None:
        if self.refuse:
            raise StartError("a profile contradicts itself")
        self.adopted.append(issuers)

    def wait(self, seconds: int) -> None:
        self.reactor.pump([1.0] * seconds)

    def signs(self) -> str | None:
        issuer = self.adopted[-1].current("ecdsa")
        return issuer and issuer.name


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.put(NEXT, "ecdsa-2.pem")
    rig.follower.start()
    return rig


@pytest.fixture
def said() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def errors(said: list[LogEvent]) -> list[str]:
    return [str(event.get("why", event.get("log_format"))) for event in said if event["log_level"].name == "error"]


def names(issuers: Issuers) -> list[str]:
    return [issuer.name for issuer in issuers.all()]


def test_nothing_is_adopted_while_nothing_changes(rig: Rig) -> None:
    rig.wait(20)
    assert rig.adopted == []


def test_a_new_issuer_is_known_within_a_second_and_signs_when_all_workers_know_it(rig: Rig) -> None:
    rig.now = AFTER
    rig.wait(1)
    assert names(rig.adopted[-1]) == ["ecdsa-root", "ecdsa", "ecdsa-2"]
    assert rig.signs() == "ecdsa"
    rig.wait(4)
    assert rig.signs() == "ecdsa"
    rig.wait(2)
    assert rig.signs() == "ecdsa-2"
    rig.wait(20)
    assert len(rig.adopted) == 2


def test_signers_of_keys_that_did_not_move_are_kept(rig: Rig) -> None:
    held = {issuer.id: issuer.signer for issuer in rig.follower.issuers.all()}
    rig.now = AFTER
    rig.wait(1)
    kept = {issuer.id: issuer.signer for issuer in rig.adopted[-1].all()}
    assert all(kept[issuer] is signer for issuer, signer in held.items())


def test_a_key_that_is_not_here_yet_is_said_once_and_the_old_issuer_signs_on(
    tmp_path: Path, said: list[LogEvent]
) -> None:
    rig = Rig(tmp_path)
    rig.follower.start()
    rig.now = AFTER
    rig.wait(30)
    assert rig.signs() == "ecdsa"
    assert names(rig.adopted[-1])[-1] == "ecdsa-2"
    (why,) = errors(said)
    assert "ecdsa-2.pem" in why
    rig.put(NEXT, "ecdsa-2.pem")
    rig.wait(2)
    assert rig.signs() == "ecdsa-2"


def test_the_key_of_another_is_not_taken(rig: Rig, said: list[LogEvent]) -> None:
    rig.put(OLD, "ecdsa-2.pem")
    rig.now = AFTER
    rig.wait(10)
    assert rig.signs() == "ecdsa"
    assert ["does not belong" in why for why in errors(said)] == [True]


@pytest.mark.parametrize(
    "trouble", [Refusal(RefusalKind.UNAVAILABLE, "the store is away"), ZeroDivisionError("whatever")]
)
def test_a_store_that_is_away_changes_nothing_and_is_said_once(
    rig: Rig, said: list[LogEvent], trouble: Exception
) -> None:
    rig.now = trouble
    rig.wait(10)
    assert rig.adopted == []
    assert len([event for event in said if "stay as they were" in event.get("log_format", "")]) == 1
    rig.now = AFTER
    rig.wait(7)
    assert rig.signs() == "ecdsa-2"


def test_rules_that_do_not_fit_the_new_issuers_keep_the_old_ones(rig: Rig, said: list[LogEvent]) -> None:
    rig.refuse = True
    rig.now = AFTER
    rig.wait(10)
    assert errors(said) == ["a profile contradicts itself"]
    rig.refuse = False
    rig.wait(7)
    assert rig.signs() == "ecdsa-2"


def test_a_worker_that_starts_long_after_signs_by_the_successor_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.put(NEXT, "ecdsa-2.pem")
    current = rig.follow(AFTER).issuers.current("ecdsa")
    assert current is not None and current.name == "ecdsa-2"


def test_a_worker_that_starts_right_after_waits_as_the_others_do(tmp_path: Path) -> None:
    _, made = make_authorities(parse_dn("CN=A"), NOW, parse_key_types(("ecdsa",)))
    young = dataclasses.replace(made.record, name="ecdsa-2", key_reference="e.pem", predecessor_id=OLD.record.id)
    rig = Rig(tmp_path)
    rig.put(made, "e.pem")
    rig.now = Hierarchy((ROOT.record, RETIRED, young))
    rig.follower = rig.follow(rig.now)
    waiting = rig.follower.issuers.current("ecdsa")
    assert waiting is not None and waiting.name == "ecdsa"
    rig.follower.start()
    rig.wait(6)
    assert rig.signs() == "ecdsa-2"


def test_a_revoked_issuer_never_signs_in_place_of_one_that_waits(rig: Rig) -> None:
    revoked: IssuerRecord = dataclasses.replace(OLD.record, state=IssuerState.REVOKED)
    rig.now = Hierarchy((ROOT.record, revoked, NEW))
    rig.wait(1)
    assert rig.signs() == "ecdsa-2"
