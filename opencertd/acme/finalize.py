"""Finalize: a CSR that fits the order exactly, one shielded deed, a short wait; and the certificate's download.

The deed outlives the client's patience and its connection: what is begun here is finished here, or by a job.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.acme.auto_renewal import first_step
from opencertd.acme.devices import check_attested_key, named_devices
from opencertd.acme.jwk import AccountKey, thumbprint_of
from opencertd.acme.messages import check_post_as_get, parse_finalize
from opencertd.acme.offer import Offer
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import Order, OrderStatus, order_status
from opencertd.acme.store import AccountByKey, Beginning, NotBegun
from opencertd.acme.work import Work, common_dns_names
from opencertd.asn1.pkcs10 import CertificationRequest, parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.names import lower_ascii
from opencertd.tasks import Tasks

_PAUSE = 1
_LONGEST_PAUSE = 60  # clients take more for an error


class Finalization:
    """`owner`: this worker's name in the job table. `lease`: how long other workers leave its orders to it.

    `patience`: seconds a client waits for its certificate before it is told to come back.
    """

    _log = Logger()

    def __init__(
        self,
        server: AcmeServer,
        *,
        offer: Offer,
        authority: CertificateAuthority,
        work: Work,
        tasks: Tasks,
        reactor: IReactorTime,
        owner: str,
        lease: timedelta,
        patience: float,
    ) -> None:
        self._server = server
        self._offer = offer
        self._authority = authority
        self._work = work
        self._tasks = tasks
        self._reactor = reactor
        self._owner = owner
        self._lease = lease
        self._patience = patience

    async def finalize(self, asked: ByAccount) -> Order:
        """The order: VALID or INVALID when that was quick, else PROCESSING.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, NOT_READY, INVALID_PROFILE, BAD_CSR, UNAVAILABLE. After
        these the order is what it was.
        """
        csr_der = parse_finalize(asked.payload)
        order = asked.own_order()
        if _is_repeated(order, csr_der):
            return order
        status = order_status(order, self._server.clock.now())
        if status is not OrderStatus.READY:
            raise Refusal(RefusalKind.NOT_READY, f"the order is {status.value}, not ready")
        self._offer.check(order.profile)  # draft-ietf-acme-profiles-01 §4
        csr = parse_csr(csr_der)
        check_names(order, csr)
        check_attested_key(order, csr)
        await self._check_key(csr, asked.key)
        deed = self._tasks.shield(self._deed(order, csr))
        try:
            return await deed.addTimeout(self._patience, self._reactor)
        except DeferredTimeout:
            return await self._server.store.order(order.id) or order

    def pause(self, order: Order) -> int | None:
        """Seconds after which the client should look at a PROCESSING order again; None when it is settled."""
        if order.status is not OrderStatus.PROCESSING:
            return None
        profile = self._authority.profiles.get(order.profile)
        if profile is None or not profile.approval or self._authority.approvals is None:
            return _PAUSE
        return min(self._authority.approvals.terms.retry_after, _LONGEST_PAUSE)

    async def _check_key(self, csr: CertificationRequest, account_key: AccountKey) -> None:
        if csr.spki_der == account_key.spki_der:  # RFC 8555 §11.1
            raise Refusal(RefusalKind.BAD_CSR, "the CSR is for the account's own key; use another")
        try:
            await self._authority.check_key(csr.spki_der)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.BAD_PUBLIC_KEY:
                raise
            # badPublicKey speaks of the JWS's key (RFC 8555 §6.7).
            raise Refusal(RefusalKind.BAD_CSR, refusal.detail) from None

    async def _deed(self, order: Order, csr: CertificationRequest) -> Order:
        now = self._server.clock.now()
        renews_from = None if order.renewal is None else first_step(order.renewal, now)
        beginning = Beginning(
            order.id,
            csr.der,
            self._owner,
            now,
            self._lease,
            thumbprint_of(csr.spki_der) or "",
            self._server.limits.certificate(order.names),
            renews_from,
        )
        begun = dataclasses.replace(order, status=OrderStatus.PROCESSING, csr_der=csr.der, renews_from=renews_from)
        try:
            return await self._work.issue(begun, csr, beginning)
        except NotBegun as stopped:
            if stopped.refusal is not None:
                raise stopped.refusal from None
            return await self._overtaken(order.id, csr, beginning.thumbprint)
        except Refusal as refusal:  # as while the CA's key is away, which was said in words
            self._log.warn("order {id} waits: {why}", id=order.id, why=refusal.detail)
            return begun
        except Exception:  # whatever it was, the job is owed and will be tried again
            self._log.failure("order {id} could not be issued for yet", id=order.id)
            return begun

    async def _overtaken(self, order_id: str, csr: CertificationRequest, thumbprint: str) -> Order:
        """Somebody else finalized first, perhaps this client's own retry: then that is the answer."""
        if await self._server.store.account(AccountByKey(thumbprint)) is not None:
            raise Refusal(RefusalKind.BAD_CSR, "the CSR is for the key of an account; use another")
        order = await self._server.store.order(order_id)
        if order is None or not _is_repeated(order, csr.der):
            raise Refusal(RefusalKind.NOT_READY, "the order was finalized with another CSR")
        return order

    async def certificate(self, asked: ByAccount) -> tuple[tuple[bytes, ...], ...]:
        """DER of the order's certificate and its issuing chain, leaf first, without the root; then with other chains.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, NOT_READY.
        """
        check_post_as_get(asked.payload)
        download = asked.own_download()
        if download.renews:
            raise Refusal(RefusalKind.NOT_FOUND, "the certificates of this order are at its 'star-certificate'")
        if download.issuer_id is None or download.certificate_der is None:
            raise Refusal(RefusalKind.NOT_READY, "the order has no certificate yet")
        return self._authority.chains_of(download.issuer_id, download.certificate_der)


def _is_repeated(order: Order, csr_der: bytes) -> bool:
    return order.status in {OrderStatus.PROCESSING, OrderStatus.VALID} and order.csr_der == csr_der


def check_names(order: Order, csr: CertificationRequest) -> None:
    """Raises BAD_CSR unless subjectAltName and common names ask for exactly the order's names (RFC 8555 §7.4).

    Devices need not stand in the CSR, and a common name may be the name of one.
    """
    devices = named_devices(order)
    called = {name.value for name in devices}
    spoken = {name for name in common_dns_names(csr) if name.value not in {lower_ascii(each) for each in called}}
    asked = {*csr.names, *spoken, *devices}
    ordered = set(order.names)
    if asked == ordered:
        return
    parts = []
    if ordered - asked:
        parts.append("it lacks " + ", ".join(sorted(str(name) for name in ordered - asked)))
    if asked - ordered:
        parts.append("it adds " + ", ".join(sorted(str(name) for name in asked - ordered)))
    raise Refusal(RefusalKind.BAD_CSR, f"the CSR's names are not the order's: {'; '.join(parts)}")
