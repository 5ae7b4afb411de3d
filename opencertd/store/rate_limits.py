"""Rate limits in SQL: a row for each limit and key says until when its allowance is used up (GCRA).

A charge is one statement in the transaction of the deed: whoever is refused has used up nothing and done nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Connection, Executable, bindparam, case, select

from opencertd.acme.limits import Charge, Toll, Weighed
from opencertd.acme.pausing import Streak
from opencertd.errors import Refusal, RefusalKind
from opencertd.store.acme_pauses import take_turn
from opencertd.store.schema import rate_limits
from opencertd.store.statements import Direct, InsertInto, on_both

_MILLISECOND = timedelta(milliseconds=1)
_SKEW = timedelta(minutes=10)
"""How far apart clocks of nodes may be. A row that is further ahead than any of them could write it was made while a
clock was wrong, or a period longer: nobody is to wait for that time, and it counts as if there were no row."""

_UNTIL = rate_limits.c.used_until


def _take(insert: InsertInto) -> Executable:
    """One more: each takes a `step` of time, and what is taken must not reach beyond `latest`."""
    fresh = insert(rate_limits)
    step, now, latest, odd = (bindparam(name, type_=BigInteger) for name in ("step", "now", "latest", "odd"))
    after = case((_UNTIL.between(now, odd), _UNTIL + step), else_=fresh.excluded.used_until)
    return fresh.on_conflict_do_update(
        index_elements=[rate_limits.c.name, rate_limits.c.key], set_={"used_until": after}, where=after <= latest
    ).returning(_UNTIL)


_TAKE = Direct(on_both(_take))
_LOOK = Direct(
    select(_UNTIL).where(rate_limits.c.name == bindparam("of_name"), rate_limits.c.key == bindparam("of_key"))
)


def weigh(connection: Connection, charges: Sequence[Weighed], now: datetime) -> None:
    """Charge all, or raise RATE_LIMITED with when to come back; the transaction must then be undone."""
    for charge in charges:
        if isinstance(charge, Streak):
            take_turn(connection, charge, now)
        else:
            _weigh(connection, charge, math.floor(now.timestamp() * 1000))


def _weigh(connection: Connection, charge: Charge, now: int) -> None:
    step = max(1, charge.rate.interval // _MILLISECOND)
    latest = now + charge.rate.period // _MILLISECOND
    odd = latest + _SKEW // _MILLISECOND
    if charge.toll is not Toll.LOOK:
        place = {"name": charge.limit.value, "key": charge.key}
        taken = _TAKE.first(connection, **place, used_until=now + step, step=step, now=now, latest=latest, odd=odd)
        if taken is not None or charge.toll is Toll.OWE:
            return
    row = _LOOK.first(connection, of_name=charge.limit.value, of_key=charge.key)
    until = now if row is None or not now <= row.used_until <= odd else row.used_until
    if until + step > latest:
        raise _refusal(charge, math.ceil((until + step - latest) / 1000))


def _refusal(charge: Charge, seconds: int) -> Refusal:
    allowed = f"{charge.rate.count} in {_words(charge.rate.period)}"
    return Refusal(
        RefusalKind.RATE_LIMITED,
        f"too many {charge.what}: of {allowed} 0 remain; the next is possible in {seconds} seconds",
        retry_after=seconds,
    )


def _words(period: timedelta) -> str:
    for name, unit in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if not period % unit:
            return f"{period // unit} {name}{'s' if period // unit > 1 else ''}"
    return f"{period // timedelta(seconds=1)} seconds"
