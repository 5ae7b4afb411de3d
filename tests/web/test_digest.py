"""Digest as RFC 7616 has it, each answer good once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.web.digest import (
    Digest,
    DigestCredentials,
    StaleNonce,
    expected_response,
    parse_credentials,
)
from opencertd.web.throttle import Failures, MemoryFailures, Throttle
from opencertd.web.users import DIGEST_ALGORITHMS, digest_secret

from .people import NOW, Used, person, users_of

KEY = b"k" * 32
TARGET = "/.well-known/est/simpleenroll?x=1"


def escape(text: str) -> str:
    """As a quoted-string has it (RFC 9110 §5.6.4)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


class Setting:
    def __init__(self, directory: Path) -> None:
        self.clock = FixedClock(NOW)
        self.used = Used()
        ann, bob = person('a"n\\n', "pässword", digest=True), person("bob", "b")
        self.users = users_of(directory / "u", ann, bob, clock=self.clock)
        self.digest = self.worker()

    def worker(self, key: bytes = KEY) -> Digest:
        return Digest(users=self.users, key=key, redeem=self.used.redeem, clock=self.clock)

    def nonce(self, digest: Digest | None = None) -> str:
        found = re.search(r'nonce="([^"]+)"', (digest or self.digest).challenges()[0])
        assert found
        return found[1]

    def answer(self, **changes: Any) -> str:
        """What a client sends, right unless changed."""
        name, password = changes.pop("name", 'a"n\\n'), changes.pop("password", "pässword")
        algorithm, method = changes.pop("algorithm", "SHA-256"), changes.pop("method", "POST")
        nonce = changes.pop("nonce", None) or self.nonce()
        values = {"username": name, "realm": "opencertd", "nonce": nonce, "uri": TARGET, "cnonce": "c"} | changes
        credentials = DigestCredentials(name, nonce, values["uri"], "", values.get("nc", "00000001"), "c", algorithm)
        secret = digest_secret(algorithm, name, password)
        values.setdefault("response", expected_response(secret, credentials, method))
        quoted = ", ".join(f'{key}="{escape(value)}"' for key, value in values.items() if key != "nc")
        text = f"{quoted}, algorithm={algorithm}, qop=auth, nc={values.get('nc', '00000001')}"
        return text.encode().decode("latin-1")

    async def refused(self, text: str, *, method: str = "POST", target: str = TARGET) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.digest.verify(text, method, target)
        assert caught.value.kind is RefusalKind.UNAUTHENTICATED
        return caught.value


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm: str, response: str) -> None:
    secret = DIGEST_ALGORITHMS[algorithm](b"Mufasa:http-auth@example.org:Circle of Life").hexdigest()
    credentials = DigestCredentials(
        username="Mufasa",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        uri="/dir/index.html",
        response="",
        nonce_count="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        algorithm=algorithm,
    )
    assert expected_response(secret, credentials, "GET") == response


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest_twisted.ensureDeferred
async def test_a_right_answer_is_taken_once_by_any_worker(setting: Setting, algorithm: str) -> None:
    text = setting.answer(algorithm=algorithm)
    assert (await setting.worker().verify(text, "POST", TARGET)).name == 'a"n\\n'
    assert isinstance(await setting.refused(text), StaleNonce)
    assert set(setting.used.keys.values()) == {NOW + timedelta(minutes=5)}


@pytest_twisted.ensureDeferred
async def test_each_count_of_a_nonce_is_good_once_in_any_order(setting: Setting) -> None:
    nonce = setting.nonce()
    for count in ("00000002", "00000001", "0000000a"):
        await setting.digest.verify(setting.answer(nonce=nonce, nc=count), "POST", TARGET)
    for count in ("00000002", "0000000A"):
        assert isinstance(await setting.refused(setting.answer(nonce=nonce, nc=count)), StaleNonce)


@pytest_twisted.ensureDeferred
async def test_old_and_foreign_nonces_are_stale_only_with_the_right_password(setting: Setting) -> None:
    old = setting.nonce()
    setting.clock.advance(timedelta(minutes=5))
    foreign = setting.nonce(setting.worker(key=b"z" * 32))
    for nonce in (old, foreign, "AAAA", "=?=", "x" * 44, "ä"):
        assert isinstance(await setting.refused(setting.answer(nonce=nonce)), StaleNonce)
        await setting.users.throttle.succeeded('a"n\\n')
        assert not isinstance(await setting.refused(setting.answer(nonce=nonce, password="x")), StaleNonce)
    assert setting.used.keys == {}


@pytest.mark.parametrize(
    "change",
    [
        {"password": "wrong"},
        {"name": "nobody"},
        {"name": "bob", "password": "b"},
        {"response": ""},
        {"response": "0" * 64},
        {"realm": "other"},
        {"uri": "/other"},
        {"nc": "1"},
        {"nc": "zzzzzzzz"},
        {"cnonce": ""},
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_answers_are_refused_and_write_nothing(setting: Setting, change: dict[str, str]) -> None:
    assert not isinstance(await setting.refused(setting.answer(**change)), StaleNonce)
    assert setting.used.keys == {}


@pytest_twisted.ensureDeferred
async def test_an_answer_is_for_one_method_and_one_target(setting: Setting) -> None:
    text = setting.answer()
    await setting.refused(text, method="GET")
    await setting.refused(text, target="/.well-known/est/simpleenroll")
    await setting.refused(text, target="/.well-known/est/simpleenroll?x=2")
    absolute = setting.answer(uri=f"https://ca.test:5001{TARGET}")
    assert await setting.digest.verify(absolute, "POST", TARGET)
    assert await setting.digest.verify(text, "POST", TARGET)


@pytest_twisted.ensureDeferred
async def test_the_algorithm_is_the_one_the_hash_was_made_for(setting: Setting) -> None:
    """The SHA-256 hash of a user is no MD5 hash, and the response of one no response of the other."""
    text = setting.answer(algorithm="SHA-256").replace("algorithm=SHA-256", "algorithm=MD5")
    await setting.refused(text)
    for name in ("SHA-256-sess", "MD5-sess", "SHA-512-256", "token"):
        await setting.refused(setting.answer().replace("algorithm=SHA-256", f"algorithm={name}"))
    without = setting.answer(algorithm="MD5").replace(", algorithm=MD5", "")
    assert await setting.digest.verify(without, "POST", TARGET)


@pytest_twisted.ensureDeferred
async def test_guessing_is_throttled_with_the_passwords_of_basic(setting: Setting) -> None:
    for _ in range(5):
        await setting.refused(setting.answer(password="x"))
    for attempt in (
        setting.digest.verify(setting.answer(), "POST", TARGET),
        setting.users.check_password('a"n\\n', "x"),
    ):
        with pytest.raises(Refusal) as caught:
            await attempt
        assert caught.value.kind is RefusalKind.RATE_LIMITED


class SlowFailures(MemoryFailures):
    """Answers a little later, as a database does."""

    def failures(self, keys: Sequence[str]) -> Deferred[Mapping[str, Failures]]:
        return deferLater(reactor, 0.001, super().failures, keys)  # type: ignore[arg-type]

    def add_failure(self, keys: Sequence[str], now: datetime, forget: datetime) -> Deferred[None]:
        return deferLater(reactor, 0.001, super().add_failure, keys, now, forget)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_many_guesses_at_once_are_not_all_judged(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.users.throttle = Throttle(setting.clock, SlowFailures())
    guesses = [setting.answer(password=f"guess {number}") for number in range(200)]
    deeds = [Deferred.fromCoroutine(setting.digest.verify(text, "POST", TARGET)) for text in guesses]
    outcomes = [outcome.value.kind for _, outcome in await DeferredList(deeds, consumeErrors=True)]
    assert outcomes.count(RefusalKind.UNAUTHENTICATED) < 10
    assert outcomes.count(RefusalKind.UNAUTHENTICATED) + outcomes.count(RefusalKind.RATE_LIMITED) == len(guesses)


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_away_is_not_a_used_nonce(setting: Setting) -> None:
    async def away(key: str, expires: datetime) -> None:
        raise Refusal(RefusalKind.UNAVAILABLE, "no store")

    digest = Digest(users=setting.users, key=KEY, redeem=away, clock=setting.clock)
    with pytest.raises(Refusal) as caught:
        await digest.verify(setting.answer(), "POST", TARGET)
    assert caught.value.kind is RefusalKind.UNAVAILABLE


def test_challenges_are_fresh_strongest_first_and_say_what_is_stale(setting: Setting) -> None:
    strong, weak = setting.digest.challenges()
    assert 'algorithm=SHA-256, nonce="' in strong
    assert 'algorithm=MD5, nonce="' in weak
    assert strong.startswith('Digest realm="opencertd", qop="auth", ')
    assert "stale" not in strong
    assert all(challenge.endswith(", stale=true") for challenge in setting.digest.challenges(stale=True))
    assert setting.nonce() != setting.nonce()
    assert len(setting.nonce()) <= 64  # what libest keeps


def test_names_beyond_ascii_come_by_the_extended_parameter() -> None:
    rest = ', realm="opencertd", nonce="n", uri="/", response="r", cnonce="c", nc=00000001, qop=auth'
    assert parse_credentials("username*=UTF-8''J%C3%A4s%C3%B8n" + rest).username == "Jäsøn"
    assert parse_credentials('username="J\xc3\xa4s"' + rest).username == "Jäs"
    assert parse_credentials('username="J\xe4s"' + rest).username == "Jäs"
    for both in ("username=\"a\", username*=UTF-8''a", "username*=latin1''a"):
        with pytest.raises(Refusal):
            parse_credentials(both + rest)


@given(st.one_of(st.text(st.characters(max_codepoint=255)), st.lists(st.sampled_from(
    ["username", "=", '"', ",", "\\", " ", "nonce", "uri=/", "nc=00000001", 'realm="opencertd"', "qop=auth", "é"]
)).map("".join)))  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_credentials(text)
    assert caught.value.kind is RefusalKind.UNAUTHENTICATED
