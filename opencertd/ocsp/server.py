"""The OCSP conversation: a request's bytes in, an answer out, from memory when it was prepared, else one look into
the store and one signature.

Which issuer is meant is found by the hashes in the CertID. One response has one signature, and RFC 6960 §4.2.2.2
lets nobody but a responder of the issuing CA make it; §4.2.2.3 wants every certificate of the request in it. So:
certificates of one of our issuers are answered together; among them, those of a CA we do not know are `unknown`
(§2.2); a request without any issuer of ours, or with several, is `unauthorized`: we cannot answer it with authority
(§2.3), and saying `unknown` of a certificate we did issue would be a lie. (`openssl ocsp` believes no response over
several issuers either; its users ask once for each.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.asn1 import ocsp
from opencertd.asn1.ocsp import CertId, CertStatus, OcspRequest
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.model.certificates import Revocation
from opencertd.ocsp.feed import RevocationFeed
from opencertd.ocsp.messages import OcspAnswer, build_refusal, build_shared_answer
from opencertd.ocsp.prepared import PreparedAnswers
from opencertd.ocsp.responder import Responder, ResponderKeeper
from opencertd.ocsp.store import CertificateStatus, StatusStore

_SERIALS = range(1 << 160)  # RFC 5280 §4.1.2.2, and 0, which imported CAs may have given; others nobody has

Status = CertStatus | Revocation
Namesakes = tuple[Issuer, ...]
"""Issuers with one name and one key: a CA certificate and its renewals. CertIDs cannot tell them apart."""


class OcspServer:
    """Answers for every issuer of `issuers`.

    `window`: from thisUpdate to nextUpdate. A prepared answer is given for half of it, so that nobody receives one
    about to run out. `most_prepared` and `most_octets`: how many are kept, and how much of them.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        issuers: Issuers,
        store: StatusStore,
        keeper: ResponderKeeper,
        clock: Clock,
        reactor: IReactorTime,
        window: timedelta = timedelta(hours=1),
        most_prepared: int = 100_000,
        most_octets: int = 128 << 20,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._window = window
        self._prepared = PreparedAnswers(most_prepared, most_octets)
        self.adopt(issuers)
        self._feed = RevocationFeed(store=store, on_revoked=self.note_revoked, clock=clock, reactor=reactor)

    def adopt(self, issuers: Issuers) -> None:
        """Answer for these from now on. What is prepared stays: an issuer that there was is there still."""
        self._by_hashes = _index(issuers)
        self._first_of = {one.id: group[0].id for group in self._by_hashes.values() for one in group}

    def start(self) -> None:
        """Begin to follow revocations."""
        self._feed.start()

    async def stop(self) -> None:
        """Follow revocations no more."""
        await self._feed.stop()

    def note_revoked(self, issuer_id: str, serial: int) -> None:
        """The certificate's status changed, also back to good: prepared answers about it are no longer given."""
        self._prepared.drop((self._first_of.get(issuer_id, issuer_id), serial))

    def prepared(self, request_der: bytes) -> OcspAnswer | None:
        """The answer to this request if it is at hand: the whole of the fast path, without parsing."""
        cert_id_der = ocsp.simple_cert_id(request_der)
        return None if cert_id_der is None else self.prepared_for(cert_id_der, self._clock.now())

    def prepared_for(self, cert_id_der: bytes, now: datetime) -> OcspAnswer | None:
        """The answer about this CertID if it is at hand."""
        return self._prepared.get(cert_id_der, now)

    async def answer(self, request_der: bytes) -> OcspAnswer:
        """The answer to a request; refusals are OCSP statuses, so none is raised."""
        at_hand = self.prepared(request_der)
        if at_hand is not None:
            return at_hand
        try:
            request = ocsp.parse_request(request_der)
            if len(request.cert_ids) == 1 and request.nonce is None:
                return await self._shared(request)
            return await self._fresh(request)
        except Refusal as refusal:
            return build_refusal(refusal)

    async def _shared(self, request: OcspRequest) -> OcspAnswer:
        """The answer about one certificate, for anybody, kept when the certificate exists."""
        (cert_id,) = request.cert_ids
        at_hand = self._prepared.get(cert_id.der, self._clock.now())
        if at_hand is not None:
            return at_hand
        issuers = self._responsible(request.cert_ids)
        with self._prepared.preparing((issuers[0].id, cert_id.serial)) as preparation:
            answer = await self._fresh(request)
            if answer.freshness is not None:
                since, until = answer.freshness.this_update, answer.freshness.next_update
                self._prepared.keep(preparation, cert_id.der, answer, since, since + (until - since) / 2)
        return answer

    async def _fresh(self, request: OcspRequest) -> OcspAnswer:
        issuers = self._responsible(request.cert_ids)
        responder = await self._keeper.responder(issuers[0])
        now = self._clock.now().replace(microsecond=0)
        statuses = await self._statuses(issuers, request.cert_ids)
        next_update = min(now + self._window, responder.not_after)
        body = await _sign(request, statuses, responder, now, next_update)
        if request.nonce is not None or CertStatus.UNKNOWN in statuses:
            return OcspAnswer(body)  # what is unknown now may be issued in the next second
        return build_shared_answer(body, now, next_update)

    def _responsible(self, cert_ids: Sequence[CertId]) -> Namesakes:
        """The issuer (with its namesakes) that the request is about. Refusal UNAUTHORIZED for none or several."""
        groups = (self._issuers_of(cert_id) for cert_id in cert_ids)
        found = {group[0].id: group for group in groups if group}
        if not found:
            raise Refusal(RefusalKind.UNAUTHORIZED, "no issuer of these certificates is served here")
        if len(found) > 1:
            raise Refusal(RefusalKind.UNAUTHORIZED, "certificates of several issuers need a request for each issuer")
        return found.popitem()[1]

    def _issuers_of(self, cert_id: CertId) -> Namesakes:
        return self._by_hashes.get((cert_id.hash_name, cert_id.name_hash, cert_id.key_hash), ())

    async def _statuses(self, issuers: Namesakes, cert_ids: Sequence[CertId]) -> tuple[Status, ...]:
        """The status of each CertID, in their order."""
        ours = [cert_id for cert_id in cert_ids if self._issuers_of(cert_id) and cert_id.serial in _SERIALS]
        serials = tuple(dict.fromkeys(cert_id.serial for cert_id in ours))
        known: dict[int, CertificateStatus] = {}
        for issuer in issuers if serials else ():
            known |= await self._ask(issuer, serials)
        meant = {cert_id.der for cert_id in ours}
        return tuple(_status(known.get(c.serial) if c.der in meant else None) for c in cert_ids)

    async def _ask(self, issuer: Issuer, serials: tuple[int, ...]) -> dict[int, CertificateStatus]:
        try:
            return await self._store.statuses(issuer.id, serials)
        except (CancelledError, Refusal):
            raise
        except Exception:  # a store that is away is no fault of the request: tryLater, not internalError
            self._log.failure("the store does not answer for statuses")
            raise Refusal(RefusalKind.UNAVAILABLE, "the store is away", retry_after=5) from None


def _index(issuers: Issuers) -> dict[tuple[str | None, bytes, bytes], Namesakes]:
    by_hashes: dict[tuple[str | None, bytes, bytes], Namesakes] = {}
    for issuer in issuers.all():
        for hash_name in ocsp.HASH_NAMES:
            key = (hash_name, *ocsp.hash_issuer(issuer.certificate_der, hash_name))
            by_hashes[key] = (*by_hashes.get(key, ()), issuer)
    return by_hashes


def _status(known: CertificateStatus | None) -> Status:
    if known is None:
        return CertStatus.UNKNOWN
    return CertStatus.GOOD if known.revocation is None else known.revocation


async def _sign(
    request: OcspRequest,
    statuses: Sequence[Status],
    responder: Responder,
    this_update: datetime,
    next_update: datetime,
) -> bytes:
    responses = [
        ocsp.encode_single_response(cert_id.der, status, this_update, next_update)
        for cert_id, status in zip(request.cert_ids, statuses, strict=True)
    ]
    data = ocsp.encode_response_data(responder.key_hash, this_update, responses, request.nonce)
    signature = await responder.signer.sign(data)
    return ocsp.encode_response(data, responder.signer.algorithm_der, signature, (responder.certificate_der,))
