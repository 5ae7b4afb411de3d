"""A password counts when its hash is in the file, and guessing gets slower."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, execute

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.names import parse_dns_name
from opencertd.web.throttle import MOST_KEYS, MemoryFailures, Throttle
from opencertd.web.users import MOST_WAITING, Users, parse_users, read_users, set_user

from .people import NOW, person, users_of, write_users

SECOND = timedelta(seconds=1)


class Counting:
    """Runs things inline and counts what was run."""

    def __init__(self) -> None:
        self.hashed = 0

    def __call__(self, what: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.hashed += what.__name__ == "_is_right"
        return execute(what, *arguments)


async def refused(users: Users, name: str, password: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await users.check_password(name, password)
    return caught.value


@pytest_twisted.ensureDeferred
async def test_the_right_password_is_taken_and_no_other(tmp_path: Path) -> None:
    users = users_of(tmp_path / "u", person("ann", "pass:wörd"), person("bob", "b"))
    assert (await users.check_password("ann", "pass:wörd")).name == "ann"
    for name, password in [("ann", "b"), ("bob", "pass:wörd"), ("ann", ""), ("Ann", "pass:wörd"), ("", "")]:
        assert (await refused(users, name, password)).kind is RefusalKind.UNAUTHENTICATED


@pytest_twisted.ensureDeferred
async def test_an_unknown_user_costs_a_hash_and_gets_the_same_words(tmp_path: Path) -> None:
    thread = Counting()
    users = users_of(tmp_path / "u", person("ann", "a"), in_thread=thread)
    unknown, wrong = await refused(users, "nobody", "a"), await refused(users, "ann", "x")
    assert (unknown.kind, unknown.detail) == (wrong.kind, wrong.detail)
    assert thread.hashed == 2


def test_the_decoy_costs_what_a_real_hash_costs(tmp_path: Path) -> None:
    from opencertd.web.users import _DECOY

    set_user(tmp_path / "u", "ann", "a")
    real = read_users(tmp_path / "u")["ann"].argon2
    assert argon2.extract_parameters(_DECOY) == argon2.extract_parameters(real)
    assert argon2.extract_parameters(real).type is argon2.Type.ID


@pytest_twisted.ensureDeferred
async def test_a_right_password_is_hashed_once_in_five_minutes(tmp_path: Path) -> None:
    clock, thread = FixedClock(NOW), Counting()
    users = users_of(tmp_path / "u", person("ann", "a"), clock=clock, in_thread=thread)
    for _ in range(3):
        await users.check_password("ann", "a")
    assert thread.hashed == 1
    clock.advance(timedelta(minutes=5))
    await users.check_password("ann", "a")
    assert thread.hashed == 2


@pytest_twisted.ensureDeferred
async def test_what_is_remembered_ends_with_a_new_password(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    users = users_of(tmp_path / "u", person("ann", "old"), clock=clock)
    await users.check_password("ann", "old")
    write_users(tmp_path / "u", person("ann", "new"))
    clock.advance(SECOND)
    assert (await users.check_password("ann", "new")).name == "ann"
    assert (await refused(users, "ann", "old")).kind is RefusalKind.UNAUTHENTICATED
    write_users(tmp_path / "u")
    clock.advance(SECOND)
    assert (await refused(users, "ann", "new")).kind is RefusalKind.UNAUTHENTICATED


@pytest_twisted.ensureDeferred
async def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "u", FixedClock(NOW)
    users = users_of(path, person("ann", "a"), clock=clock)
    for spoil in (lambda: path.write_text("{"), lambda: path.chmod(0o644), path.unlink):
        spoil()
        clock.advance(SECOND)
        assert (await users.find("ann")) is not None
    write_users(path, person("bob", "b"))
    clock.advance(SECOND)
    assert (await users.find("ann"), (await users.check_password("bob", "b")).name) == (None, "bob")


@pytest_twisted.ensureDeferred
async def test_guessing_gets_slower_and_a_good_password_that_is_remembered_does_not(tmp_path: Path) -> None:
    clock, thread = FixedClock(NOW), Counting()
    users = users_of(tmp_path / "u", person("ann", "a"), person("bob", "b"), clock=clock, in_thread=thread)
    await users.check_password("ann", "a")
    kinds = [(await refused(users, "ann", "x")).kind for _ in range(6)]
    assert kinds == [RefusalKind.UNAUTHENTICATED] * 5 + [RefusalKind.RATE_LIMITED]
    assert thread.hashed == 6
    assert (await refused(users, "ann", "y")).retry_after == 1
    assert (await users.check_password("ann", "a")).name == "ann"
    assert (await users.check_password("bob", "b")).name == "bob"
    clock.advance(SECOND)
    assert (await refused(users, "ann", "y")).kind is RefusalKind.UNAUTHENTICATED


@pytest_twisted.ensureDeferred
async def test_what_is_remembered_tells_nobody_who_has_to_wait_which_guess_is_right(tmp_path: Path) -> None:
    users = users_of(tmp_path / "u", person("ann", "a"))
    await users.check_password("ann", "a", "192.0.2.1")
    for _ in range(50):
        with pytest.raises(Refusal):
            await users.check_password("ann", "x", "192.0.2.66")
    with pytest.raises(Refusal) as caught:
        await users.check_password("ann", "a", "192.0.2.66")
    assert caught.value.kind is RefusalKind.RATE_LIMITED
    assert (await users.check_password("ann", "a", "192.0.2.1")).name == "ann", "others are not kept out"


@pytest_twisted.ensureDeferred
async def test_one_who_knows_the_password_is_let_in_again_after_the_wait(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    users = users_of(tmp_path / "u", person("ann", "a"), clock=clock)
    await users.check_password("ann", "a")
    for _ in range(50):
        await refused(users, "ann", "x")
    for _ in range(3):  # however often it asks meanwhile
        assert (await refused(users, "ann", "a")).kind is RefusalKind.RATE_LIMITED
        clock.advance(timedelta(seconds=0.3))
    clock.advance(SECOND)
    assert (await users.check_password("ann", "a")).name == "ann"


@pytest_twisted.ensureDeferred
async def test_waiting_doubles_up_to_a_minute_and_is_forgotten() -> None:
    clock = FixedClock(NOW)
    throttle = Throttle(clock)
    waits = []
    for _ in range(14):
        await throttle.failed("ann")
        waits.append(await wait(throttle, "ann"))
        clock.advance(timedelta(seconds=waits[-1] or 0))
        assert await wait(throttle, "ann") is None
    assert waits == [None] * 4 + [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    await throttle.failed("ann")
    clock.advance(timedelta(minutes=16))
    await throttle.check("ann")
    await throttle.failed("ann")
    assert await wait(throttle, "ann") is None


async def wait(throttle: Throttle, name: str, address: str = "") -> int | None:
    """Seconds that whoever is called that has to wait there."""
    try:
        await throttle.check(name, address)
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.RATE_LIMITED
        return refusal.retry_after
    return None


@pytest_twisted.ensureDeferred
async def test_who_guesses_at_one_place_stops_nobody_elsewhere() -> None:
    throttle = Throttle(FixedClock(NOW))
    for _ in range(8):
        await throttle.failed("ann", "192.0.2.1")
    assert await wait(throttle, "ann", "192.0.2.1") == 8
    assert await wait(throttle, "ann", "192.0.2.2") is None
    assert await wait(throttle, "bob", "192.0.2.1") is None


@pytest_twisted.ensureDeferred
async def test_a_user_is_not_guessed_from_many_places_nor_many_users_from_one() -> None:
    throttle = Throttle(FixedClock(NOW))
    for number in range(20):
        await throttle.failed("ann", f"192.0.2.{number}")
        await throttle.failed(f"user-{number}", "2001:db8::1")
    assert await wait(throttle, "ann", "198.51.100.1") == 1
    assert await wait(throttle, "bob", "2001:db8::ffff:2") == 1, "of one network"
    assert await wait(throttle, "bob", "2001:db8:0:1::1") is None
    await throttle.succeeded("ann", "198.51.100.1")
    assert await wait(throttle, "ann", "198.51.100.1") is None, "a right password ends the row"


@pytest_twisted.ensureDeferred
async def test_only_so_many_names_are_counted() -> None:
    kept = MemoryFailures()
    throttle = Throttle(FixedClock(NOW), kept)
    for number in range(MOST_KEYS // 3 + 50):
        await throttle.failed(f"{number}" + "x" * 5000, f"192.0.2.{number % 200}")
    assert len(kept.kept) <= MOST_KEYS
    assert max(map(len, kept.kept)) == 40


@pytest_twisted.ensureDeferred
async def test_few_are_hashed_at_once_and_the_others_wait_or_are_sent_away(tmp_path: Path) -> None:
    running: list[Deferred[bool]] = []

    def thread(what: Any, *arguments: Any) -> Deferred[Any]:
        if what.__name__ != "_is_right":
            return execute(what, *arguments)
        running.append(Deferred())
        return running[-1]

    users = users_of(tmp_path / "u", person("ann", "a"), in_thread=thread, at_once=2)
    asked = [Deferred.fromCoroutine(users.check_password("ann", "a")) for _ in range(5)]
    assert len(running) == 2
    asked[0].cancel()
    with pytest.raises(CancelledError):
        await asked[0]
    assert len(running) == 2, "a hang-up must not free a place while its hash still runs"
    running[0].callback(True)
    assert len(running) == 2, "the others had only to wait for the same proof"
    assert [(await answer).name for answer in asked[2:]] == ["ann"] * 3
    running[1].callback(True)
    assert (await asked[1]).name == "ann"

    flood = [Deferred.fromCoroutine(users.check_password(f"u{number}", "x")) for number in range(MOST_WAITING + 2)]
    assert (await refused(users, "late", "x")).kind is RefusalKind.RATE_LIMITED
    while running:
        deferred = running.pop()
        if not deferred.called:
            deferred.callback(False)
    for answer in flood:
        answer.addErrback(lambda failure: failure.trap(Refusal))
        await answer


@pytest_twisted.ensureDeferred
async def test_passwords_are_hashed_in_a_thread(tmp_path: Path) -> None:
    users = Users(write_users(tmp_path / "u", person("ann", "a")), clock=FixedClock(NOW))
    answer = Deferred.fromCoroutine(users.check_password("ann", "a"))
    assert not answer.called
    assert (await answer).name == "ann"


def test_set_user_writes_what_read_users_reads(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    set_user(path, "ann", "first")
    set_user(path, "bob", "b", digest=True, names=("*.example.com", "192.0.2.1", "host.test"))
    set_user(path, "ann", "second")
    users = read_users(path)
    assert set(users) == {"ann", "bob"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["users.json"]
    assert users["ann"].digests == {}
    assert set(users["bob"].digests) == {"MD5", "SHA-256"}
    assert users["ann"].grant.covers(parse_dns_name("any.test"))
    assert users["bob"].grant.covers(parse_dns_name("a.example.com"))
    assert not users["bob"].grant.covers(parse_dns_name("a.example.org"))
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        argon2.PasswordHasher().verify(users["ann"].argon2, "first")
    assert argon2.PasswordHasher().verify(users["ann"].argon2, "second")
    assert b"second" not in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "password", "names"),
    [
        ("a:b", "x", ("*",)),
        ("a\nb", "x", ("*",)),
        ("a\x00", "x", ("*",)),
        ("", "x", ("*",)),
        ("a" * 256, "x", ("*",)),
        ("ann", "", ("*",)),
        ("ann", "x", ("*.",)),
        ("ann", "x", ("a.*.b",)),
        ("ann", "x", ("has space",)),
    ],
)
def test_set_user_refuses_what_cannot_be(tmp_path: Path, name: str, password: str, names: tuple[str, ...]) -> None:
    with pytest.raises(StartError):
        set_user(tmp_path / "u", name, password, names=names)
    assert list(tmp_path.iterdir()) == []


def test_set_user_leaves_a_broken_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "u"
    path.touch(0o600)
    path.write_text("{}")
    with pytest.raises(StartError, match="broken"):
        set_user(path, "ann", "a")
    assert path.read_text() == "{}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = write_users(tmp_path / "u", person("ann", "a"))
    path.chmod(mode)
    with pytest.raises(StartError, match=f"chmod 600 {path}"):
        Users(path, clock=FixedClock(NOW))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"users": []}', '{"users": {"a": 1}}', '{"users": {"a": {}}}',
     '{"users": {"a": {"argon2": "$argon2i$x"}}}', '{"users": {"a": {"argon2": "$argon2id$", "names": "*"}}}',
     '{"users": {"a": {"argon2": "$argon2id$", "digest": {"MD5": 1}}}}', "[" * 100_000, "\xff"],
)  # fmt: skip
def test_broken_files_are_refused_in_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "u"
    path.touch(0o600)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(StartError, match="broken"):
        read_users(path)


def test_files_that_are_not_there_are_refused_in_words(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StartError):
            read_users(path)


def test_the_file_is_what_its_description_says() -> None:
    text = json.dumps({"users": {"NAME": {"argon2": "$argon2id$v", "names": ["a.test"], "digest": {"MD5": "00"}}}})
    user = parse_users(text.encode())["NAME"]
    assert (user.argon2, user.names, user.digests) == ("$argon2id$v", ("a.test",), {"MD5": "00"})


@pytest_twisted.ensureDeferred
async def test_digest_is_offered_when_every_user_has_its_hashes(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    users = users_of(tmp_path / "u", person("ann", "a", digest=True), person("bob", "b"), clock=clock)
    assert not await users.offer_digest()
    write_users(tmp_path / "u", person("ann", "a", digest=True), person("bob", "b", digest=True))
    clock.advance(SECOND)
    assert await users.offer_digest()
    write_users(tmp_path / "u")
    clock.advance(SECOND)
    assert not await users.offer_digest()
