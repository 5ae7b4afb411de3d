"""What an OCSP response says of one certificate, and whether a client may go by it (RFC 6960 §3.2, §4.2.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from opencertd.asn1 import der, dn, signed
from opencertd.asn1.ocsp import hash_issuer, responder_id
from opencertd.client.errors import ClientError
from opencertd.keys.kinds import PublicKey, verifies

CLOCKS_DIFFER = timedelta(minutes=5)
HASH_NAME = "sha1"
"""Of the CertID in requests: the one that every responder knows."""

_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_STATUSES = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "it does not understand the request (malformedRequest)",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "it has a fault of its own (internalError)",
    ocsp.OCSPResponseStatus.TRY_LATER: "it cannot answer just now (tryLater)",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "it wants signed requests (sigRequired)",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "it does not answer for this CA, or not to everybody (unauthorized)",
}


@dataclass(frozen=True)
class OcspFinding:
    """What a client may go by. `status`: good, revoked or unknown. `reason`: as RFC 5280 spells it.

    `signed_by`: in words. `remarks`: what is not wrong but worth knowing.
    """

    status: str
    revoked_at: datetime | None
    reason: str | None
    this_update: datetime
    next_update: datetime | None
    produced_at: datetime
    signed_by: str
    nonce: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class OcspQuestion:
    """Is `certificate`, by `issuer`, good? `nonce`: to be echoed, or None."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    nonce: bytes | None = None

    def encode(self) -> bytes:
        """The request in DER."""
        name_hash, key_hash = self._hashes()
        algorithm = der.sequence(der.oid("1.3.14.3.2.26"), der.null())
        serial = der.integer(self.certificate.serial_number)
        cert_id = der.sequence(algorithm, der.octet_string(name_hash), der.octet_string(key_hash), serial)
        extensions = b""
        if self.nonce is not None:
            extension = der.sequence(_NONCE, der.octet_string(der.octet_string(self.nonce)))
            extensions = der.explicit(2, der.sequence(extension))
        return der.sequence(der.sequence(der.sequence(der.sequence(cert_id)), extensions))

    def answered_by(self, single: ocsp.OCSPSingleResponse) -> bool:
        """Whether that is about the certificate."""
        said = (single.issuer_name_hash, single.issuer_key_hash, single.serial_number)
        return single.hash_algorithm.name == HASH_NAME and said == (*self._hashes(), self.certificate.serial_number)

    def _hashes(self) -> tuple[bytes, bytes]:
        return hash_issuer(self.issuer.public_bytes(Encoding.DER), HASH_NAME)


def judge(answer_der: bytes, question: OcspQuestion, now: datetime) -> OcspFinding:
    """What the answer to the question says. Raises ClientError when a client must not go by it."""
    try:
        response = ocsp.load_der_ocsp_response(answer_der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise ClientError(f"the responder has no answer: {_STATUSES[response.response_status]}")
        return _judge(response, answer_der, question, now)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ClientError(f"the answer is no OCSP response that can be read: {error}") from None


def _judge(response: ocsp.OCSPResponse, answer_der: bytes, question: OcspQuestion, now: datetime) -> OcspFinding:
    signer = _signer(response, question.issuer)
    delegated = signer != question.issuer
    if delegated:
        _check_delegate(signer, question.issuer, now)
    tbs, algorithm, signature = signed.split_ocsp(answer_der)
    if not _made_by(signer, signature, tbs, algorithm):
        raise ClientError("the answer's signature is wrong")
    single = next(filter(question.answered_by, response.responses), None)
    if single is None:
        raise ClientError("the answer is about other certificates")
    echoed = _check_nonce(response, question.nonce)
    _check_times(response, single, now)
    return OcspFinding(
        status=single.certificate_status.name.lower(),
        revoked_at=single.revocation_time_utc,
        reason=None if single.revocation_reason is None else single.revocation_reason.value,
        this_update=single.this_update_utc,
        next_update=single.next_update_utc,
        produced_at=response.produced_at_utc,
        signed_by=_in_words(signer, delegated),
        nonce=echoed,
        remarks=tuple(_remarks(response, single, signer if delegated else None)),
    )


def _signer(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> x509.Certificate:
    """The certificate that the ResponderID means: the CA's own, or one that is enclosed."""
    by_name = response.responder_name is not None
    for found in (issuer, *response.certificates):
        if by_name:
            meant = response.responder_name == found.subject
        else:
            wanted = der.explicit(2, der.octet_string(response.responder_key_hash or b""))
            meant = responder_id(found.public_bytes(Encoding.DER)) == wanted
        if meant:
            return found
    raise ClientError("the answer is neither signed by the CA nor encloses the certificate of whoever signed it")


def _check_delegate(delegate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960 §4.2.2.2: issued by the CA itself, for this."""
    if not is_issued_by(delegate, issuer):
        raise ClientError("whoever signed the answer has no certificate by the CA that issued yours")
    try:
        usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        raise ClientError("the CA did not allow whoever signed the answer to do so: its certificate lacks OCSPSigning")
    if not delegate.not_valid_before_utc - CLOCKS_DIFFER <= now <= delegate.not_valid_after_utc:
        raise ClientError(
            f"the responder's certificate is good from {_moment(delegate.not_valid_before_utc)} to "
            f"{_moment(delegate.not_valid_after_utc)} only"
        )


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key stand behind the certificate."""
    if certificate.issuer != issuer.subject:
        return False
    tbs, algorithm, signature = signed.split(certificate.public_bytes(Encoding.DER))
    return _made_by(issuer, signature, tbs, algorithm)


def _made_by(signer: x509.Certificate, signature: bytes, tbs: bytes, algorithm_der: bytes) -> bool:
    key = signer.public_key()
    return isinstance(key, PublicKey) and verifies(key, signature, tbs, algorithm_der)


def _check_nonce(response: ocsp.OCSPResponse, nonce: bytes | None) -> bool:
    """Whether ours was echoed. Raises ClientError when another was, or none though we sent one."""
    try:
        echoed = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        if nonce is None:
            return False
        raise ClientError(
            "the nonce is not in the answer: it may be an old one that somebody replays; ask without --nonce to see it"
        ) from None
    if nonce is not None and echoed != nonce:
        raise ClientError("the answer has another nonce: it is to somebody else's question")
    return nonce is not None


def _check_times(response: ocsp.OCSPResponse, single: ocsp.OCSPSingleResponse, now: datetime) -> None:
    if single.this_update_utc > now + CLOCKS_DIFFER:
        raise ClientError(f"the answer begins only at {_moment(single.this_update_utc)}: is a clock wrong?")
    if single.next_update_utc is not None and single.next_update_utc < now - CLOCKS_DIFFER:
        raise ClientError(f"the answer has ended at {_moment(single.next_update_utc)}")
    if response.produced_at_utc > now + CLOCKS_DIFFER:
        raise ClientError(f"the answer was signed at {_moment(response.produced_at_utc)}: is a clock wrong?")


def _in_words(signer: x509.Certificate, delegated: bool) -> str:
    name = dn.format_dn(signer.subject)
    return f"{name}, named by the CA until {_moment(signer.not_valid_after_utc)}" if delegated else f"the CA, {name}"


def _remarks(
    response: ocsp.OCSPResponse, single: ocsp.OCSPSingleResponse, delegate: x509.Certificate | None
) -> Iterator[str]:
    if single.next_update_utc is None:
        yield "newer information is always there: the answer has no nextUpdate"
    if delegate is not None and not any(isinstance(each.value, x509.OCSPNoCheck) for each in delegate.extensions):
        yield "the responder's certificate has no ocsp-nocheck: clients may want to know whether that is revoked"
    oids = {extension.oid.dotted_string for extension in response.extensions}
    if "1.3.6.1.5.5.7.48.1.9" in oids and single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        yield "the responder calls revoked what was never issued, too (extended revoke)"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
