"""RFC 8555 §8, §10.2 and §11.2: challenges, how they are validated, and from where."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from opencertd.acme.jwk import parse_jwk
from opencertd.acme.orders import OrderTerms
from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.perspectives import Perspective, SeveralPerspectives
from opencertd.validation.resolver import DnsResolver, DnsServer, LookupFailed
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind
from tests import dns_server
from tests.acme.conformance.people import authorization, pending, registered
from tests.acme.rig import START, Client, Reply, Rig
from tests.acme.signing import b64, jwk_of, rsa_key, thumbprint_of
from tests.conformance import shows
from tests.validation.servers import FakeResolver, listening, site
from tests.validation.test_http01 import ANSWER, LOOPBACK, PATH, good_site, question, validator

ABSENT = FailedProof(FailureKind.DNS, "no record yet")
SECOND = timedelta(seconds=1)
ALL = OrderTerms("default", challenges=("http-01", "dns-01", "tls-alpn-01"))


async def failing(patience: timedelta = 40 * SECOND) -> tuple[Rig, Client, Reply, str]:
    """A client whose challenge has failed once: its order, and the challenge's URL."""
    rig = Rig()
    rig.work._patience = patience
    rig.validator.verdicts["a.example"] = ABSENT
    client = await registered(rig)
    order, challenge = await pending(client)
    await client.post(challenge["url"], {})
    assert await rig.work_off() == 1
    return rig, client, order, challenge["url"]


@shows("8555 §8/1")
async def test_8_when_it_was_validated() -> None:
    client = await registered()
    order, challenge = await pending(client)
    await client.post(challenge["url"], {})
    await client.rig.work_off()
    (shown,) = (await authorization(client, order))["challenges"]
    assert shown["status"] == "valid"
    assert datetime.fromisoformat(shown["validated"]) == START


@shows("8555 §8/3")
async def test_8_why_it_failed() -> None:
    _, client, order, url = await failing(timedelta(0))
    shown = (await client.post(url)).json
    assert (shown["status"], shown["error"]["detail"]) == ("invalid", "no record yet")
    assert (await authorization(client, order))["challenges"] == [shown]


@shows("8555 §8.1/1")
async def test_8_1_leading_zeros_do_not_count() -> None:
    key = rsa_key()
    jwk = jwk_of(key)
    exponent = b64(b"\0" + (65537).to_bytes(3, "big"))
    assert parse_jwk({**jwk, "e": exponent}).thumbprint == parse_jwk(jwk).thumbprint == thumbprint_of(key)
    one, other = Client(rig := Rig(), key), Client(rig, key)
    await one.register()
    again = await other.post("/new-account", {}, jwk={**jwk, "e": exponent})
    assert (again.status, again.location) == (200, one.kid)


@shows("8555 §8.2/1")
async def test_8_2_is_tried_again() -> None:
    rig, client, order, _ = await failing()
    del rig.validator.verdicts["a.example"]
    rig.clock.advance(SECOND)
    assert await rig.work_off() == 1
    assert (await authorization(client, order))["status"] == "valid"


@shows("8555 §8.2/2")
async def test_8_2_tells_its_state() -> None:
    _, client, _, url = await failing()
    shown = await client.post(url)
    assert shown.json["status"] == "processing" and shown.json["error"]["detail"] == "no record yet"
    assert int(shown.headers["retry-after"][0]) >= 1


@shows("8555 §8.2/3")
async def test_8_2_shows_each_attempt() -> None:
    rig, client, _, url = await failing()
    for word in ("second", "third"):
        rig.validator.verdicts["a.example"] = FailedProof(FailureKind.INCORRECT_RESPONSE, word)
        rig.clock.advance(2 * SECOND)
        assert await rig.work_off() == 1
        assert (await client.post(url)).json["error"]["detail"] == word


@shows("8555 §8.2/4")
async def test_8_2_says_when_to_look_again() -> None:
    rig, client, _, url = await failing(timedelta(minutes=30))
    for seconds in (0, 1, 2, 5, 9, 30, 70, 200, 500):
        rig.clock.advance(seconds * SECOND)
        await rig.work_off()
        asked = len(rig.validator.asked)
        wait = int((await client.post(url)).headers["retry-after"][0])
        assert 1 <= wait <= 60
        rig.clock.advance(wait * SECOND)
        await rig.work_off()
        assert len(rig.validator.asked) == asked + 1, seconds


@shows("8555 §8.2/5")
async def test_8_2_tries_again_when_asked_to() -> None:
    rig, client, order, url = await failing(timedelta(hours=1))
    for _ in range(6):
        rig.clock.advance(40 * SECOND)
        await rig.work_off()
    del rig.validator.verdicts["a.example"]
    assert await rig.work_off() == 0
    await client.post(url, {})
    rig.clock.advance(SECOND)
    assert await rig.work_off() == 1
    assert (await authorization(client, order))["status"] == "valid"


@shows("8555 §8.2/6")
async def test_8_2_but_not_ever_faster() -> None:
    rig, client, _, url = await failing(timedelta(hours=1))
    before = len(rig.validator.asked)
    for _ in range(50):
        await client.post(url, {})
        await rig.work_off()
        rig.clock.advance(SECOND / 10)
    assert len(rig.validator.asked) - before <= 5


async def tokens(kind: str) -> set[str]:
    client = await registered(Rig(terms=ALL))
    return {(await pending(client, f"n{count}.example", kind))[1]["token"] for count in range(20)}


def check_random(found: set[str]) -> None:
    """128 bits are 22 digits at least; no two agree in any third of them, as counters would."""
    assert len(found) == 20 and all(len(token) >= 22 for token in found)
    for place in (0, 8, 16):
        assert len({token[place : place + 6] for token in found}) == 20


def check_letters(found: set[str]) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", token) for token in found)


@shows("8555 §8.3/1")
async def test_8_3_a_random_token() -> None:
    check_random(await tokens("http-01"))


@shows("8555 §8.3/2")
async def test_8_3_a_token_for_urls() -> None:
    check_letters(await tokens("http-01"))


class Dialled:
    """A reactor that connects nowhere, and remembers where to."""

    def __init__(self) -> None:
        from twisted.internet.testing import MemoryReactorClock

        self.reactor: Any = MemoryReactorClock()

    def places(self) -> list[tuple[str, int]]:
        return [(host, port) for host, port, *_ in self.reactor.tcpClients]


def dialled(kind: str) -> list[tuple[str, int]]:
    """Where a validator with default settings connects to for a name at 192.0.2.7."""
    from twisted.internet.defer import Deferred

    watched = Dialled()
    made = Validator(resolver=FakeResolver({"a.test": ["192.0.2.7"]}), reactor=watched.reactor)
    asked = ControlQuestion(kind, AltName(AltNameKind.DNS, "a.test"), "token", "token.x")
    Deferred.fromCoroutine(made.validate(asked)).addErrback(lambda _: None)
    watched.reactor.advance(0)
    return watched.places()


@shows("8555 §8.3/3")
def test_8_3_at_port_80() -> None:
    assert dialled("http-01") == [("192.0.2.7", 80)]


@shows("8555 §8.3/4")
async def test_8_3_white_space_at_the_end() -> None:
    web = good_site()
    for end in (b"", b"\n", b" \t\r\n\n"):
        web.pages[PATH] = lambda _, end=end: ANSWER + end
        with listening(site(web)) as port:
            assert await validator(port).validate(question()) is None


@shows("8555 §8.3/5")
async def test_8_3_redirects() -> None:
    web = good_site()
    with listening(site(web)) as port:
        web.redirect(f"a.test:{port}{PATH}", f"http://b.test:{port}{PATH}")
        web.pages[f"b.test:{port}{PATH}"] = lambda _: ANSWER
        assert await validator(port).validate(question()) is None
    assert [host for host, *_ in web.seen] == [f"a.test:{port}", f"b.test:{port}"]


@shows("8555 §8.4/1")
async def test_8_4_a_random_token() -> None:
    check_random(await tokens("dns-01"))


@shows("8555 §8.4/2")
async def test_8_4_a_token_for_urls() -> None:
    check_letters(await tokens("dns-01"))


@shows("8555 §10.2/1")
async def test_10_2_from_several_points() -> None:
    """Each perspective looks for itself, and one that sees something else is heard."""
    good = good_site()
    with listening(site(good)) as port:
        here = validator(port)
        fooled = Validator(
            resolver=FakeResolver({"a.test": ["127.0.0.2"]}), reactor=here._reactor, http01_port=port, allow=LOOPBACK
        )
        several = SeveralPerspectives(here, [Perspective("elsewhere", fooled)], quorum=1)
        assert await here.validate(question()) is None
        failed = await several.validate(question())
    assert isinstance(failed, FailedProof) and "elsewhere" in failed.detail


@shows("8555 §11.2/2")
async def test_11_2_dnssec() -> None:
    """With `dnssec` set, an answer that the resolver did not verify counts for nothing."""
    from twisted.internet import reactor

    with dns_server.DnsServer() as zone:
        zone.add("_acme-challenge.a.test", "TXT", "x")
        made = DnsResolver(reactor, DnsServer("127.0.0.1", zone.port), lifetime=3.0, dnssec=True)
        try:
            with pytest.raises(LookupFailed, match="DNSSEC"):
                await made.texts("_acme-challenge.a.test")
        finally:
            made.stop()
