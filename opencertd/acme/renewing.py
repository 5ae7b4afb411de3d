"""The job that issues an order's next certificate (RFC 8739 §3.3). Doing it twice changes nothing.

Which certificate is due follows from the time alone, and there is one certificate for each number of an order: so any
worker may do the job, again after a crash too, and after a long one only what is due by then is issued.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from opencertd.acme.auto_renewal import due_after, slot_at
from opencertd.acme.star_store import StarStore
from opencertd.acme.states import Account, AccountStatus, AuthorizationStatus, Order, OrderStatus, Problem
from opencertd.acme.store import AccountById, AcmeStore
from opencertd.acme.work import Work
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.clock import Clock
from opencertd.issuance.authority import CertificateAuthority
from opencertd.jobs.store import Job

HELD_FOR = timedelta(minutes=5)
"""How often it is seen whether a certificate is still on hold: until then it has no successor."""

_GIVEN_UP = frozenset({AuthorizationStatus.DEACTIVATED, AuthorizationStatus.REVOKED})


class Renewing:
    """The handler of the job RENEW."""

    def __init__(
        self, store: AcmeStore, stars: StarStore, work: Work, authority: CertificateAuthority, clock: Clock
    ) -> None:
        self._store = store
        self._stars = stars
        self._authority = authority
        self._work = work
        self._clock = clock

    async def renew(self, job: Job) -> datetime | None:
        """Issue what is due. Answers when the next is; None when there is none.

        What keeps the CA from it (its key is away, DNS does not say what CAA says) is raised, and it is tried again.
        """
        order = await self._store.order(job.key)
        now = self._clock.now()
        if order is None or order.status is not OrderStatus.VALID or order.csr_der is None:
            return None
        if order.renewal is None or order.renews_from is None or now >= order.renewal.end:
            return None
        account = await self._store.account(AccountById(order.account_id))
        problem = _why_not(order, account)
        if problem is None:
            revocation = await self._revocation(order)
            if revocation == "held":
                return now + HELD_FOR
            if revocation == "revoked":
                problem = Problem("unauthorized", "a certificate of this order was revoked")
        due = slot_at(order.renewal, order.renews_from, now)
        next_at = due_after(order.renewal, order.renews_from, due.number)
        if problem is None:
            outcome = await self._work.certify(order, parse_csr(order.csr_der), due, next_at)
            problem = outcome if isinstance(outcome, Problem) else None
        if problem is not None:
            await self._stars.give_up(order.id, problem)
            return None
        return next_at

    async def _revocation(self, order: Order) -> str:
        record = None if order.certificate_id is None else await self._authority.store.by_id(order.certificate_id)
        if record is None or record.revocation is None:
            return ""
        return "held" if record.revocation.held else "revoked"


def _why_not(order: Order, account: Account | None) -> Problem | None:
    """Whoever gives up a right, or loses it, gets no further certificates by it."""
    if account is None or account.status is not AccountStatus.VALID:
        return Problem("unauthorized", "the account is no longer valid")
    for authorization in order.authorizations:
        if authorization.status in _GIVEN_UP:
            what = f"the authorization for {authorization.name.value} is {authorization.status.value}"
            return Problem("unauthorized", what)
    return None
