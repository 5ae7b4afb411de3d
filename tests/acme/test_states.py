"""What an order is follows from its authorizations and the time, by one table."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta

import pytest

from opencertd.acme.states import (
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
    Problem,
    authorization_status,
    challenge_types,
    failures,
    order_status,
    shown_challenges,
)
from opencertd.model.names import parse_dns_name, parse_ip_address

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A = AuthorizationStatus
C = ChallengeStatus
LOST = (A.INVALID, A.DEACTIVATED, A.EXPIRED, A.REVOKED)


def challenge(status: C = C.PENDING, kind: str = "http-01", error: Problem | None = None) -> Challenge:
    return Challenge(kind, "z", kind, "t", status, error=error)


def authorization(status: A, expires: datetime = NOW + HOUR, *challenges: Challenge) -> Authorization:
    name = parse_dns_name("a.example")
    return Authorization("z", "a", name, False, status, expires, challenges or (challenge(), challenge(kind="dns-01")))


def order(*authorizations: Authorization, status: OrderStatus = OrderStatus.PENDING) -> Order:
    names = (parse_dns_name("a.example"),)
    return Order("o", "a", "default", names, status, NOW + HOUR, NOW, authorizations)


@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(A, 2)))
def test_an_unfinished_order_is_what_its_authorizations_make_of_it(pair: tuple[A, A]) -> None:
    if any(status in LOST for status in pair):
        expected = OrderStatus.INVALID
    elif pair == (A.VALID, A.VALID):
        expected = OrderStatus.READY
    else:
        expected = OrderStatus.PENDING
    assert order_status(order(*map(authorization, pair)), NOW) is expected


@pytest.mark.parametrize("status", [OrderStatus.PROCESSING, OrderStatus.VALID, OrderStatus.INVALID])
def test_a_finalized_order_stays_what_it_is(status: OrderStatus) -> None:
    assert order_status(order(authorization(A.DEACTIVATED), status=status), NOW + 2 * HOUR) is status


def test_an_unfinished_order_is_invalid_from_the_moment_it_expires() -> None:
    long = authorization(A.VALID, NOW + 9 * HOUR)
    almost = NOW + HOUR - timedelta(seconds=1)
    assert order_status(order(long), almost) is OrderStatus.READY
    assert order_status(order(long), NOW + HOUR) is OrderStatus.INVALID


def test_an_authorization_that_expires_takes_its_order_with_it() -> None:
    assert order_status(order(authorization(A.VALID, NOW)), NOW) is OrderStatus.INVALID
    assert order_status(order(authorization(A.PENDING, NOW)), NOW) is OrderStatus.INVALID


@pytest.mark.parametrize(
    ("stored", "later"),
    [(A.PENDING, A.INVALID), (A.VALID, A.EXPIRED), *((status, status) for status in LOST)],
)
def test_expiry_of_an_authorization(stored: A, later: A) -> None:
    assert authorization_status(authorization(stored), NOW) is stored
    assert authorization_status(authorization(stored), NOW + HOUR) is later


def test_after_settling_only_tried_challenges_are_shown() -> None:
    tried, untried = challenge(C.VALID), challenge(kind="dns-01")
    assert shown_challenges(authorization(A.PENDING, NOW, tried, untried)) == (tried, untried)
    assert shown_challenges(authorization(A.VALID, NOW, tried, untried)) == (tried,)
    assert shown_challenges(authorization(A.DEACTIVATED, NOW, untried)) == (untried,)


def test_failures_are_those_of_failed_challenges() -> None:
    problem = Problem("dns", "no such name")
    failed = authorization(A.INVALID, NOW, challenge(C.INVALID, error=problem), challenge(kind="dns-01"))
    assert failures(order(failed, authorization(A.VALID))) == ((failed, problem),)
    assert failures(order(dataclasses.replace(failed, status=A.DEACTIVATED))) == ()


def test_a_wildcard_is_proven_by_dns_only() -> None:
    offered = ("http-01", "dns-01", "tls-alpn-01")
    assert challenge_types(offered, parse_dns_name("*.a.test")) == ("dns-01",)
    assert challenge_types(offered, parse_dns_name("a.test")) == offered


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_is_never_proven_by_dns(address: str) -> None:
    offered = ("http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01")
    assert challenge_types(offered, parse_ip_address(address)) == ("http-01", "tls-alpn-01")
