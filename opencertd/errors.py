"""Everything the CA says no with is a `Refusal`; each edge translates it outwards by one table.

A `Refusal` is raised wherever a rule is broken, in words a client may read: it holds no secret, no path and no
internal name. The edges map its kind to their own vocabulary (ACME problem type, EST status, OCSP status, HTTP).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class RefusalKind(enum.Enum):
    """Why something was refused. Every edge's table covers every member (held by a test)."""

    MALFORMED = "malformed"
    BAD_CSR = "bad CSR"
    BAD_PUBLIC_KEY = "bad public key"
    BAD_SIGNATURE_ALGORITHM = "bad signature algorithm"
    BAD_NONCE = "bad nonce"
    BAD_REVOCATION_REASON = "bad revocation reason"
    REJECTED_NAME = "rejected name"
    UNSUPPORTED_NAME = "unsupported name"
    INVALID_CONTACT = "invalid contact"
    UNSUPPORTED_CONTACT = "unsupported contact"
    USER_ACTION_REQUIRED = "user action required"
    EXTERNAL_ACCOUNT_REQUIRED = "external account required"
    ACCOUNT_DOES_NOT_EXIST = "account does not exist"
    UNAUTHENTICATED = "unauthenticated"  # nobody proved who they are
    UNAUTHORIZED = "unauthorized"  # proven, and not allowed
    NOT_FOUND = "not found"
    METHOD_NOT_ALLOWED = "method not allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported media type"
    NOT_ACCEPTABLE = "not acceptable"  # the answer has no form that the client takes
    NOT_IMPLEMENTED = "not implemented"  # the protocol knows it, this CA does not
    TOO_LARGE = "too large"
    NOT_READY = "not ready"
    CONFLICT = "conflict"
    ALREADY_REVOKED = "already revoked"
    RATE_LIMITED = "rate limited"
    INVALID_PROFILE = "invalid profile"
    ALREADY_REPLACED = "already replaced"
    RENEWAL_CANCELED = "renewal canceled"
    RENEWAL_ENDED = "renewal ended"
    CANCELLATION_INVALID = "cancellation invalid"
    REVOCATION_NOT_SUPPORTED = "revocation not supported"
    PENDING = "pending"  # accepted, decided later: try again
    UNAVAILABLE = "unavailable"  # a part of the CA (store, issuer, key) is away
    INTERNAL = "internal"


@dataclass(frozen=True)
class RefusedName:
    """One name among several that was refused, for answers that list each."""

    kind: RefusalKind
    name_type: str  # "dns", "ip", "email", "uri", "permanent-identifier", "hardware-module"
    name: str
    detail: str


class Refusal(Exception):  # noqa: N818  (it is the field's word, and not always an error)
    """The CA says no: `kind` for the edge's table, `detail` for the person who reads it.

    `retry_after` is whole seconds; `names` the single names of a request with several; `location` the URL-free id of
    the thing that stands in the way (CONFLICT); `allowed` what would have been accepted (algorithms, methods); `link`
    a URL that helps, and its relation (RFC 8288).
    """

    def __init__(
        self,
        kind: RefusalKind,
        detail: str,
        *,
        retry_after: int | None = None,
        names: tuple[RefusedName, ...] = (),
        location: str | None = None,
        allowed: tuple[str, ...] = (),
        link: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.names = names
        self.location = location
        self.allowed = allowed
        self.link = link

    def __repr__(self) -> str:
        return f"Refusal({self.kind.name}, {self.detail!r})"


class StartError(Exception):
    """The daemon or a command cannot start: says what is wrong, where, and what to do. Printed without a traceback."""


def sentence_of(error: OSError) -> str:
    """What the system said no to, and to what."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def in_full(refusal: Refusal) -> str:
    """The refusal with what caused it, for whoever runs the CA; clients are told `detail` alone."""
    cause = getattr(refusal.__cause__, "orig", None) or refusal.__cause__
    return refusal.detail if cause is None else f"{refusal.detail}: {' '.join(str(cause).split())}"
