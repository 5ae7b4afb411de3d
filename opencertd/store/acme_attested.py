"""A challenge that a device answers is settled by the answer: from PENDING at once, with the key that was attested."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, exists, update

from opencertd.acme.limits import Weighed
from opencertd.acme.states import AuthorizationStatus, ChallengeStatus, Problem
from opencertd.store.acme_rows import problem_json
from opencertd.store.rate_limits import weigh
from opencertd.store.schema import acme_authorizations, acme_challenges
from opencertd.store.statements import Direct

MAY_BEGIN = exists().where(
    acme_authorizations.c.id == acme_challenges.c.authorization_id,
    acme_authorizations.c.status == AuthorizationStatus.PENDING,
)
JUDGE = Direct(
    update(acme_authorizations).where(
        acme_authorizations.c.id == bindparam("of_id"), acme_authorizations.c.status == AuthorizationStatus.PENDING
    )
)
_ATTEST_CHALLENGE = Direct(
    update(acme_challenges)
    .where(acme_challenges.c.id == bindparam("of_id"), acme_challenges.c.status == ChallengeStatus.PENDING, MAY_BEGIN)
    .returning(acme_challenges.c.authorization_id)
)


def settle_attested(
    connection: Connection,
    challenge_id: str,
    verdict: Problem | bytes,
    now: datetime,
    charges: Sequence[Weighed],
) -> bool:
    """See `AcmeStore.settle_attested`."""
    problem, key = (verdict, None) if isinstance(verdict, Problem) else (None, verdict)
    valid = problem is None
    settled = _ATTEST_CHALLENGE.first(
        connection,
        of_id=challenge_id,
        status=ChallengeStatus.VALID if valid else ChallengeStatus.INVALID,
        validated_at=now if valid else None,
        error=problem_json(problem),
        attested_spki=key,
    )
    if settled is None:
        return False
    status = AuthorizationStatus.VALID if valid else AuthorizationStatus.INVALID
    JUDGE.count(connection, of_id=settled.authorization_id, status=status)
    weigh(connection, charges, now)
    return True
