"""dns-01 (RFC 8555 §8.4): the TXT records of `_acme-challenge` below the name."""

from __future__ import annotations

from opencertd.validation.attempt import Attempt
from opencertd.validation.resolver import LookupFailed, LookupProblem, Resolver
from opencertd.validation.verdict import ControlQuestion, FailureKind, TextEvidence, Unproven, base_name


async def gather_texts(attempt: Attempt, resolver: Resolver, question: ControlQuestion) -> TextEvidence:
    """The records, CNAMEs followed (people delegate this one name to a zone they may write). Raises `Unproven`."""
    where = f"_acme-challenge.{base_name(question.name)}"
    attempt.enter(f"looking up the TXT records of {where}", FailureKind.DNS)
    try:
        return TextEvidence(where, await resolver.texts(where))
    except LookupFailed as failure:
        missing = failure.problem in (LookupProblem.NO_SUCH_NAME, LookupProblem.NO_ANSWER)
        hint = "; is the record set, and on the servers this CA asks?" if missing else ""
        raise Unproven(FailureKind.DNS, failure.detail + hint) from failure
