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
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.asn1 import ocsp
from opencertd.asn1.ocsp import CertId, CertStatus, OcspRequest
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.ocsp.admission import Admission
from opencertd.ocsp.feed import RevocationFeed
from opencertd.ocsp.index import IssuerIndex, Namesakes
from opencertd.ocsp.inquiry import OcspInquiry
from opencertd.ocsp.messages import Freshness, OcspAnswer, build_refusal
from opencertd.ocsp.prepared import Preparation, PreparedAnswers
from opencertd.ocsp.responder import Responder, ResponderKeeper
from opencertd.ocsp.signing import Status, Times, preferred_signer, sign_answer
from opencertd.ocsp.store import CertificateStatus, StatusStore
from opencertd.ocsp.terms import NEVER_ISSUED, USUAL, OcspTerms

_SERIALS = range(1 << 160)  # RFC 5280 §4.1.2.2, and 0, which imported CAs may have given; others nobody has


class _Made(NamedTuple):
    """An answer with what it was made of."""

    answer: OcspAnswer
    statuses: tuple[Status, ...]
    responder: Responder
    this_update: datetime
    next_update: datetime


class OcspServer:
    """Answers for every issuer of `issuers`.

    A prepared answer is given for half its time. `admission`: who is answered; without one everybody, and signatures
    are passed over. `most_octets`: how much memory prepared answers may take.
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
        terms: OcspTerms = USUAL,
        admission: Admission | None = None,
        most_octets: int = 512 << 20,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._terms = terms
        self._admission = admission
        self._guarded = admission is not None and admission.guarded
        self._prepared = PreparedAnswers(most_octets)
        self.prepared_entry = self._prepared.entry
        self.adopt(issuers)
        self._feed = RevocationFeed(store=store, on_revoked=self.note_revoked, clock=clock, reactor=reactor)

    def adopt(self, issuers: Issuers) -> None:
        """Answer for these from now on. What is prepared stays: an issuer that there was is there still."""
        self._index = IssuerIndex(issuers)
        self._windows = {issuer.id: self._terms.window_of(issuer.name) for issuer in issuers.all()}

    def start(self) -> None:
        """Begin to follow revocations."""
        self._feed.start()

    async def stop(self) -> None:
        """Follow revocations no more."""
        await self._feed.stop()

    def note_revoked(self, issuer_id: str, serial: int) -> None:
        """The certificate's status changed, also back to good: prepared answers about it are no longer given."""
        certificate = self._index.certificate(issuer_id, serial)
        self._prepared.drop(certificate, self._index.cert_ids(certificate))

    def at_hand(self, request_der: bytes, now: datetime) -> OcspAnswer | None:
        """The answer to this request if it was prepared, or can be signed from what is known: the whole of the fast
        path, without parsing.
        """
        if self._guarded:
            return None
        cert_id_der = ocsp.simple_cert_id(request_der)
        if cert_id_der is not None:
            return self._prepared.get(cert_id_der, now)
        nonced = ocsp.nonced_cert_id(request_der)
        if nonced is None:
            return None
        return self._signed_now(*nonced, now) if self._terms.nonces else self._prepared.get(nonced[0], now)

    def _signed_now(self, cert_id_der: bytes, nonce: bytes, now: datetime) -> OcspAnswer | None:
        """The answer with a nonce about a certificate whose status is known, as of when the feed was last heard.

        While the feed is not heard the store itself is asked, and if it is away nobody is told anything.
        """
        known = self._prepared.status(cert_id_der, now)
        heard = self._feed.followed_until(now)
        responder = None if known is None else self._keeper.at_hand(known.issuer_id, now)
        if known is None or heard is None or responder is None or responder.sign_at_once is None:
            return None
        this_update = max(known.since, heard.replace(microsecond=0))
        next_update = min(this_update + self._windows[known.issuer_id], responder.not_after)
        now = now.replace(microsecond=0)
        cutoff = self._terms.archive_cutoff(now)
        single = ocsp.encode_single_response(cert_id_der, known.status_der, this_update, next_update, cutoff)
        data = ocsp.encode_response_data(responder.id_der, now, (single,), nonce)
        signature = responder.sign_at_once(data)
        return OcspAnswer(ocsp.encode_response(data, responder.signer.algorithm_der, signature, responder.certs_der))

    async def answer(self, request_der: bytes) -> OcspAnswer:
        """The answer to a request; refusals are OCSP statuses, so none is raised."""
        at_hand = self.at_hand(request_der, self._clock.now())
        if at_hand is not None:
            return at_hand
        try:
            request = self._wanted(ocsp.parse_request(request_der))
            issuers = await self._admitted(request)
            if len(request.cert_ids) == 1:
                answer = await self._about_one(request, request.cert_ids[0], issuers)
            else:
                answer = (await self._fresh(request, issuers)).answer
        except Refusal as refusal:
            return build_refusal(refusal)
        return answer._replace(freshness=None) if self._guarded else answer

    def _wanted(self, request: OcspRequest) -> OcspRequest:
        """The request without a nonce where nonces are passed over. Refusal MALFORMED when it insists on its nonce."""
        if self._terms.nonces:
            return request
        if request.insists:
            raise Refusal(RefusalKind.MALFORMED, "the nonce is critical, and none is echoed here")
        return replace(request, nonce=None)

    async def _admitted(self, request: OcspRequest) -> Namesakes:
        """The issuers that the request is about. Refusals for those who are not to be answered."""
        signer = None if self._admission is None else await self._admission.signer(request)
        issuers = self._index.responsible(request.cert_ids)
        if self._admission is not None:
            serials = tuple(cert_id.serial for cert_id in request.cert_ids if self._index.named_by(cert_id))
            await self._admission.check(OcspInquiry(issuers[0].name, serials, signer))
        return issuers

    async def _about_one(self, request: OcspRequest, cert_id: CertId, issuers: Namesakes) -> OcspAnswer:
        """The answer about one certificate. It is kept when that exists and anybody may have the answer."""
        if request.nonce is None and not request.preferences:
            at_hand = self._prepared.get(cert_id.der, self._clock.now())
            if at_hand is not None:
                return at_hand
        certificate = (issuers[0].id, cert_id.serial)
        with self._prepared.preparing(certificate) as preparation:
            made = await self._fresh(request, issuers)
            # Kept is only what a revocation finds again.
            if _is_issued(made.statuses) and cert_id.der in self._index.cert_ids(certificate):
                self._keep(preparation, cert_id.der, made)
        return made.answer

    def _keep(self, preparation: Preparation, cert_id_der: bytes, made: _Made) -> None:
        """Keep it for half of its time, so that nobody receives what is about to run out."""
        half = made.this_update + (made.next_update - made.this_update) / 2
        if made.answer.freshness is not None:
            end = made.responder.certs_der
            self._prepared.keep(preparation, cert_id_der, made.answer, end=end, since=made.this_update, until=half)
        else:
            status_der = ocsp.encode_status(made.statuses[0])
            self._prepared.keep_status(preparation, cert_id_der, status_der, since=made.this_update, until=half)

    async def prepare(self, issuer_id: str, serials: Sequence[int], by: datetime) -> int:
        """Prepare what most clients ask about these certificates, unless it is there and may be given until `by`.

        Answers how many were prepared. Refusal UNAVAILABLE when that cannot be done now.
        """
        issuers = self._index.namesakes(issuer_id)
        with ExitStack() as stack:
            wanted: list[tuple[CertId, Preparation]] = []
            for serial in serials if issuers else ():
                certificate = (issuers[0].id, serial)
                cert_id_der = self._index.usual_cert_id(certificate)
                until = self._prepared.given_until(cert_id_der)
                if until is None or until < by:
                    preparation = stack.enter_context(self._prepared.preparing(certificate))
                    wanted.append((ocsp.parse_cert_id(cert_id_der), preparation))
            if not wanted:
                return 0
            responder = await self._keeper.responder(issuers[0])
            now = self._clock.now().replace(microsecond=0)
            statuses = await self._statuses(issuers, [cert_id for cert_id, _ in wanted])
            for (cert_id, preparation), status in zip(wanted, statuses, strict=True):
                made = await self._make(OcspRequest((cert_id,), None), (status,), issuers[0], responder, now)
                if made.answer.freshness is not None:
                    self._keep(preparation, cert_id.der, made)
            return len(wanted)

    @property
    def made_room(self) -> int:
        """How many prepared answers went since others needed their room."""
        return self._prepared.made_room

    async def _fresh(self, request: OcspRequest, issuers: Namesakes) -> _Made:
        responder = await self._keeper.responder(issuers[0])
        now = self._clock.now().replace(microsecond=0)
        statuses = await self._statuses(issuers, request.cert_ids)
        return await self._make(request, statuses, issuers[0], responder, now)

    async def _make(
        self, request: OcspRequest, statuses: tuple[Status, ...], issuer: Issuer, responder: Responder, now: datetime
    ) -> _Made:
        """The answer that says what was so at `now`."""
        next_update = min(now + self._windows[issuer.id], responder.not_after)
        signer = preferred_signer(responder.signer, request.preferences) if request.preferences else responder.signer
        times = Times(now, next_update, self._terms.archive_cutoff(now))
        body = await sign_answer(request, statuses, responder, signer, times)
        # What is unknown now may be issued in the next second.
        for_all = request.nonce is None and signer is responder.signer and _is_issued(statuses)
        answer = OcspAnswer(body, Freshness(now, next_update) if for_all else None)
        return _Made(answer, statuses, responder, now, next_update)

    async def _statuses(self, issuers: Namesakes, cert_ids: Sequence[CertId]) -> tuple[Status, ...]:
        """The status of each CertID, in their order."""
        ours = [cert_id for cert_id in cert_ids if self._index.named_by(cert_id) and cert_id.serial in _SERIALS]
        serials = tuple(dict.fromkeys(cert_id.serial for cert_id in ours))
        known: dict[int, CertificateStatus] = {}
        for issuer in issuers if serials else ():
            known |= await self._ask(issuer, serials)
        meant = {cert_id.der for cert_id in ours}
        return tuple(self._status(c, known.get(c.serial) if c.der in meant else None) for c in cert_ids)

    def _status(self, cert_id: CertId, known: CertificateStatus | None) -> Status:
        if known is not None:
            return CertStatus.GOOD if known.revocation is None else known.revocation
        never = self._terms.extended_revoke and bool(self._index.named_by(cert_id))
        return NEVER_ISSUED if never else CertStatus.UNKNOWN

    async def _ask(self, issuer: Issuer, serials: tuple[int, ...]) -> dict[int, CertificateStatus]:
        try:
            return await self._store.statuses(issuer.id, serials)
        except (CancelledError, Refusal):
            raise
        except Exception:  # a store that is away is no fault of the request: tryLater, not internalError
            self._log.failure("the store does not answer for statuses")
            raise Refusal(RefusalKind.UNAVAILABLE, "the store is away", retry_after=5) from None


def _is_issued(statuses: Sequence[Status]) -> bool:
    return CertStatus.UNKNOWN not in statuses and NEVER_ISSUED not in statuses
