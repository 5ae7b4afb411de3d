"""Challenges answered by TXT records: where each is looked for, and the look.

dns-01 (RFC 8555 §8.4) below `_acme-challenge`; dns-account-01 (draft-ietf-acme-dns-account-label-02) below a label of
the account's own in front of it, so that several accounts may answer for one name at once; dns-persist-01
(draft-ietf-acme-dns-persist-02 §4) below `_validation-persist`.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode

from opencertd.validation.attempt import Attempt
from opencertd.validation.resolver import LookupFailed, LookupProblem, Resolver
from opencertd.validation.verdict import (
    DNS_ACCOUNT_01,
    DNS_PERSIST_01,
    ControlQuestion,
    FailureKind,
    TextEvidence,
    Unproven,
    base_name,
)


def account_label(account_url: str) -> str:
    """`_` and ten octets of the account URL's SHA-256 in base32, in lower case."""
    return "_" + b32encode(hashlib.sha256(account_url.encode()).digest()[:10]).decode().lower()


def place_of(question: ControlQuestion) -> str:
    """The name whose TXT records answer `question`."""
    name = base_name(question.name)
    if question.type == DNS_PERSIST_01:
        return f"_validation-persist.{name}"
    if question.type == DNS_ACCOUNT_01:
        return f"{account_label(question.account_url)}._acme-challenge.{name}"
    return f"_acme-challenge.{name}"


async def gather_texts(attempt: Attempt, resolver: Resolver, question: ControlQuestion) -> TextEvidence:
    """The records, CNAMEs followed (people delegate this one name to a zone they may write). Raises `Unproven`."""
    where = place_of(question)
    attempt.enter(f"looking up the TXT records of {where}", FailureKind.DNS)
    try:
        return TextEvidence(where, await resolver.texts(where))
    except LookupFailed as failure:
        missing = failure.problem in (LookupProblem.NO_SUCH_NAME, LookupProblem.NO_ANSWER)
        hint = "; is the record set, and on the servers this CA asks?" if missing else ""
        raise Unproven(FailureKind.DNS, failure.detail + hint) from failure
