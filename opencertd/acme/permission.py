"""CAA again, right before a certificate is issued by proofs that are some hours old (RFC 8555 §8 leaves it to policy).

The CA/Browser Forum's eight hours (Baseline Requirements §4.2.2.1) are taken as what a domain's holder may expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from opencertd.acme.states import Authorization, Challenge, ChallengeStatus, Order, Problem, authorization_for
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.names import DEVICE_KINDS, AltName
from opencertd.validation.validator import ControlValidator
from opencertd.validation.verdict import ControlQuestion, FailureKind

CAA_GOOD_FOR = timedelta(hours=8)


async def why_forbidden(
    order: Order, validator: ControlValidator, account_url: Callable[[str], str], now: datetime
) -> Problem | None:
    """What CAA says now against names of the order whose CAA was seen too long ago; None when nothing.

    Raises UNAVAILABLE while DNS does not say: that says nothing about the order.
    """
    for name, authorization, proof in _seen_long_ago(order, now):
        question = ControlQuestion(
            type=proof.type,
            name=name,
            token=proof.token,
            key_authorization="",  # control is proven; only the permission is asked for
            account_url=account_url(order.account_id),
            wildcard=authorization.wildcard,
        )
        failed = await validator.check_caa(question)
        if failed is None:
            continue
        detail = f"{name.value}: {failed.detail}"
        if failed.kind is not FailureKind.CAA:
            raise Refusal(RefusalKind.UNAVAILABLE, detail)
        return Problem(failed.kind.value, detail)
    return None


def is_fresh(order: Order, now: datetime) -> bool:
    """Whether `why_forbidden` need not ask."""
    return next(_seen_long_ago(order, now), None) is None


def _seen_long_ago(order: Order, now: datetime) -> Iterator[tuple[AltName, Authorization, Challenge]]:
    """The names to ask for, with what proved control of them."""
    for ordered in order.names:
        if ordered.kind in DEVICE_KINDS:  # no DNS name: CAA has nothing to say
            continue
        authorization = authorization_for(order, ordered)
        proof = None if authorization is None else _proof(authorization.challenges)
        if authorization is None or proof is None or proof.validated_at is None:
            continue
        name = AltName(ordered.kind, ordered.value.removeprefix("*."))
        # The proof for a domain has seen the CAA of that domain, which those below it need not share.
        if name != authorization.name or now - proof.validated_at >= CAA_GOOD_FOR:
            yield name, authorization, proof


def _proof(challenges: tuple[Challenge, ...]) -> Challenge | None:
    return next((each for each in challenges if each.status is ChallengeStatus.VALID), None)
