"""What proves control of a name is decided here, by pure judges over frozen evidence.

Every judge returns None (control is proven) or a `FailedProof` whose words name what was asked, where, and what
came. They never repeat what a server sent: whoever orders a certificate chooses the servers asked, and could read
services behind the CA's firewall through such words.

Sources: RFC 8555 §8.1, §8.3, §8.4; RFC 8737 §3; RFC 8738.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from opencertd.model.names import AltName, AltNameKind

HTTP_01 = "http-01"
DNS_01 = "dns-01"
TLS_ALPN_01 = "tls-alpn-01"
DNS_ACCOUNT_01 = "dns-account-01"
DNS_PERSIST_01 = "dns-persist-01"

BY_DNS = frozenset({DNS_01, DNS_ACCOUNT_01, DNS_PERSIST_01})
"""What may prove a wildcard, and never an IP address."""

ACME_TLS_PROTOCOL = b"acme-tls/1"  # RFC 8737 §6.2
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier, RFC 8737 §6.1

_THUMBPRINT = re.compile(rb"[A-Za-z0-9_-]{43}\Z")  # a SHA-256 in base64url without padding

_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What `cryptography` raises for certificates it does not understand."""


@dataclass(frozen=True)
class ControlQuestion:
    """Does whoever holds `key_authorization` control `name`, as challenge `type` proves it?

    `type`: `http-01`, `dns-01`, `tls-alpn-01`, `dns-account-01` or `dns-persist-01`. `name`: a DNS name (for a wildcard
    its base name; a leading `*.` is dropped where DNS may prove it) or an IP address. `token` and `key_authorization`:
    RFC 8555 §8.1. `account_url`: of who asks. `wildcard`: whether it is for all names one below. `prior_keys`: RFC 7638
    thumbprints of the keys that the account had before, the latest first; dns-persist-01 looks at them alone.
    """

    type: str
    name: AltName
    token: str
    key_authorization: str
    account_url: str = ""
    wildcard: bool = False
    prior_keys: tuple[str, ...] = ()

    @property
    def for_wildcard(self) -> bool:
        """Whether it is asked for all names one below, whichever way that was said."""
        return self.wildcard or self.name.value.startswith("*.")


class FailureKind(enum.Enum):
    """Why control was not proven; the value is the ACME error type (RFC 8555 §6.7)."""

    DNS = "dns"
    CONNECTION = "connection"
    TLS = "tls"
    INCORRECT_RESPONSE = "incorrectResponse"
    UNAUTHORIZED = "unauthorized"  # the name's holder answers for another account
    CAA = "caa"  # proven, but the name's CAA records forbid it
    BAD_ATTESTATION = "badAttestationStatement"  # draft-ietf-acme-device-attest §5
    MALFORMED = "malformed"  # a question that no evidence can answer


@dataclass(frozen=True)
class ProvenUntil:
    """Control is proven, and to be relied on until `end` only."""

    end: datetime


@dataclass(frozen=True)
class FailedProof:
    """Control was not proven: the kind for the edge's table, the detail for the person who must mend it."""

    kind: FailureKind
    detail: str


class Unproven(Exception):  # noqa: N818  (not an error of ours: the network's word)
    """Evidence could not be gathered; carries the `proof` that failed."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.proof = FailedProof(kind, detail)


@dataclass(frozen=True)
class HttpEvidence:
    """The last answer of an http-01 fetch.

    `url`: what was fetched, fit to show. `address`: where, with port. `body`: at most the fetch's limit of octets,
    and `whole` whether that was all; empty for any status but 200.
    """

    url: str
    address: str
    status: int
    body: bytes
    whole: bool = True


@dataclass(frozen=True)
class TextEvidence:
    """The TXT records found at `name`, each joined to one string."""

    name: str
    texts: tuple[bytes, ...]


@dataclass(frozen=True)
class HandshakeEvidence:
    """A finished TLS handshake: where (address and port), what ALPN agreed on, the server's certificate."""

    address: str
    protocol: bytes | None
    certificate_der: bytes | None


def base_name(name: AltName) -> str:
    """`name` without a wildcard's `*.`."""
    return name.value.removeprefix("*.")


def check_question(question: ControlQuestion) -> None:
    """Raise `Unproven` (MALFORMED) when no evidence can answer `question`.

    A wildcard is proven by DNS only (http-01 and tls-alpn-01 show control of one host); an IP address never by
    DNS (RFC 8738 §7).
    """
    name = question.name
    if question.type not in BY_DNS | {HTTP_01, TLS_ALPN_01}:
        raise Unproven(FailureKind.MALFORMED, f"{question.type[:40]!r} is no challenge type known here")
    if name.kind not in (AltNameKind.DNS, AltNameKind.IP):
        raise Unproven(FailureKind.MALFORMED, f"control of {name} cannot be proven by {question.type}")
    if name.kind is AltNameKind.IP and question.type in BY_DNS:
        raise Unproven(FailureKind.MALFORMED, f"{name.value} is an IP address, which {question.type} cannot prove")
    if question.for_wildcard and question.type not in BY_DNS:
        raise Unproven(FailureKind.MALFORMED, f"{name.value} is a wildcard, which only DNS can prove")
    if question.type in (DNS_ACCOUNT_01, DNS_PERSIST_01) and not question.account_url:
        raise Unproven(FailureKind.MALFORMED, f"{question.type} needs the account's URL")


def judge_http(question: ControlQuestion, evidence: HttpEvidence) -> FailedProof | None:
    """RFC 8555 §8.3: status 200 and the key authorization as body; white space at its end is ignored."""
    where = f"{evidence.url} (at {evidence.address})"
    if evidence.status != 200:
        return _wrong(f"{where} answered with status {evidence.status}, not 200")
    if not evidence.whole:
        return _wrong(f"the body of {where} is longer than {len(evidence.body)} octets: no key authorization is")
    body = evidence.body.rstrip()
    if body == question.key_authorization.encode():
        return None
    token, dot, thumbprint = body.partition(b".")
    if dot and _THUMBPRINT.match(thumbprint) and token == question.token.encode():
        return FailedProof(
            FailureKind.UNAUTHORIZED,
            f"the body of {where} answers this challenge's token for another account key",
        )
    return _wrong(
        f"the body of {where} ({len(evidence.body)} octets) is not the key authorization "
        f"of token {question.token} and the account's key"
    )


def expected_text(key_authorization: str) -> str:
    """What dns-01 wants in a TXT record: base64url without padding of the SHA-256 (RFC 8555 §8.4)."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def judge_texts(question: ControlQuestion, evidence: TextEvidence) -> FailedProof | None:
    """RFC 8555 §8.4: one of the TXT records is the digest. Others may stand beside it (a wildcard's, a renewal's)."""
    expected = expected_text(question.key_authorization)
    wanted = expected.encode()
    if wanted in evidence.texts:
        return None
    found = f"{len(evidence.texts)} TXT record{'' if len(evidence.texts) == 1 else 's'} at {evidence.name}"
    if any(text.strip(b" \t\r\n\"'=") == wanted for text in evidence.texts):
        return _wrong(f"{found}: one is {expected} but within quotation marks, spaces or padding")
    if question.key_authorization.encode() in evidence.texts:
        return _wrong(f"{found}: one is the key authorization itself, not its digest {expected}")
    digests = sum(bool(_THUMBPRINT.match(text)) for text in evidence.texts)
    looks = f", {digests} of them of an answer's shape" if digests else ""
    return _wrong(f"{found}{looks}; none is {expected}")


def judge_handshake(question: ControlQuestion, evidence: HandshakeEvidence) -> FailedProof | None:
    """RFC 8737 §3: `acme-tls/1` agreed, and a self-signed certificate for exactly the name, with the digest."""
    where = f"{evidence.address} (for {question.name.value})"
    if evidence.protocol != ACME_TLS_PROTOCOL:
        return _wrong(f"the TLS server at {where} did not agree to the ALPN protocol acme-tls/1")
    if evidence.certificate_der is None:
        return _wrong(f"the TLS server at {where} showed no certificate")
    try:
        certificate = x509.load_der_x509_certificate(evidence.certificate_der)
        extensions = certificate.extensions
        names = _names_of(extensions)
    except _UNREADABLE:
        return _wrong(f"the certificate of the TLS server at {where} cannot be read")
    fault = (
        _fault_of_signature(certificate)
        or _fault_of_names(question.name, names)
        or _fault_of_digest(question.key_authorization, extensions)
    )
    return _wrong(f"the certificate of the TLS server at {where} {fault}") if fault else None


def _wrong(detail: str) -> FailedProof:
    return FailedProof(FailureKind.INCORRECT_RESPONSE, detail)


def _names_of(extensions: x509.Extensions) -> tuple[x509.GeneralName, ...] | None:
    try:
        return tuple(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None


def _fault_of_signature(certificate: x509.Certificate) -> str | None:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (*_UNREADABLE, InvalidSignature):
        return "is not self-signed"
    return None


def _fault_of_names(name: AltName, found: tuple[x509.GeneralName, ...] | None) -> str | None:
    if found is None:
        return "has no subjectAltName extension"
    if len(found) != 1:
        return f"has {len(found)} names in its subjectAltName, not just {name.value}"
    same = False
    match found[0]:
        case x509.DNSName(value=value) if name.kind is AltNameKind.DNS:
            same = value.lower() == name.value
        case x509.IPAddress(value=value) if name.kind is AltNameKind.IP:
            same = value == ipaddress.ip_address(name.value)
    return None if same else f"is not for {name.value}"


def _fault_of_digest(key_authorization: str, extensions: x509.Extensions) -> str | None:
    try:
        extension = extensions.get_extension_for_oid(ACME_IDENTIFIER)
    except x509.ExtensionNotFound:
        return "has no acmeIdentifier extension"
    if not extension.critical:
        return "has an acmeIdentifier extension that is not critical"
    digest = hashlib.sha256(key_authorization.encode()).digest()
    value = extension.value
    if not isinstance(value, x509.UnrecognizedExtension) or value.value != b"\x04\x20" + digest:
        return "has an acmeIdentifier extension that is not the digest of this challenge's key authorization"
    return None
