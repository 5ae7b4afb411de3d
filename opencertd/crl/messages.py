"""A CRL built and looked over before anybody sees it; how HTTP clients ask for its form. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from datetime import datetime
from urllib.parse import parse_qs

from cryptography import x509

from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.crl import encode_entries, encode_tbs_cert_list
from opencertd.asn1.signed import assemble
from opencertd.crl.store import RevokedEntry
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import PublicKey, verifies


class UnsoundCrl(Exception):  # noqa: N818  (what it is, as `Refusal` is)
    """A CRL that must not be published; says what is wrong with it."""


class CrlForm(enum.Enum):
    """DER or PEM; the value is the media type (RFC 2585 §4.2 for DER; PEM has none registered)."""

    DER = "application/pkix-crl"
    PEM = "application/x-pem-file"


_FORMS: Mapping[str, CrlForm] = {"der": CrlForm.DER, "pem": CrlForm.PEM}


def choose_form(uri: bytes, accept: str | None) -> CrlForm:
    """`?format=der|pem` decides, else whether `Accept` names PEM; DER otherwise. Refusal MALFORMED."""
    asked = parse_qs(uri.partition(b"?")[2].decode("latin-1")).get("format")
    if asked is not None:
        form = _FORMS.get(asked[-1].lower())
        if form is None:
            raise Refusal(RefusalKind.MALFORMED, f"format is der or pem, not {asked[-1][:40]!r}")
        return form
    offered = {part.partition(";")[0].strip().lower() for part in (accept or "").split(",")}
    if CrlForm.PEM.value in offered and CrlForm.DER.value not in offered:
        return CrlForm.PEM
    return CrlForm.DER


def build_tbs(
    issuer: Issuer, number: int, this_update: datetime, next_update: datetime, entries: Collection[RevokedEntry]
) -> bytes:
    """TBSCertList of the issuer's full CRL."""
    return encode_tbs_cert_list(
        algorithm_der=issuer.signer.algorithm_der,
        issuer_der=subject_and_key(issuer.certificate_der)[0],
        authority_key_identifier=issuer.subject_key_identifier,
        number=number,
        this_update=this_update,
        next_update=next_update,
        entries_der=encode_entries((entry.serial, entry.revocation) for entry in entries),
    )


def build_crl(
    issuer: Issuer, number: int, tbs_der: bytes, signature: bytes, entries: Collection[RevokedEntry]
) -> bytes:
    """The signed CRL, checked as a relying party would: it parses, it verifies, its number is right, and no serial
    is missing or strange. Raises UnsoundCrl.
    """
    crl_der = assemble(tbs_der, issuer.signer.algorithm_der, signature)
    try:
        crl = x509.load_der_x509_crl(crl_der)
        named = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        same_issuer = crl.issuer == issuer.certificate.subject
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise UnsoundCrl(f"the CRL of {issuer.name} does not parse: {error}") from error
    # Over the bytes at hand: the CRL's own check would encode all entries anew, for seconds, and hold the GIL.
    key = issuer.certificate.public_key()
    if not isinstance(key, PublicKey) or not verifies(key, signature, tbs_der, issuer.signer.algorithm_der):
        raise UnsoundCrl(f"the signature of the CRL of {issuer.name} does not verify")
    if named != number or not same_issuer:
        raise UnsoundCrl(f"the CRL of {issuer.name} bears another number or issuer than it should")
    if serials_of(crl_der) != {entry.serial for entry in entries}:
        raise UnsoundCrl(f"the CRL of {issuer.name} does not list exactly the revoked serials")
    return crl_der


def serials_of(crl_der: bytes) -> set[int]:
    """The serials a CRL lists."""
    return {entry.serial_number for entry in x509.load_der_x509_crl(crl_der)}
