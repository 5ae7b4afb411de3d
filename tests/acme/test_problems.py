"""Every refusal has its ACME problem."""

from __future__ import annotations

import json

from opencertd.acme.problems import PROBLEMS, encode_refusal
from opencertd.errors import Refusal, RefusalKind, RefusedName

# RFC 8555 §6.7 and §9.7.4, RFC 8739 §5.2, RFC 9773 §7.4, draft-ietf-acme-profiles-01 §6.3, less the types that this CA
# has no occasion for.
REGISTERED = {
    "accountDoesNotExist",
    "alreadyReplaced",
    "alreadyRevoked",
    "autoRenewalCanceled",
    "autoRenewalCancellationInvalid",
    "autoRenewalExpired",
    "autoRenewalRevocationNotSupported",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "externalAccountRequired",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
}


def test_every_kind_is_in_the_table_with_a_registered_type_and_an_error_status() -> None:
    assert set(PROBLEMS) == set(RefusalKind)
    assert {kind for kind, _ in PROBLEMS.values()} == REGISTERED
    assert all(400 <= status < 600 for _, status in PROBLEMS.values())


def test_a_problem_document_has_type_detail_and_status() -> None:
    assert json.loads(encode_refusal(Refusal(RefusalKind.NOT_READY, "not yet"))) == {
        "type": "urn:ietf:params:acme:error:orderNotReady",
        "detail": "not yet",
        "status": 403,
    }


def test_each_refused_name_has_its_subproblem() -> None:
    names = (
        RefusedName(RefusalKind.REJECTED_NAME, "dns", "a.example", "no"),
        RefusedName(RefusalKind.UNSUPPORTED_NAME, "ip", "192.0.2.1", "never"),
    )
    document = json.loads(encode_refusal(Refusal(RefusalKind.MALFORMED, "two", names=names)))
    assert document["subproblems"] == [
        {
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "no",
            "identifier": {"type": "dns", "value": "a.example"},
        },
        {
            "type": "urn:ietf:params:acme:error:unsupportedIdentifier",
            "detail": "never",
            "identifier": {"type": "ip", "value": "192.0.2.1"},
        },
    ]


def test_a_bad_algorithm_brings_the_list_of_good_ones() -> None:
    refusal = Refusal(RefusalKind.BAD_SIGNATURE_ALGORITHM, "no", allowed=("ES256", "RS256"))
    assert json.loads(encode_refusal(refusal))["algorithms"] == ["ES256", "RS256"]
