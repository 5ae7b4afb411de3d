"""What OCSP and CRLs repeat of a CA certificate, byte for byte; and whether a certificate is one."""

from __future__ import annotations

from cryptography import x509

from opencertd.asn1 import der, signed


def subject_and_key(certificate_der: bytes) -> tuple[bytes, bytes]:
    """The subject in DER, exactly as the certificate has it, and the octets of its subjectPublicKey BIT STRING.

    Encoding the parsed name anew could change its string types, and then nothing would match. Raises DerError.
    """
    tbs, _, _ = signed.split(certificate_der)
    fields = list(der.children(tbs, der.read_only(tbs, der.SEQUENCE)))
    if fields and fields[0].tag == 0xA0:  # version; absent in version 1
        del fields[0]
    if len(fields) < 6:
        raise der.DerError("not a certificate")
    subject, key = fields[4:6]  # after serialNumber, signature, issuer, validity
    key_parts = der.children(tbs, key)
    if subject.tag != der.SEQUENCE or len(key_parts) != 2 or key_parts[1].tag != der.BIT_STRING:
        raise der.DerError("not a certificate")
    return subject.raw(tbs), key_parts[1].content(tbs)[1:]


def is_ca(certificate_der: bytes) -> bool:
    """Whether basicConstraints calls it a CA. What cannot be read is none."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False
