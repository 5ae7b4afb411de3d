"""The deeds behind ACME's slow states: validating a challenge, issuing for an order. Doing one twice changes nothing.

Both run as jobs, on whichever worker claims them; issuing also runs inline in finalize, for the client that waits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from opencertd.acme.attempts import Shares, next_attempt
from opencertd.acme.auto_renewal import Slot, due_after, slot_at
from opencertd.acme.devices import named_devices
from opencertd.acme.limits import Limits
from opencertd.acme.permission import is_fresh, why_forbidden
from opencertd.acme.problems import problem_of
from opencertd.acme.star_store import StarStore
from opencertd.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
    Problem,
    authorization_status,
)
from opencertd.acme.store import AccountById, AcmeStore, Beginning, NotBegun
from opencertd.asn1.pkcs10 import CertificationRequest, parse_csr
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.jobs.scheduler import Outcome
from opencertd.jobs.store import Job
from opencertd.model.names import AltName, could_be_address, parse_dns_name
from opencertd.model.request import IssuanceRequest, IssuingProtocol, Transaction, Window
from opencertd.model.requester import NameGrant, Proof, Requester
from opencertd.validation.validator import ControlValidator
from opencertd.validation.verdict import DNS_PERSIST_01, ControlQuestion, FailedProof, ProvenUntil

TRANSIENT = frozenset({RefusalKind.UNAVAILABLE, RefusalKind.PENDING, RefusalKind.RATE_LIMITED, RefusalKind.CONFLICT})
"""What says nothing about the order (CONFLICT: another worker was in the way): the job stays owed."""

_FIRST_DELAY = timedelta(seconds=2)
_LONGEST_DELAY = timedelta(minutes=5)


class Work:
    """The handlers of the jobs VALIDATE and FINALIZE (`store.py`). `account_url`: from an account's id.

    `patience`: how long a challenge that cannot be proven is tried again. `at_once_per_account`: validations here.
    """

    def __init__(
        self,
        *,
        store: AcmeStore,
        authority: CertificateAuthority,
        validator: ControlValidator,
        clock: Clock,
        account_url: Callable[[str], str],
        patience: timedelta = timedelta(0),
        at_once_per_account: int = 10,
        limits: Limits = Limits(),  # noqa: B008  (a frozen value)
        stars: StarStore,
    ) -> None:
        self._stars = stars
        self._limits = limits
        self._patience = patience
        self._shares = Shares(at_once_per_account)
        self._account_url = account_url
        self._store = store
        self._authority = authority
        self._validator = validator
        self._clock = clock

    async def validate(self, job: Job) -> datetime | Outcome | None:
        """Find out whether the account controls the name, and settle the challenge, or answer when to try again."""
        found = await self._store.challenge(job.key)
        if found is None or found[0].status is not ChallengeStatus.PROCESSING:
            return None
        challenge, authorization, account = found
        come_back = self._shares.enter(account.id, self._clock.now())
        if come_back is not None:
            return come_back
        try:
            verdict = await self._judge(*found)
        finally:
            self._shares.leave(account.id)
        if isinstance(verdict, Problem):
            now = self._clock.now()
            since = now if challenge.error is None else challenge.error.since or now
            again = next_attempt(verdict, since, now, self._patience)
            if again is not None and again < authorization.expires:
                await self._store.note_attempt(challenge.id, dataclasses.replace(verdict, since=since))
                return again
        limits, name = self._limits, authorization.name
        failed = isinstance(verdict, Problem)
        charges = limits.failure(account.id, name) if failed else limits.success(account.id, name)
        settled = await self._store.settle_challenge(job.key, verdict, self._clock.now(), charges)
        return Outcome.FORGOTTEN if settled else None

    async def _judge(
        self, challenge: Challenge, authorization: Authorization, account: Account
    ) -> Problem | datetime | None:
        if account.status is not AccountStatus.VALID:
            return Problem("unauthorized", f"the account is {account.status.value}")
        status = authorization_status(authorization, self._clock.now())
        if status is not AuthorizationStatus.PENDING:
            return Problem("malformed", f"the authorization is {status.value}")
        by_record = challenge.type == DNS_PERSIST_01
        question = ControlQuestion(
            type=challenge.type,
            name=authorization.name,
            token=challenge.token,
            key_authorization=f"{challenge.token}.{account.thumbprint}",  # RFC 8555 §8.1
            account_url=self._account_url(account.id),
            wildcard=authorization.wildcard,
            prior_keys=await self._store.prior_keys(account.id) if by_record else (),
        )
        match await self._validator.validate(question):
            case FailedProof() as failed:
                return Problem(failed.kind.value, failed.detail)
            case ProvenUntil(end):
                return end
        return None

    async def finalize(self, job: Job) -> datetime | None:
        """Issue for an order left in PROCESSING. Answers when to try again, None when the order is settled.

        What cannot be done until the order expires is given up then, so that no order stays processing for ever.
        """
        order = await self._store.order(job.key)
        if order is None or order.status is not OrderStatus.PROCESSING or order.csr_der is None:
            return None
        account = await self._store.account(AccountById(order.account_id))
        if account is None or account.status is not AccountStatus.VALID:  # RFC 8555 §7.3.6: what it began is given up
            await self._store.fail_order(order.id, Problem("unauthorized", "the account is no longer valid"))
            return None
        try:
            await self.issue(order, parse_csr(order.csr_der))
        except Exception as error:
            now = self._clock.now()
            if now >= order.expires:
                problem = Problem("serverInternal", "no certificate could be issued before the order expired")
                await self._store.fail_order(order.id, problem)
                return None
            if isinstance(error, Refusal):
                return now + _delay(job, error)
            raise  # the scheduler logs it, and backs off
        return None

    async def issue(self, order: Order, csr: CertificationRequest, beginning: Beginning | None = None) -> Order:
        """Issue for a PROCESSING order and settle it; answers the order as it then is.

        At most one certificate comes of an order, however often this runs. A refusal by the core settles the order as
        invalid; one that is TRANSIENT is raised, and leaves it as it is.

        With a `beginning` the order is begun first, in the transaction of the intent where nothing is waited for until
        then. Raises NotBegun when it cannot be; after everything else it is begun.
        """
        if order.renewal is not None:
            return await self._issue_first(order, csr, beginning)
        now = self._clock.now()
        if beginning is not None and not (is_fresh(order, now) and self._authority.is_prompt(order.profile)):
            await self._begin(beginning)
            beginning = None
        forbidden = await why_forbidden(order, self._validator, self._account_url, now)
        if forbidden is not None:
            return await self._fail(order, forbidden)
        along = self._store.along(order.id, beginning)
        try:
            issued = await self._authority.issue(_request(order, csr, None), along)
        except NotBegun:
            raise
        except Exception as error:
            if beginning is not None and not along.begun:
                await self._begin(beginning)
            if isinstance(error, Refusal) and error.kind not in TRANSIENT:
                return await self._fail(order, problem_of(error))
            raise
        if not along.ended:  # somebody else had begun to issue for it
            await self._store.complete_order(order.id, issued.record.id)
        return dataclasses.replace(order, status=OrderStatus.VALID, certificate_id=issued.record.id)

    async def _begin(self, beginning: Beginning) -> None:
        try:
            begun = await self._store.begin_finalize(beginning)
        except Refusal as refusal:
            raise NotBegun(refusal) from None
        if not begun:
            raise NotBegun(None)

    async def _fail(self, order: Order, problem: Problem) -> Order:
        await self._store.fail_order(order.id, problem)
        return dataclasses.replace(order, status=OrderStatus.INVALID, error=problem)

    async def _issue_first(self, order: Order, csr: CertificationRequest, beginning: Beginning | None) -> Order:
        """As `issue`, for an order whose certificates renew themselves: they come after its beginning, and by jobs."""
        if beginning is not None:
            await self._begin(beginning)
        if order.renewal is None or order.renews_from is None:
            raise ValueError("the order was not begun as one that renews its certificates")
        due = slot_at(order.renewal, order.renews_from, self._clock.now())
        outcome = await self.certify(order, csr, due, due_after(order.renewal, order.renews_from, due.number))
        return await self._fail(order, outcome) if isinstance(outcome, Problem) else outcome

    async def certify(
        self, order: Order, csr: CertificationRequest, due: Slot, next_at: datetime | None
    ) -> Order | Problem:
        """Issue the certificate of the order's series that is `due`, and make it the order's; the next is at `next_at`.

        Answers the order as it then is, or why there can be none; what is TRANSIENT is raised.
        """
        forbidden = await why_forbidden(order, self._validator, self._account_url, self._clock.now())
        if forbidden is not None:
            return forbidden
        try:
            issued = await self._authority.issue(_request(order, csr, due))
        except Refusal as refusal:
            if refusal.kind in TRANSIENT:
                raise
            return problem_of(refusal)
        end = order.expires if order.renewal is None else order.renewal.end
        await self._stars.publish(order.id, issued.record.id, due.number, end, next_at)
        return dataclasses.replace(order, status=OrderStatus.VALID, certificate_id=issued.record.id, expires=end)


def _delay(job: Job, refusal: Refusal) -> timedelta:
    if refusal.retry_after is not None:
        return timedelta(seconds=refusal.retry_after)
    return min(_FIRST_DELAY * float(2 ** min(job.attempts, 10)), _LONGEST_DELAY)


def _request(order: Order, csr: CertificationRequest, due: Slot | None) -> IssuanceRequest:
    key = f"acme-order:{order.id}"
    return IssuanceRequest(
        spki_der=csr.spki_der,
        subject=_subject(order, csr),
        names=order.names,
        profile=order.profile,
        requester=requester_of(order.account_id, order.names, order.eab_key),
        transaction=Transaction(key=key if due is None or not due.number else f"{key}:{due.number}"),
        protocol=IssuingProtocol.ACME,
        validity=window_of(order) if due is None else due.window,
    )


def window_of(order: Order) -> Window | None:
    """The validity that the order asks for, if it does."""
    asked = order.not_before is not None or order.not_after is not None
    return Window(order.not_before, order.not_after) if asked else None


def requester_of(account_id: str, names: tuple[AltName, ...], eab_key: str | None) -> Requester:
    """An ACME account, with a grant for the names of its order. Rules know its external account key as a role."""
    return Requester(
        proof=Proof.ACME_ACCOUNT,
        id=account_id,
        label=f"ACME account {account_id}",
        grant=NameGrant(names=frozenset(names)),
        roles=frozenset() if eab_key is None else frozenset({f"eab:{eab_key}"}),
    )


def _subject(order: Order, csr: CertificationRequest) -> x509.Name:
    """A common name when the CSR has one that is among the order's names and fits (RFC 5280 A.1), else nothing."""
    for name in common_dns_names(csr):
        if name in order.names and len(name.value) <= 64:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.value)])
    devices = {name.value for name in named_devices(order)}
    for text in csr.common_names():
        if text in devices and len(text) <= 64 and not could_be_address(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    return x509.Name([])


def common_dns_names(csr: CertificationRequest) -> tuple[AltName, ...]:
    """The common names of the CSR that are DNS names; others ask for nothing that ACME could authorize."""
    names = []
    for text in csr.common_names():
        try:
            names.append(parse_dns_name(text))
        except Refusal:
            continue
    return tuple(names)
