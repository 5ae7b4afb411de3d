"""How an issuer's CRLs are made: for how long, of which parts, and with which URLs in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from opencertd.asn1.crl import Scope
from opencertd.crl.store import APART, DELTA, Line, Scheme
from opencertd.issuance.issuers import Issuer
from opencertd.model.crl_parts import ALL, CAS, USERS, Part, Partition, point, shards


@dataclass(frozen=True)
class CrlTerms:
    """`validity`: from thisUpdate to nextUpdate. `interval`: a new one at least that often; deltas four times as often.

    `partition`: how new certificates are spread. `points`: URLs of distribution points, with `{issuer}` and `{part}`.
    `delta`: URLs of the delta CRL, with `{issuer}`; none: there is none. `wait`: seconds after a revocation until the
    CRL of all certificates is made anew, in which further ones join it; those of parts, and deltas, never wait.
    """

    validity: timedelta = timedelta(days=7)
    interval: timedelta = timedelta(days=1)
    partition: Partition = Partition()  # noqa: RUF009  (a frozen value)
    points: tuple[str, ...] = ()
    delta: tuple[str, ...] = ()
    wait: int = 0

    def __post_init__(self) -> None:
        if not timedelta(0) < self.interval < self.validity:
            raise ValueError("CRLs are published more often than they expire")

    def schemes(self, issuer: Issuer) -> tuple[Scheme, ...]:
        """What holds for certificates that the issuer signs from now on; for none, once it signs no more."""
        if not issuer.active:
            return ()
        spread = self.partition.under(issuer.role)
        named = (*((APART,) * spread.apart), *((str(spread.shards),) if spread.shards else ()))
        found = [Scheme(name, self.points) for name in named]
        return (*found, Scheme(DELTA, self.delta)) if self.delta else tuple(found)


def lines_of(issuer_id: str, schemes: tuple[Scheme, ...]) -> tuple[Line, ...]:
    """Every line of CRLs that the schemes call for, that of all certificates first."""
    parts: list[Part] = [ALL]
    for scheme in schemes:
        if scheme.name == APART:
            parts += [CAS, USERS]
        elif scheme.name != DELTA:
            parts += shards(int(scheme.name))
    lines = [Line(issuer_id, part) for part in parts]
    return (*lines, Line(issuer_id, ALL, delta=True)) if DELTA in {scheme.name for scheme in schemes} else tuple(lines)


def calls_for(schemes: tuple[Scheme, ...], line: Line) -> bool:
    """Whether the line is one of those: asked with each request, where there may be a thousand."""
    names = {scheme.name for scheme in schemes}
    if line.part == ALL:
        return not line.delta or DELTA in names
    shard = line.part.shard
    return not line.delta and (APART if shard is None else str(shard[0])) in names


def scope_of(line: Line, issuer: str, schemes: tuple[Scheme, ...], base: int | None) -> Scope:
    """What CRLs of the line say of themselves. `issuer`: its name; `base`: of a delta CRL."""
    points = {scheme.name: scheme.points for scheme in schemes}
    if line.part == ALL:
        freshest = () if line.delta else tuple(point(url, issuer, ALL) for url in points.get(DELTA, ()))
        return Scope(base=base, freshest=freshest)
    shard = line.part.shard
    templates = points.get(APART if shard is None else str(shard[0]), ())
    only = "" if shard else line.part.word
    return Scope(tuple(point(url, issuer, line.part) for url in templates), only)
