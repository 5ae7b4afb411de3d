"""CAA, from the name up to the nearest that has records (RFC 8659 §3), before a certificate is issued for it."""

from __future__ import annotations

from opencertd.model.names import AltNameKind
from opencertd.validation.attempt import Attempt
from opencertd.validation.caa import CaaRecord, CaaWish, why_forbidden
from opencertd.validation.resolver import LookupFailed, Resolver
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind, Unproven, base_name


async def relevant_records(attempt: Attempt, resolver: Resolver, name: str) -> tuple[str, tuple[CaaRecord, ...]]:
    """The nearest name at or above `name` that has CAA records, and these; the empty name when none has.

    Aliases are followed at each step by the question itself; climbing goes by the name asked for, not by where its
    CNAME led (RFC 8659 §3). Raises `Unproven` (DNS) when a step has no answer: no answer is no permission.
    """
    labels = name.split(".")
    for at in range(len(labels)):
        place = ".".join(labels[at:])
        attempt.enter(f"looking up the CAA records of {place}", FailureKind.DNS)
        try:
            records = await resolver.caa(place)
        except LookupFailed as failure:
            raise Unproven(FailureKind.DNS, f"{failure.detail}; without CAA's answer nothing is issued") from failure
        if records:
            return place, records
    return "", ()


async def check_caa(
    attempt: Attempt, resolver: Resolver, question: ControlQuestion, identities: frozenset[str]
) -> FailedProof | None:
    """None when CAA permits what `question` is asked for. An IP address has no CAA. Raises `Unproven`."""
    if question.name.kind is not AltNameKind.DNS:
        return None
    place, records = await relevant_records(attempt, resolver, base_name(question.name))
    reason = why_forbidden(records, CaaWish(identities, question.account_url, question.type, question.for_wildcard))
    if reason is None:
        return None
    return FailedProof(FailureKind.CAA, f"the CAA records of {place} {reason}")
