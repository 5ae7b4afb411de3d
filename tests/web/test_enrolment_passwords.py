"""An enrolment password opens what it was made for; nobody learns which there are."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.enrolment_password import PREFIX, EnrolmentPassword, digest_of, new_words
from opencertd.model.names import parse_dns_name
from opencertd.model.requester import Proof
from opencertd.web.authentication import Authenticator
from opencertd.web.enrolment_passwords import EnrolmentPasswords
from opencertd.web.users import set_user
from tests.web.people import NOW, person, users_of
from tests.web.test_authentication import Known, basic, request

KEY = b"k" * 32
GOOD = EnrolmentPassword(
    id="otp-a",
    digest=digest_of(KEY, "otp-a", "secret"),
    names=("*.a.test",),
    profiles=("cameras",),
    uses=1,
    made_at=NOW,
    made_by="operator:root",
    until=NOW + timedelta(days=1),
)


class Shelf:
    def __init__(self, *kept: EnrolmentPassword) -> None:
        self.kept = {one.id: one for one in kept}
        self.asked = 0

    def find(self, name: str) -> Deferred[EnrolmentPassword | None]:
        return succeed(self.kept.get(name))

    def any_good(self) -> Deferred[bool]:
        self.asked += 1
        return succeed(bool(self.kept))


def passwords(*kept: EnrolmentPassword, key: bytes = KEY) -> EnrolmentPasswords:
    return EnrolmentPasswords(Shelf(*kept), key=key, clock=FixedClock(NOW))


async def refused(asked: EnrolmentPasswords, name: str, password: str) -> str:
    with pytest.raises(Refusal) as caught:
        await asked.check(name, password)
    assert caught.value.kind is RefusalKind.UNAUTHENTICATED
    return caught.value.detail


@pytest_twisted.ensureDeferred
async def test_it_lets_enrol_for_its_names_and_profiles() -> None:
    requester = await passwords(GOOD).check("otp-a", "secret")
    assert (requester.proof, requester.id, requester.roles) == (Proof.ENROLMENT_PASSWORD, "otp-a", frozenset())
    assert requester.grant.covers(parse_dns_name("x.a.test"))
    assert not requester.grant.covers(parse_dns_name("a.test"))
    assert requester.profiles == {"cameras"}
    assert (await passwords(dataclasses.replace(GOOD, profiles=None)).check("otp-a", "secret")).profiles is None


@pytest_twisted.ensureDeferred
async def test_wrong_words_and_unknown_names_are_refused_alike() -> None:
    asked = passwords(GOOD, dataclasses.replace(GOOD, id="otp-b"))
    other_key = passwords(GOOD, key=b"z" * 32)
    said = {
        await refused(asked, "otp-a", "wrong"),
        await refused(asked, "otp-a", ""),
        await refused(asked, "otp-b", "secret"),  # the hash is of another's name
        await refused(asked, "otp-c", "secret"),
        await refused(asked, "otp-" + "x" * 10_000, "secret"),
        await refused(other_key, "otp-a", "secret"),
    }
    assert said == {"user name or password is wrong"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revoked_at": NOW}, "was revoked"),
        ({"until": NOW}, "has expired"),
        ({"used": 1, "last_used_at": NOW - timedelta(seconds=60)}, "was used up"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_who_has_the_password_is_told_why_it_is_no_use(changes: dict[str, Any], words: str) -> None:
    asked = passwords(dataclasses.replace(GOOD, **changes))
    assert words in await refused(asked, "otp-a", "secret")
    assert words not in await refused(asked, "otp-a", "wrong")


@pytest_twisted.ensureDeferred
async def test_for_a_minute_who_lost_the_answer_may_ask_again() -> None:
    just = dataclasses.replace(GOOD, used=1, last_used_at=NOW - timedelta(seconds=59))
    assert (await passwords(just).check("otp-a", "secret")).id == "otp-a"


@pytest_twisted.ensureDeferred
async def test_it_comes_by_basic_beside_users_and_without_any(tmp_path: Path) -> None:
    users = users_of(tmp_path / "users", person("ann", "a"), person("otp-ann", "o"))
    for others in (users, None):
        asked = Authenticator(
            recognise=Known(), clock=FixedClock(NOW), users=others, enrolment_passwords=passwords(GOOD)
        )
        found = await asked.authenticate(request(None, basic("otp-a", "secret")))
        assert found.proof is Proof.ENROLMENT_PASSWORD
        assert await asked.challenges() == ('Basic realm="opencertd"',)
        with pytest.raises(Refusal):
            await asked.authenticate(request(None, basic("ann", "secret")))
    both = Authenticator(recognise=Known(), clock=FixedClock(NOW), users=users, enrolment_passwords=passwords(GOOD))
    assert (await both.authenticate(request(None, basic("ann", "a")))).proof is Proof.PASSWORD
    assert (await both.authenticate(request(None, basic("otp-ann", "o")))).proof is Proof.PASSWORD, "was there before"


@pytest_twisted.ensureDeferred
async def test_where_there_are_none_nothing_is_offered_and_the_store_is_asked_once_a_second() -> None:
    shelf, clock = Shelf(), FixedClock(NOW)
    asked = Authenticator(
        recognise=Known(), clock=clock, enrolment_passwords=EnrolmentPasswords(shelf, key=KEY, clock=clock)
    )
    for _ in range(5):
        assert await asked.challenges() == ()
    shelf.kept["otp-a"] = GOOD
    clock.advance(timedelta(seconds=1))
    assert await asked.challenges() == ('Basic realm="opencertd"',)
    assert shelf.asked == 2


def test_words_are_new_each_time_and_hard_to_guess() -> None:
    made = [new_words() for _ in range(100)]
    assert len({name for name, _ in made}) == len({password for _, password in made}) == 100
    for name, password in made:
        assert name.startswith(PREFIX) and ":" not in name
        assert len(password.replace("-", "")) == 24, "five bits each"


def test_no_user_gets_such_a_name(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="otp-"):
        set_user(tmp_path / "users", "otp-ann", "a")


@pytest.mark.parametrize("name", ["otp-a\0", "otp-", "otp-\u00e4", "otp-" + "a" * 61, "otp-A"])
@pytest_twisted.ensureDeferred
async def test_no_store_is_asked_for_what_cannot_be_a_name(name: str) -> None:
    """PostgreSQL takes no NUL, and strangers would be answered by a 500."""
    shelf = Shelf(dataclasses.replace(GOOD, id=name, digest=digest_of(KEY, name, "secret")))
    asked = EnrolmentPasswords(shelf, key=KEY, clock=FixedClock(NOW))
    assert await refused(asked, name, "secret") == "user name or password is wrong"
