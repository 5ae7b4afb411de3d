"""Asking a responder about a certificate, and fetching the certificate of whoever issued it.

Both go over plain HTTP as over TLS, whose certificates nobody looks at: answers are signed, and an issuer is taken for
one when the certificate bears its signature.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID
from twisted.internet.interfaces import IReactorTime

from opencertd.asn1 import cms, pem
from opencertd.asn1.der import DerError
from opencertd.client.bounds import Limits
from opencertd.client.errors import ClientError
from opencertd.client.http import HttpsClient, bounded_agent
from opencertd.client.ocsp_answer import is_issued_by
from opencertd.client.tls import TlsSettings
from opencertd.errors import Refusal

MOST_OCTETS = 1 << 17
REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"


class OcspClient:
    """`seconds`: for each exchange."""

    def __init__(self, reactor: IReactorTime, seconds: float) -> None:
        limits = Limits(seconds=seconds, size=MOST_OCTETS)
        self._client = HttpsClient(bounded_agent(reactor, TlsSettings(None, unverified=True), limits, plain=True))

    async def ask(self, url: str, request_der: bytes) -> bytes:
        """The answer of the responder at `url`, by POST, nothing in it checked yet. Raises ClientError."""
        answer = await self._client.post(url, {"Content-Type": REQUEST_TYPE}, request_der)
        if answer.status != 200:
            raise ClientError(f"{url} answered with HTTP status {answer.status}")
        media_type = (answer.header("Content-Type") or "nothing").partition(";")[0].strip().lower()
        if media_type != RESPONSE_TYPE:
            raise ClientError(f"{url} answered with {media_type[:80]!a}, not with {RESPONSE_TYPE}")
        return answer.body

    async def issuer(self, certificate: x509.Certificate) -> x509.Certificate:
        """The issuer, from where the certificate says it is. Raises ClientError."""
        url = access_url(certificate, AuthorityInformationAccessOID.CA_ISSUERS)
        if url is None:
            raise ClientError("the certificate does not say where its issuer is: give that by --issuer")
        answer = await self._client.get(url)
        if answer.status != 200:
            raise ClientError(f"{url} answered with HTTP status {answer.status}: give the issuer by --issuer")
        for found in _certificates(answer.body):
            if is_issued_by(certificate, found):
                return found
        raise ClientError(f"what is at {url} did not issue the certificate: give the issuer by --issuer")


def access_url(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str | None:
    """The first http or https URL of that kind in the certificate's authorityInfoAccess. Raises ClientError."""
    try:
        places = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ClientError(f"the certificate's extensions cannot be read: {error}") from None
    for place in places:
        location = place.access_location
        if place.access_method != method or not isinstance(location, x509.UniformResourceIdentifier):
            continue
        url = location.value
        if url.isascii() and url.isprintable() and url.lower().startswith(("http://", "https://")):
            return url
    return None


def _certificates(data: bytes) -> list[x509.Certificate]:
    """Of a DER certificate, a certs-only CMS or PEM (RFC 5280 §4.2.2.1)."""
    try:
        if b"-----BEGIN" in data:
            ders = pem.parse_certificates(data)
        else:
            try:
                return [x509.load_der_x509_certificate(data)]
            except ValueError:
                ders = cms.decode_certs_only(data)
        return [x509.load_der_x509_certificate(each) for each in ders]
    except (ValueError, DerError, Refusal):
        return []
