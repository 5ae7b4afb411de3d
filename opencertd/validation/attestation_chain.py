"""From an attestation's certificates to a root that settings name: of RFC 5280 §6.1 what such chains have of it.

Pure. What is not understood refuses: critical extensions, and name constraints among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

MOST = 6
"""Certificates in a statement."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # a TLS feature that nobody knows
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class ChainError(ValueError):
    """The certificates do not lead to a root; the words say where they fail."""


def check_chain(chain_der: Sequence[object], roots: Sequence[x509.Certificate], now: datetime) -> x509.Certificate:
    """The first of the certificates, after those above it have led to one of `roots`. Raises `ChainError`."""
    if not 0 < len(chain_der) <= MOST or not all(isinstance(each, bytes) for each in chain_der):
        raise ChainError(f"x5c is not 1 to {MOST} certificates")
    try:
        leaf, *others = (x509.load_der_x509_certificate(each) for each in chain_der if isinstance(each, bytes))
        if _is_ca(leaf):
            raise ChainError("the first certificate is a CA's")
        _climb(leaf, others, roots, now)
    except ChainError:
        raise
    except _UNREADABLE:
        raise ChainError("a certificate of x5c cannot be read") from None
    return leaf


def _climb(
    leaf: x509.Certificate, others: list[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> None:
    current = leaf
    for below in range(MOST):
        _check_itself(current, now)
        if any(_issued(root, current) and _can_issue(root, below) for root in roots):
            return
        above = next((each for each in others if _issued(each, current) and _can_issue(each, below)), None)
        if above is None:
            break
        others.remove(above)
        current = above
    raise ChainError("x5c does not lead to a root that this CA's settings name for this format")


def _check_itself(certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ChainError("a certificate of x5c is not valid now")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise ChainError(f"a certificate of x5c has the critical extension {extension.oid.dotted_string}")


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    found = _basic(certificate)
    return found is not None and found.ca


def _can_issue(certificate: x509.Certificate, below: int) -> bool:
    """Whether it is a CA's, for chains with `below` CAs between it and the first certificate."""
    found = _basic(certificate)
    if found is None or not found.ca or (found.path_length is not None and found.path_length < below):
        return False
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _basic(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None
