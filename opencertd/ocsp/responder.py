"""Each issuer's delegated responder: a short-lived certificate and its signer, renewed before it runs out.

RFC 6960 §4.2.2.2: whoever signs an answer is the CA that issued the certificate in question, or bears a certificate
issued directly by that CA, under the same key, with id-kp-OCSPSigning. So there is one responder for each issuer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from opencertd.asn1.ocsp import encode_certs, responder_id
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import PublicKey, Scheme, scheme_of
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.tasks import Tasks


@dataclass(frozen=True)
class Responder:
    """A responder certificate with its signer. `id_der`: its ResponderID.

    `certs_der`: the certificate as its answers enclose it, at their end. `sign_at_once`: signs without waiting, where
    that is quick.
    """

    certificate_der: bytes
    signer: Signer
    id_der: bytes
    not_before: datetime
    not_after: datetime
    certs_der: bytes
    sign_at_once: Callable[[bytes], bytes] | None

    @classmethod
    def of(cls, certificate_der: bytes, signer: Signer, *, by_name: bool = False) -> Responder:
        """The responder with this certificate, called by its key or its name.

        Raises ValueError when `signer` does not hold its key.
        """
        certificate = x509.load_der_x509_certificate(certificate_der)
        if certificate.public_key() != signer.public_key:
            raise ValueError("the responder's certificate is not for its signer's key")
        return cls(
            certificate_der=certificate_der,
            signer=signer,
            id_der=responder_id(certificate_der, by_name=by_name),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            certs_der=encode_certs(certificate_der),
            sign_at_once=signer.sign_at_once if isinstance(signer, SoftwareSigner) else None,
        )

    @property
    def renew_at(self) -> datetime:
        """When a third of its life is left."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


class ResponderKeeper:
    """The current responder of each issuer, obtained when first asked for.

    `obtain` gives one that is valid now, a new one when the last is due for renewal. It is asked once at a time for
    each issuer, after a failure not again for `retry`, and not for `patience` when it gave one that is due already.
    While a responder that is due for renewal is still valid it goes on serving.
    """

    _log = Logger()

    def __init__(
        self,
        obtain: Callable[[Issuer], Awaitable[Responder]],
        *,
        clock: Clock,
        tasks: Tasks,
        retry: timedelta = timedelta(seconds=5),
        patience: timedelta = timedelta(minutes=10),
        margin: timedelta = timedelta(minutes=5),
    ) -> None:
        self._obtain = obtain
        self._clock = clock
        self._tasks = tasks
        self._retry = retry
        self._patience = patience
        self._margin = margin
        self._held: dict[str, Responder] = {}
        self._waiting: dict[str, list[Deferred[Responder]]] = {}
        self._not_again_before: dict[str, datetime] = {}

    def at_hand(self, issuer_id: str, now: datetime) -> Responder | None:
        """The issuer's responder if there is one that need not be renewed yet."""
        held = self._held.get(issuer_id)
        return held if held is not None and held.not_before <= now < held.renew_at else None

    async def responder(self, issuer: Issuer) -> Responder:
        """A responder valid for `margin` at least. Refusal UNAVAILABLE when none can be had now."""
        now = self._clock.now()
        held = self._held.get(issuer.id)
        if held is not None and now < held.renew_at:
            return held
        may_ask = now >= self._not_again_before.get(issuer.id, now)
        if held is not None and now < held.not_after - self._margin:
            if may_ask and issuer.id not in self._waiting:
                self._ask(issuer)
            return held
        if not may_ask:
            raise _away(issuer)
        waiter: Deferred[Responder] = Deferred()
        if issuer.id not in self._waiting:
            self._ask(issuer, waiter)
        else:
            self._waiting[issuer.id].append(waiter)
        return await waiter

    def _ask(self, issuer: Issuer, *waiters: Deferred[Responder]) -> None:
        self._waiting[issuer.id] = list(waiters)
        self._tasks.spawn(self._renew(issuer), f"obtaining an OCSP responder for {issuer.name}")

    async def _renew(self, issuer: Issuer) -> None:
        try:
            responder = await self._obtain(issuer)
            if responder.not_after - self._margin <= self._clock.now():
                raise ValueError("the responder certificate that was obtained has all but expired")
        except Exception:  # whatever it is, OCSP says tryLater and the log says why
            self._log.failure("no OCSP responder for {issuer}", issuer=issuer.name)
            self._not_again_before[issuer.id] = self._clock.now() + self._retry
            for waiter in self._waiting.pop(issuer.id):
                waiter.errback(_away(issuer))
            return
        self._held[issuer.id] = responder
        if responder.renew_at <= self._clock.now():
            self._not_again_before[issuer.id] = self._clock.now() + self._patience
        for waiter in self._waiting.pop(issuer.id):
            waiter.callback(responder)


def responder_scheme(key: PublicKey, issuer: Issuer) -> Scheme:
    """How a responder's key signs: as its issuer does (whose clients can verify that), else in its usual way."""
    usual = scheme_of(key)
    if issuer.record.scheme is None:
        return usual
    try:
        return scheme_of(key, issuer.record.scheme)
    except ValueError:
        return usual


def _away(issuer: Issuer) -> Refusal:
    return Refusal(
        RefusalKind.UNAVAILABLE, f"there is no responder for the issuer {issuer.name} just now", retry_after=5
    )
