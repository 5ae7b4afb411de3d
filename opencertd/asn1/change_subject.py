"""ChangeSubjectName: the names that a renewed certificate is to have instead of its predecessor's (RFC 6402 §2.8)."""

from __future__ import annotations

import dataclasses

from cryptography import x509

from opencertd.asn1 import der
from opencertd.asn1.pkcs10 import CertificationRequest, names_in_request, subject_in_request
from opencertd.errors import Refusal, RefusalKind

CHANGE_SUBJECT_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_SUBJECT_ALT_NAME = "2.5.29.17"
_ALT_FIELD = 0xA1


def changed_names(request: CertificationRequest) -> CertificationRequest | None:
    """`request` with the names it wants to change to; None when it wants to keep those it has.

    A part that the attribute leaves out stays. Raises Refusal BAD_CSR for what is no ChangeSubjectName.
    """
    try:
        attribute = x509.load_der_x509_csr(request.der).attributes.get_attribute_for_oid(CHANGE_SUBJECT_NAME)
    except x509.AttributeNotFound:
        return None
    value = der.tlv(der.SEQUENCE, attribute.value)
    try:
        parts = der.children(value, der.read_only(value, der.SEQUENCE))
        fields = {part.tag: part for part in parts}
        if not parts or len(fields) != len(parts) or not fields.keys() <= {der.SEQUENCE, _ALT_FIELD}:
            raise der.DerError("neither a subject nor alternative names")
        subject, alternatives = fields.get(der.SEQUENCE), fields.get(_ALT_FIELD)
        if alternatives is not None and not alternatives.content(value):
            raise der.DerError("no alternative name at all")
        changed = _rewritten(
            request.der,
            None if subject is None else subject.raw(value),
            b"" if alternatives is None else der.tlv(der.SEQUENCE, alternatives.content(value)),
        )
        return dataclasses.replace(
            request,
            subject=request.subject if subject is None else subject_in_request(changed),
            names=request.names if alternatives is None else names_in_request(changed),
        )
    except ValueError:
        raise Refusal(
            RefusalKind.BAD_CSR, "the certificate request was refused: its ChangeSubjectName is not well-formed"
        ) from None


def _rewritten(csr_der: bytes, subject_der: bytes | None, names_der: bytes) -> x509.CertificateSigningRequest:
    """The request with other names in the usual places, for the reader of those; its signature means nothing."""
    information, algorithm, signature = der.children(csr_der, der.read_only(csr_der, der.SEQUENCE))
    version, subject, key, *_ = der.children(csr_der, information)
    extension = der.sequence(der.oid(_SUBJECT_ALT_NAME), der.octet_string(names_der))
    wish = der.sequence(der.oid(_EXTENSION_REQUEST), der.tlv(der.SET, der.sequence(extension)))
    rewritten = der.sequence(
        version.raw(csr_der),
        subject_der or subject.raw(csr_der),
        key.raw(csr_der),
        der.tlv(0xA0, wish if names_der else b""),
    )
    return x509.load_der_x509_csr(der.sequence(rewritten, algorithm.raw(csr_der), signature.raw(csr_der)))
