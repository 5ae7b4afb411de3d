"""What a proxy passes on is judged as the listener judges: the same certificates fail, and the same pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from opencertd.errors import Refusal, RefusalKind
from opencertd.web.client_trust import ClientTrust

from .pki import CLIENT, SERVER, Pair, build, issuing, namesake, root
from .test_tls import BAD

TRUST = ClientTrust(lambda: (issuing().certificate,))


@pytest.mark.parametrize("usages", [(), (CLIENT,), (CLIENT, SERVER)])
def test_a_certificate_of_ours_passes(usages: tuple[object, ...]) -> None:
    TRUST.check(build("good", issuing(), usages=usages).der)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BAD)
def test_what_fails_in_a_handshake_fails_here(kind: str) -> None:
    bad: Callable[[], Pair] = BAD[kind]
    with pytest.raises(Refusal) as caught:
        TRUST.check(bad().der)
    assert caught.value.kind is RefusalKind.UNAUTHENTICATED


def test_each_refusal_says_why() -> None:
    for kind, words in {
        "expired": "expired",
        "not yet valid": "not yet valid",
        "foreign CA of the same name": "signature failure",
        "self-signed": "self",
        "not for clients": "not for TLS clients",
    }.items():
        with pytest.raises(Refusal, match=words):
            TRUST.check(BAD[kind]().der)


def test_what_cannot_be_read_is_refused() -> None:
    for data in (b"", b"x", b"\x30\x03\x02\x01\x01", build("good", issuing()).der[:-1]):
        with pytest.raises(Refusal) as caught:
            TRUST.check(data)
        assert caught.value.kind is RefusalKind.UNAUTHENTICATED


def test_a_client_may_send_what_is_between_it_and_an_anchor() -> None:
    below = build("good", issuing(), usages=(CLIENT,))
    trust = ClientTrust(lambda: (root().certificate,))
    trust.check(below.der, (issuing().der,))
    for others in ((), (namesake().der,), (b"x",)):
        with pytest.raises(Refusal):
            trust.check(below.der, others)


def test_a_client_cannot_bring_its_own_anchor() -> None:
    own = build("Own", ca=True)
    with pytest.raises(Refusal):
        TRUST.check(build("self", own, usages=(CLIENT,)).der, (own.der,))


def test_no_end_entity_is_an_issuer() -> None:
    middle = build("leaf", issuing(), usages=(CLIENT,))
    with pytest.raises(Refusal):
        TRUST.check(build("sub", middle, usages=(CLIENT,)).der, (middle.der,))


def test_anchors_are_those_of_the_moment() -> None:
    anchors = [issuing().certificate]
    trust = ClientTrust(lambda: tuple(anchors))
    good = build("good", issuing(), usages=(CLIENT,), life=timedelta(hours=3))
    trust.check(good.der)
    anchors[:] = [namesake().certificate]
    with pytest.raises(Refusal):
        trust.check(good.der)
    trust.check(build("other", namesake(), usages=(CLIENT,)).der)
