"""What an order may take from proofs of before.

A proof that is used again is copied into the order: the copy is valid from the start, ends with its origin, and is
deactivated with it, so that an authorization belongs to one order and is read with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from opencertd.acme.states import Authorization, AuthorizationStatus, Challenge, ChallengeStatus, covers
from opencertd.model.names import AltName, AltNameKind


@dataclass(frozen=True)
class Reuse:
    """Which proofs an order may take: made since `since`, by a challenge that is still offered, not over at `now`."""

    since: datetime
    now: datetime
    lifetime: timedelta
    challenges: tuple[str, ...]


def with_proofs(
    authorizations: tuple[Authorization, ...], proofs: tuple[Authorization, ...], reuse: Reuse
) -> tuple[Authorization, ...]:
    """The pending authorizations of a new order, those that a proof serves replaced by a copy of it."""
    usable = [proof for proof in proofs if _is_usable(proof, reuse)]
    return tuple(
        next((_copy(each, proof, reuse) for proof in usable if covers(proof, each)), each) for each in authorizations
    )


def _is_usable(proof: Authorization, reuse: Reuse) -> bool:
    return proof.status is AuthorizationStatus.VALID and proof.expires > reuse.now and any(_good(proof, reuse))


def _good(proof: Authorization, reuse: Reuse) -> Iterator[Challenge]:
    for challenge in proof.challenges:
        done = challenge.status is ChallengeStatus.VALID and challenge.type in reuse.challenges
        if done and challenge.validated_at is not None and challenge.validated_at > reuse.since:
            yield challenge


def _copy(wanted: Authorization, proof: Authorization, reuse: Reuse) -> Authorization:
    challenge = next(_good(proof, reuse))
    assert challenge.validated_at is not None  # noqa: S101  (`_good` has looked)
    of_own = replace(challenge, id=wanted.challenges[0].id, authorization_id=wanted.id)
    return replace(
        wanted,
        name=proof.name,
        wildcard=proof.wildcard,
        subdomains=proof.subdomains,
        status=AuthorizationStatus.VALID,
        expires=min(proof.expires, challenge.validated_at + reuse.lifetime),
        challenges=(of_own,),
        origin=proof.origin or proof.id,
    )


def candidates(authorization: Authorization) -> tuple[AltName, ...]:
    """Names whose proofs could serve: its own, and those of the domains above it."""
    name = authorization.name
    if name.kind is not AltNameKind.DNS or authorization.wildcard:
        return (name,)
    labels = name.value.split(".")
    return tuple(AltName(name.kind, ".".join(labels[start:])) for start in range(len(labels)))
