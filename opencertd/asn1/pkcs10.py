"""PKCS#10 certification requests (RFC 2986): what is asked, with possession of the key proven by its signature."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, ExtensionOID

from opencertd.asn1 import pem
from opencertd.asn1.other_names import parse_other_name
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.names import AltName, AltNameKind, parse_alt_name

_MALFORMED = (
    ValueError,
    KeyError,  # a TLS feature that nobody knows
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    InvalidSignature,
)
"""What `cryptography` raises over bytes that are no request, at loading or at the first look at a part."""

_LABELS = (pem.CERTIFICATE_REQUEST, "NEW CERTIFICATE REQUEST")


@dataclass(frozen=True)
class CertificationRequest:
    """What a CSR asks. Everything in it but `spki_der` is a wish.

    `names`: subjectAltName in normal form, in the CSR's order, without repetitions. `challenge_password`: the
    attribute of RFC 2985 §5.4.1, which EST uses for channel binding. Extensions other than subjectAltName are not
    carried: profiles decide them.
    """

    der: bytes
    spki_der: bytes
    subject: x509.Name
    names: tuple[AltName, ...]
    challenge_password: str | None

    def common_names(self) -> tuple[str, ...]:
        """Values of commonName in the subject."""
        found = self.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(a.value for a in found if isinstance(a.value, str))


def parse_csr(data: bytes, *, proven: bool = True) -> CertificationRequest:
    """A PEM or DER request whose signature verifies. Raises Refusal BAD_CSR (MALFORMED names are BAD_CSR too).

    Not `proven`: its signature says nothing, since the key in it will not be certified (RFC 7030 §4.4.1).
    """
    der = _der_of(data)
    try:
        csr = x509.load_der_x509_csr(der)
        spki_der = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        subject, extensions = _subject_and_extensions(csr)
        signed = not proven or csr.is_signature_valid
        password = _challenge_password(csr)
    except UnsupportedAlgorithm:
        raise _bad("its key or signature algorithm is not supported") from None
    except _MALFORMED:
        # Among others an extensionRequest that is not what RFC 2985 says, which surfaces only on this access.
        raise _bad("it is not a well-formed PKCS#10 request") from None
    if not signed:
        raise _bad("its signature does not verify")
    return CertificationRequest(der, spki_der, subject, _names(extensions), password)


def _der_of(data: bytes) -> bytes:
    if b"-----BEGIN" not in data:
        return data
    try:
        blocks = [der for label, der in pem.parse_pem(data) if label in _LABELS]
    except ValueError as error:
        raise _bad(str(error)) from None
    if len(blocks) != 1:
        raise _bad("the PEM text does not hold exactly one CERTIFICATE REQUEST")
    return blocks[0]


def _subject_and_extensions(csr: x509.CertificateSigningRequest) -> tuple[x509.Name, x509.Extensions]:
    """Without warnings about attributes too long or short: profiles refuse those, and the log is not the client's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return csr.subject, csr.extensions


def subject_in_request(csr: x509.CertificateSigningRequest) -> x509.Name:
    """The subject that is asked. Raises Refusal BAD_CSR."""
    try:
        return _subject_and_extensions(csr)[0]
    except _MALFORMED:
        raise _bad("its subject is not well-formed") from None


def names_in_request(csr: x509.CertificateSigningRequest) -> tuple[AltName, ...]:
    """The subjectAltName that is asked, in normal form. Raises Refusal BAD_CSR."""
    try:
        return _names(_subject_and_extensions(csr)[1])
    except _MALFORMED:
        raise _bad("its subjectAltName is not well-formed") from None


def _bad(why: str) -> Refusal:
    return Refusal(RefusalKind.BAD_CSR, f"the certificate request was refused: {why}")


def _challenge_password(csr: x509.CertificateSigningRequest) -> str | None:
    try:
        attribute = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
    except x509.AttributeNotFound:
        return None
    return attribute.value.decode("utf-8", "replace")  # openssl req writes others in T61String or BMPString


def _names(extensions: x509.Extensions) -> tuple[AltName, ...]:
    try:
        asked = extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return ()
    if not isinstance(asked, x509.SubjectAlternativeName):
        raise _bad("its subjectAltName is not well-formed")
    return tuple(dict.fromkeys(_alt_name(name) for name in asked))


def _alt_name(name: x509.GeneralName) -> AltName:
    try:
        if isinstance(name, x509.DNSName):
            return parse_alt_name(AltNameKind.DNS, name.value)
        if isinstance(name, x509.IPAddress):
            return parse_alt_name(AltNameKind.IP, str(name.value))
        if isinstance(name, x509.RFC822Name):
            return parse_alt_name(AltNameKind.EMAIL, name.value)
        if isinstance(name, x509.UniformResourceIdentifier):
            return parse_alt_name(AltNameKind.URI, name.value)
        if isinstance(name, x509.OtherName):
            device = parse_other_name(name.type_id.dotted_string, name.value)
            if device is not None:
                return device
    except Refusal as refusal:
        raise _bad(refusal.detail) from None
    raise _bad(
        "it asks for a kind of subjectAltName other than dNSName, iPAddress, rfc822Name, URI, and otherNames of "
        "permanent identifiers and hardware modules"
    )


def names_of_certificate(certificate: x509.Certificate) -> tuple[AltName, ...]:
    """The subjectAltName of a certificate in normal form. Raises Refusal BAD_CSR for kinds this CA does not issue."""
    return _names(certificate.extensions)


def known_names_of_certificate(certificate: x509.Certificate) -> tuple[AltName, ...]:
    """As `names_of_certificate`, without those of kinds that this CA does not issue, for another CA's certificates."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names: dict[AltName, None] = {}
    for name in found if isinstance(found, x509.SubjectAlternativeName) else ():
        with contextlib.suppress(Refusal):
            names[_alt_name(name)] = None
    return tuple(names)
