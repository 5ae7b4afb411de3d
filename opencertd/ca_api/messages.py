"""The `/ca` API on the wire: query parameters in, JSON and problem documents out (RFC 9457).

Times are ISO 8601 in UTC with `Z`, serials upper-case hex of whole octets, reasons spelled as in RFC 5280 §5.3.1.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

from opencertd.errors import Refusal, RefusalKind
from opencertd.model.approval import ApprovalRequest
from opencertd.model.certificates import (
    REASONS_BY_NAME,
    USABLE_REASONS,
    CertificateRecord,
    Revocation,
    RevocationChange,
    RevocationReason,
    RevocationState,
)
from opencertd.model.durations import parse_duration

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
PEM_TYPE = "application/pem-certificate-chain"

PAGE = 100
LONGEST_PAGE = 1000
_LARGEST_ID = 2**63 - 1


class CertificateForm(enum.Enum):
    """How the CA's own certificates are answered."""

    DER = "der"
    PEM = "pem"
    P7C = "p7c"

    @property
    def media_type(self) -> str:
        """The answer's Content-Type."""
        return _FORM_TYPES[self]


_FORM_TYPES = {
    CertificateForm.DER: "application/pkix-cert",
    CertificateForm.PEM: PEM_TYPE,
    CertificateForm.P7C: "application/pkcs7-mime; smime-type=certs-only",
}

_ACCEPTABLE = {
    "application/pkix-cert": CertificateForm.DER,
    "application/pem-certificate-chain": CertificateForm.PEM,
    "application/x-pem-file": CertificateForm.PEM,
    "application/pkcs7-mime": CertificateForm.P7C,
}


def parse_form(asked: str | None, accept: str | None) -> CertificateForm:
    """The form that `?format=` names, else the first in `Accept` that there is, else DER. MALFORMED when unknown.

    The order in `Accept` decides, not its weights: whoever lists two forms can read both.
    """
    if asked is not None:
        try:
            return CertificateForm(asked.lower())
        except ValueError:
            raise Refusal(RefusalKind.MALFORMED, "format must be der, pem or p7c") from None
    for entry in (accept or "").split(","):
        form = _ACCEPTABLE.get(entry.partition(";")[0].strip().lower())
        if form is not None:
            return form
    return CertificateForm.DER


def parse_query(uri: bytes) -> Mapping[str, str]:
    """The query parameters of a request's URI, percent-decoded. MALFORMED when one comes twice or is not UTF-8.

    Taken from the URI, so that no form in a body can add to them.
    """
    query = uri.partition(b"?")[2]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError:
        raise Refusal(RefusalKind.MALFORMED, "the query is not percent-encoded UTF-8 of a few parameters") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise Refusal(RefusalKind.MALFORMED, "a query parameter was given twice")
    return parameters


def parse_validity(text: str | None) -> timedelta | None:
    """How long a certificate is asked to be good: `12h`, `30d`; None when nothing is asked. Raises MALFORMED."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Refusal(RefusalKind.MALFORMED, f"validity={text[:80]}: {error}") from None


def parse_serial(text: str) -> int:
    """A serial number in hex, as people paste it: with or without `0x`, colons, leading zeros, in any case."""
    digits = text.strip().lower().removeprefix("0x").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{1,64}", digits):
        raise Refusal(RefusalKind.MALFORMED, f"{text[:80]!r} is not a serial number in hex")
    return int(digits, 16)


def parse_reason(text: str) -> RevocationReason:
    """A reason by its RFC 5280 name, in any case. BAD_REVOCATION_REASON when unknown or not usable here."""
    reason = REASONS_BY_NAME.get(text.lower())
    usable = ", ".join(reason.rfc_name for reason in sorted(USABLE_REASONS))
    if reason is None or reason not in USABLE_REASONS:
        why = "is not a revocation reason" if reason is None else "cannot be used here"
        raise Refusal(RefusalKind.BAD_REVOCATION_REASON, f"{text[:80]!r} {why}; use one of {usable}")
    return reason


def parse_invalidity_date(text: str) -> datetime | None:
    """An ISO 8601 time in UTC to the second, such as 2026-06-01T12:00:00Z; None for nothing. Raises MALFORMED."""
    if not text:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII):
            raise ValueError
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            RefusalKind.MALFORMED, f"{text[:40]!r} is not a time in UTC such as 2026-06-01T12:00:00Z"
        ) from None


def parse_page(parameters: Mapping[str, str]) -> tuple[int, int]:
    """`after` (an id, default 0) and `limit` (1 to 1000, default 100) of an inventory request. Raises MALFORMED."""
    return (
        _number(parameters, "after", 0, 0, _LARGEST_ID),
        _number(parameters, "limit", PAGE, 1, LONGEST_PAGE),
    )


def _number(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise Refusal(RefusalKind.MALFORMED, f"{name} must be a whole number from {least} to {most}")
    return int(text)


def build_certificate(record: CertificateRecord, issuer: str, now: datetime) -> dict[str, Any]:
    """One certificate as the API shows it. `issued` is when its issuance was written down, before it was signed.

    Of a certificate that was imported without its bytes, nobody here knows when it was issued and when it began.
    """
    held = record.certificate_der is not None
    revocation = record.revocation
    status = "good" if record.not_after >= now else "expired"
    if revocation is not None:
        status = (RevocationState.HELD if revocation.held else RevocationState.REVOKED).value
    return {
        "id": record.id,
        "serial": _hex(record.serial),
        "subject": record.subject,
        "names": [{"type": name.kind.value, "value": name.value} for name in record.names],
        "profile": record.profile,
        "issuer": issuer,
        "requester": record.requester_label,
        "notBefore": _iso(record.not_before) if held else None,
        "notAfter": _iso(record.not_after),
        "issued": _iso(record.intended_at) if held else None,
        "status": status,
        "revocation": revocation and _build_revocation(revocation),
    }


def _build_revocation(revocation: Revocation) -> dict[str, str]:
    shown = {"at": _iso(revocation.revoked_at), "reason": revocation.reason.rfc_name}
    if revocation.invalidity_date is not None:
        shown["invalidityDate"] = _iso(revocation.invalidity_date)
    return shown


def build_history(changes: Sequence[RevocationChange]) -> list[dict[str, Any]]:
    """What became of a certificate, oldest first: held, released, revoked; when, by whom, and the revocation meant."""
    return [
        {
            "status": change.state.value,
            "changed": _iso(change.changed_at),
            "by": change.by,
            "revocation": _build_revocation(change.revocation),
        }
        for change in changes
    ]


def build_inventory(
    records: Sequence[CertificateRecord], limit: int, issuer_name: Callable[[str], str], now: datetime
) -> dict[str, Any]:
    """A page of at most `limit` of `records`; `next` is there when there are more (ask the store for one more)."""
    shown = records[:limit]
    page: dict[str, Any] = {
        "certificates": [build_certificate(record, issuer_name(record.issuer_id), now) for record in shown]
    }
    if len(records) > limit:
        page["next"] = "/ca/inventory?" + urlencode({"after": shown[-1].id, "limit": limit})
    return page


def build_request(one: ApprovalRequest) -> dict[str, Any]:
    """What an approver sees of a request that waits, or did."""
    shown: dict[str, Any] = {
        "id": one.id,
        "status": one.state.value,
        "profile": one.profile,
        "protocol": one.protocol,
        "requester": one.requester,
        "requesterLabel": one.requester_label,
        "subject": one.subject,
        "names": [{"type": name.kind.value, "value": name.value} for name in one.names],
        "key": one.key,
        "keySha256": one.spki_sha256,
        "asked": _iso(one.asked_at),
        "until": _iso(one.until),
    }
    if one.validity is not None:
        shown["validitySeconds"] = int(one.validity.total_seconds())
    if one.decided_at is not None:
        shown |= {"decided": _iso(one.decided_at), "decidedBy": one.decided_by, "reason": one.reason}
    return shown


def build_requests(found: Sequence[tuple[int, ApprovalRequest]], limit: int) -> dict[str, Any]:
    """The first `limit` of these, and where the next page is if there are more."""
    page = found[:limit]
    shown: dict[str, Any] = {"requests": [build_request(one) for _, one in page]}
    if len(found) > limit:
        shown["next"] = "/ca/requests?" + urlencode({"after": page[-1][0], "limit": limit})
    return shown


def encode_json(document: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON with a final newline, for shells."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def encode_pending(refusal: Refusal) -> bytes:
    """What is said of a request that somebody is to decide about, which is no error."""
    return encode_json({"status": "pending", "detail": refusal.detail})


def encode_problem(status: int, refusal: Refusal) -> bytes:
    """The refusal as a problem document (RFC 9457 §3); `names` lists refused names when there are several."""
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": refusal.detail,
    }
    if refusal.names:
        problem["names"] = [{"type": n.name_type, "value": n.name, "detail": n.detail} for n in refusal.names]
    return encode_json(problem)


def _hex(serial: int) -> str:
    """Whole octets, as `openssl x509 -serial` prints them."""
    digits = f"{serial:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
