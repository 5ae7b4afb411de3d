"""dns-persist-01 (draft-ietf-acme-dns-persist-02): a TXT record that stays, names this CA and says for which account.

The account is named by a hash that binds it to the domain, by its key or any that it had before: a record outlives a
change of keys (§4.1, §4.2). Its plain URL, as -01 had it and clients in use write
it, is taken too: it names the account no less exactly. Pure.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime

from opencertd.validation.issue_value import IssueValue, parse_issue_value
from opencertd.validation.verdict import (
    ControlQuestion,
    FailedProof,
    FailureKind,
    ProvenUntil,
    TextEvidence,
    base_name,
)

_SECONDS = re.compile(r"[0-9]{1,15}\Z")
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class PersistTerms:
    """`issuers`: domains by which records may name this CA, in lower case. `hash_prefix`: before hashed accounts."""

    issuers: tuple[str, ...]
    hash_prefix: str


def hashed_uri(prefix: str, domain: str, thumbprint: str, account_url: str) -> str:
    """The account's URI for a domain, or for any where `domain` is `*` (§4.1). `thumbprint`: RFC 7638, base64url."""
    digest = hashlib.sha256(bytes((len(domain),)) + f"{domain}{thumbprint}{account_url}".encode()).digest()
    return f"{prefix}sha-256/{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def judge_persistent(
    question: ControlQuestion, evidence: TextEvidence, terms: PersistTerms, now: datetime
) -> ProvenUntil | FailedProof | None:
    """§4.3.2: one of the records that name this CA satisfies everything. None: without an end."""
    domain = base_name(question.name)
    keys = (question.key_authorization.partition(".")[2], *question.prior_keys)
    prefix, url = terms.hash_prefix, question.account_url
    accounts = {hashed_uri(prefix, each, key, url) for key in keys for each in (domain, "*")} | {url}
    reasons = []
    ends = []
    for text in evidence.texts:
        value = parse_issue_value(text)
        if value is None or value.domain not in terms.issuers:
            continue
        judged = _judge_record(value, accounts, wildcard=question.for_wildcard, now=now)
        if isinstance(judged, str):
            reasons.append(judged)
        else:
            ends.append(judged)
    if ends:
        latest = max(ends)
        return None if latest == _LAST else ProvenUntil(latest)
    count = f"{len(evidence.texts)} TXT record{'' if len(evidence.texts) == 1 else 's'} at {evidence.name}"
    if not reasons:
        return FailedProof(FailureKind.UNAUTHORIZED, f"{count}; none names this CA ({' or '.join(terms.issuers)})")
    return FailedProof(FailureKind.UNAUTHORIZED, f"{count}; of those that name this CA one {reasons[0]}")


def _judge_record(value: IssueValue, accounts: set[str], *, wildcard: bool, now: datetime) -> datetime | str:
    """Until when the record proves, or what is wrong with it."""
    for tag in ("accounturi", "policy", "persistuntil"):
        if len(value.values(tag)) > 1:
            return f"has more than one {tag}"
    if not value.values("accounturi"):
        return "has no accounturi"
    if value.values("accounturi")[0] not in accounts:  # simple string comparison (§4.1)
        return "is for another account, or for a key that the account never had (accounturi)"
    if wildcard and [policy.lower() for policy in value.values("policy")] != ["wildcard"]:
        return "does not allow wildcards (policy=wildcard)"
    return _end(value, now)


def _end(value: IssueValue, now: datetime) -> datetime | str:
    until = value.values("persistuntil")
    if not until:
        return _LAST
    if not _SECONDS.match(until[0]):
        return "has a persistUntil that is no number of seconds"
    seconds = min(int(until[0]), int(_LAST.timestamp()))
    return "has ended (persistUntil)" if seconds <= now.timestamp() else datetime.fromtimestamp(seconds, UTC)
