"""One table turns refusals into ACME problems: type (RFC 8555 §6.7, without its prefix) and HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencertd.acme.encoding import encode_json
from opencertd.acme.states import Problem
from opencertd.errors import Refusal, RefusalKind, RefusedName

PREFIX = "urn:ietf:params:acme:error:"

PROBLEMS: Mapping[RefusalKind, tuple[str, int]] = {
    RefusalKind.MALFORMED: ("malformed", 400),
    RefusalKind.BAD_CSR: ("badCSR", 400),
    RefusalKind.BAD_PUBLIC_KEY: ("badPublicKey", 400),
    RefusalKind.BAD_SIGNATURE_ALGORITHM: ("badSignatureAlgorithm", 400),
    RefusalKind.BAD_NONCE: ("badNonce", 400),
    RefusalKind.BAD_REVOCATION_REASON: ("badRevocationReason", 400),
    RefusalKind.REJECTED_NAME: ("rejectedIdentifier", 400),
    RefusalKind.UNSUPPORTED_NAME: ("unsupportedIdentifier", 400),
    RefusalKind.INVALID_CONTACT: ("invalidContact", 400),
    RefusalKind.UNSUPPORTED_CONTACT: ("unsupportedContact", 400),
    RefusalKind.USER_ACTION_REQUIRED: ("userActionRequired", 403),  # §7.3.3
    RefusalKind.EXTERNAL_ACCOUNT_REQUIRED: ("externalAccountRequired", 403),
    RefusalKind.ACCOUNT_DOES_NOT_EXIST: ("accountDoesNotExist", 400),
    RefusalKind.UNAUTHENTICATED: ("unauthorized", 401),  # §7.3.6 wants 401 for a deactivated account
    RefusalKind.UNAUTHORIZED: ("unauthorized", 403),
    RefusalKind.NOT_FOUND: ("malformed", 404),
    RefusalKind.METHOD_NOT_ALLOWED: ("malformed", 405),
    RefusalKind.UNSUPPORTED_MEDIA_TYPE: ("malformed", 415),
    RefusalKind.NOT_ACCEPTABLE: ("malformed", 406),
    RefusalKind.NOT_IMPLEMENTED: ("serverInternal", 501),
    RefusalKind.TOO_LARGE: ("malformed", 413),
    RefusalKind.NOT_READY: ("orderNotReady", 403),
    RefusalKind.CONFLICT: ("malformed", 409),  # §7.3.5
    RefusalKind.ALREADY_REVOKED: ("alreadyRevoked", 400),
    RefusalKind.RATE_LIMITED: ("rateLimited", 429),
    RefusalKind.INVALID_PROFILE: ("invalidProfile", 400),  # draft-ietf-acme-profiles-01 §4
    RefusalKind.ALREADY_REPLACED: ("alreadyReplaced", 409),  # RFC 9773 §5
    RefusalKind.RENEWAL_CANCELED: ("autoRenewalCanceled", 403),  # RFC 8739 §3.1.2, as the next three
    RefusalKind.RENEWAL_ENDED: ("autoRenewalExpired", 403),
    RefusalKind.CANCELLATION_INVALID: ("autoRenewalCancellationInvalid", 400),
    RefusalKind.REVOCATION_NOT_SUPPORTED: ("autoRenewalRevocationNotSupported", 403),
    RefusalKind.PENDING: ("serverInternal", 503),
    RefusalKind.UNAVAILABLE: ("serverInternal", 503),
    RefusalKind.INTERNAL: ("serverInternal", 500),
}


def status_of(refusal: Refusal) -> int:
    """The HTTP status a refusal is answered with."""
    return PROBLEMS[refusal.kind][1]


def problem_of(refusal: Refusal) -> Problem:
    """What is kept of a refusal with an order that failed by it."""
    return Problem(PROBLEMS[refusal.kind][0], refusal.detail)


def encode_refusal(refusal: Refusal) -> bytes:
    """The problem document (RFC 7807) that answers a request refused."""
    document = {**problem_document(problem_of(refusal)), "status": status_of(refusal)}
    if refusal.names:
        document["subproblems"] = [_subproblem(name) for name in refusal.names]
    if refusal.kind is RefusalKind.BAD_SIGNATURE_ALGORITHM:
        document["algorithms"] = list(refusal.allowed)  # §6.2
    if refusal.kind is RefusalKind.USER_ACTION_REQUIRED and refusal.link is not None:
        document["instance"] = refusal.link[0]  # §7.3.3
    return encode_json(document)


def problem_document(problem: Problem) -> dict[str, Any]:
    """A problem kept with an order or a challenge, as a JSON object."""
    return {"type": PREFIX + problem.type, "detail": problem.detail}


def _subproblem(name: RefusedName) -> dict[str, Any]:
    problem = Problem(PROBLEMS[name.kind][0], name.detail)
    return {**problem_document(problem), "identifier": {"type": name.name_type, "value": name.name}}
