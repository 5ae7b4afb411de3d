"""Whether a set of CAA records lets this CA issue (RFC 8659 §4, RFC 8657): a pure verdict.

Records that nobody can read refuse: a domain's holder who restricted issuance and made a mistake meant to restrict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opencertd.validation.issue_value import IssueValue, parse_issue_value

_CRITICAL = 128  # RFC 8659 §4.1: bit 0 is the most significant
_KNOWN = frozenset({"issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"})
"""Property tags that are understood: the first two are judged, the others say nothing about TLS server names."""


@dataclass(frozen=True)
class CaaRecord:
    """One record. `tag` in lower case (tags are case-insensitive, RFC 8659 §4.1)."""

    flags: int
    tag: str
    value: bytes


@dataclass(frozen=True)
class CaaWish:
    """What is asked of the records.

    `identities`: the domains by which records may name this CA, in lower case. `account_url`: of who asks. `method`:
    the challenge type that proved control (RFC 8657 §4). `wildcard`: whether the certificate's name is a wildcard.
    """

    identities: frozenset[str]
    account_url: str
    method: str
    wildcard: bool


def why_forbidden(records: Sequence[CaaRecord], wish: CaaWish) -> str | None:
    """Why the relevant record set forbids, in words that end a sentence on the records; None when it permits."""
    for record in records:
        if record.flags & _CRITICAL and record.tag not in _KNOWN:
            return f"have a critical property {record.tag[:40]!r}, which this CA does not know"
    properties = [record for record in records if record.tag == "issue"]
    wild = [record for record in records if record.tag == "issuewild"]
    if wish.wildcard and wild:  # RFC 8659 §4.3: issuewild has precedence for wildcards
        properties = wild
    if not properties:
        return None
    reasons = [_why_not(parse_issue_value(record.value), wish) for record in properties]
    if None in reasons:
        return None
    # What keeps a record that names this CA from permitting says more than that others do not name it.
    return next((reason for reason in reasons if reason != _ANOTHER), _ANOTHER)


_ANOTHER = "do not name this CA"


def _why_not(value: IssueValue | None, wish: CaaWish) -> str | None:
    if value is None or value.domain not in wish.identities:
        return _ANOTHER
    accounts = value.values("accounturi")
    if len(accounts) > 1:  # RFC 8657 §3: no account satisfies two
        return "name this CA with more than one accounturi"
    if accounts and accounts[0] != wish.account_url:  # simple string comparison (RFC 8657 §3)
        return "name this CA for another account (accounturi)"
    methods = value.values("validationmethods")
    if len(methods) > 1:
        return "name this CA with more than one validationmethods"
    if methods and wish.method not in methods[0].split(","):
        return f"name this CA for other ways of validation (validationmethods) than {wish.method}"
    return None
