"""Whether whoever asks is to be answered: everybody, unless settings or an application say otherwise.

A signed request is answered only when its signature is good and its signer has a certificate of this CA (RFC 6960
§4.1.2): whoever signs wants to be known, and to pass over a false signature would tell them that they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from cryptography import x509
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.ocsp import OcspRequest
from opencertd.asn1.ocsp_wishes import RequestSignature
from opencertd.errors import Refusal, RefusalKind
from opencertd.keys.kinds import PublicKey, verifies
from opencertd.model.certificates import CertificateRecord, CertificateState
from opencertd.ocsp.inquiry import CheckInquiry, OcspInquiry
from opencertd.web.client_trust import ClientTrust

CHECK_SECONDS = 10.0


Recognise = Callable[[bytes], Awaitable[CertificateRecord | None]]
"""Our record of exactly this certificate."""


class Admission:
    """`trust` and `recognise` judge signers. `required`: nobody is answered who does not sign. `check`: code of an
    application.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        trust: ClientTrust,
        recognise: Recognise,
        reactor: IReactorTime,
        required: bool = False,
        check: CheckInquiry | None = None,
    ) -> None:
        self._trust = trust
        self._recognise = recognise
        self._reactor = reactor
        self._required = required
        self._check = check

    @property
    def guarded(self) -> bool:
        """Whether some are not answered, so that no answer may be given to whoever happens to ask for it."""
        return self._required or self._check is not None

    async def signer(self, request: OcspRequest) -> CertificateRecord | None:
        """Who signed the request, if anybody did. Refusals: UNAUTHENTICATED when somebody must have, UNAUTHORIZED for
        signers whom this CA does not know, MALFORMED for a signature that is none.
        """
        if request.signature is None:
            if self._required:
                raise Refusal(RefusalKind.UNAUTHENTICATED, "requests are to be signed here")
            return None
        return await self._verified(request.signature)

    async def _verified(self, signature: RequestSignature) -> CertificateRecord:
        if not signature.certificates_der:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the request encloses no certificate of its signer")
        certificate_der, *others = signature.certificates_der
        try:
            self._trust.check(certificate_der, others)
        except Refusal as refusal:
            raise Refusal(RefusalKind.UNAUTHORIZED, refusal.detail) from None
        record = await self._recognise(certificate_der)
        if record is None or record.state is not CertificateState.ISSUED or record.revocation is not None:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the signer's certificate is revoked, or none of this CA's")
        if signature.name_der is not None and signature.name_der != subject_and_key(certificate_der)[0]:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the requestorName is not that of the signer's certificate")
        key = x509.load_der_x509_certificate(certificate_der).public_key()
        if not isinstance(key, PublicKey) or not verifies(
            key, signature.signature, signature.tbs_der, signature.algorithm_der
        ):
            raise Refusal(RefusalKind.MALFORMED, "the request's signature is wrong")
        return record

    async def check(self, inquiry: OcspInquiry) -> None:
        """Refusals: UNAUTHORIZED when the application does not want it answered, UNAVAILABLE when it takes too long to
        say, INTERNAL when it fails.
        """
        if self._check is None:
            return
        try:
            said = self._check(inquiry)
            if inspect.isawaitable(said):
                said = await Deferred.fromCoroutine(_awaited(said)).addTimeout(CHECK_SECONDS, self._reactor)
        except TimeoutError:
            raise Refusal(RefusalKind.UNAVAILABLE, "it takes too long to find out whether to answer") from None
        except (CancelledError, Refusal):
            raise
        except Exception:  # whatever an application's code does, clients get an answer and operators the reason
            self._log.failure("the application's check of OCSP requests failed")
            raise Refusal(RefusalKind.INTERNAL, "it cannot be found out whether to answer") from None
        if said is not True:
            raise Refusal(RefusalKind.UNAUTHORIZED, "this is not to be answered")


async def _awaited(answer: Awaitable[bool]) -> bool:
    return await answer
