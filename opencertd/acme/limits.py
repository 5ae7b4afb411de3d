"""Who may do how much how often: what a request is charged, as values that the store weighs with the deed itself.

A limit of N in a time lets N happen at once, and then one each Nth of the time (GCRA, ITU-T I.371): there is no window
whose end is to be waited for.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from opencertd.acme.pausing import PauseTerms, Streak, Turn
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind


class Limit(enum.Enum):
    """What is limited; the values are the words in settings and in the store."""

    ACCOUNTS = "accounts_per_address"
    ORDERS = "orders_per_account"
    FAILURES = "failures_per_name"
    CERTIFICATES = "certificates_per_domain"


@dataclass(frozen=True)
class Rate:
    """`count` in each `period`."""

    count: int
    period: timedelta

    @property
    def interval(self) -> timedelta:
        """After so long one more is let through."""
        return self.period / self.count


class Toll(enum.Enum):
    """How a deed is charged."""

    PAY = "refused where nothing is left, else one is taken"
    LOOK = "refused where nothing is left; nothing is taken"
    OWE = "one is taken, if there is one"


@dataclass(frozen=True)
class Charge:
    """One limit that a deed meets. `key`: whose it is; `what`: what is limited, in words for a person."""

    limit: Limit
    key: str
    rate: Rate
    toll: Toll
    what: str


Weighed: TypeAlias = Charge | Streak
"""What a deed is weighed by before it is done."""


@dataclass(frozen=True)
class Limits:
    """`rates`: the limits that there are. `overrides`: other rates for single keys, None where nothing is limited.

    `pausing`: when clients that only fail are paused, None for never.
    """

    rates: Mapping[Limit, Rate] = field(default_factory=dict)
    overrides: Mapping[tuple[Limit, str], Rate | None] = field(default_factory=dict)
    pausing: PauseTerms | None = None

    def new_account(self, address: str | None) -> tuple[Charge, ...]:
        """For an account from that address; where it is not known, nothing is charged."""
        if address is None:
            return ()
        network = _network(address)
        return self._charge(Limit.ACCOUNTS, network, Toll.PAY, f"new accounts from {network}")

    def new_order(
        self, account_id: str, names: tuple[AltName, ...], to_prove: tuple[AltName, ...] = ()
    ) -> tuple[Weighed, ...]:
        """For an order; one that could not be proven or finalized now is not begun.

        `to_prove`: the names whose control is to be proven for it, if these are others.
        """
        charges = self._charge(Limit.ORDERS, account_id, Toll.PAY, "new orders of this account")
        for name in names:
            charges += self._failure(account_id, name, Toll.LOOK)
        paused = self._streak(Turn.ORDERED, account_id, to_prove or names)
        return paused + charges + self._certificates(names, Toll.LOOK)

    def failure(self, account_id: str, name: AltName) -> tuple[Weighed, ...]:
        """For a validation that failed in the end."""
        return self._failure(account_id, name, Toll.OWE) + self._streak(Turn.FAILED, account_id, (name,))

    def success(self, account_id: str, name: AltName) -> tuple[Weighed, ...]:
        """For a validation that succeeded."""
        return self._streak(Turn.PROVEN, account_id, (name,))

    def certificate(self, names: tuple[AltName, ...]) -> tuple[Charge, ...]:
        """For a certificate that is about to be issued."""
        return self._certificates(names, Toll.PAY)

    def _streak(self, turn: Turn, account_id: str, names: tuple[AltName, ...]) -> tuple[Weighed, ...]:
        if self.pausing is None:
            return ()
        proven = (AltName(name.kind, name.value.removeprefix("*.")) for name in names)
        return (Streak(self.pausing, turn, account_id, tuple(dict.fromkeys(proven))),)

    def _failure(self, account_id: str, name: AltName, toll: Toll) -> tuple[Charge, ...]:
        value = name.value.removeprefix("*.")
        what = f"failed validations of {value} by this account"
        return self._charge(Limit.FAILURES, f"{account_id} {value}", toll, what)

    def _certificates(self, names: tuple[AltName, ...], toll: Toll) -> tuple[Charge, ...]:
        charges: tuple[Charge, ...] = ()
        for domain in sorted({registered(name) for name in names}):  # sorted: two orders then lock no rows crosswise
            charges += self._charge(Limit.CERTIFICATES, domain, toll, f"certificates for {domain} and names below it")
        return charges

    def _charge(self, limit: Limit, key: str, toll: Toll, what: str) -> tuple[Charge, ...]:
        rate = self.overrides.get((limit, key), self.rates.get(limit))
        return () if rate is None else (Charge(limit, key, rate, toll, what),)


def registered(name: AltName) -> str:
    """What names are counted under: the last two labels of a DNS name, the network of an address, a device itself."""
    if name.kind is AltNameKind.IP:
        return _network(name.value)
    if name.kind in DEVICE_KINDS:
        return str(name)
    return ".".join(name.value.removeprefix("*.").split(".")[-2:])


def _network(address: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its /64: one host has all of that."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
