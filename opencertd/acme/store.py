"""What ACME keeps: accounts, used nonces, orders with their authorizations and challenges.

How a request goes through the store: `begin` is the one question every POST asks (nonce, account, and the record its
path names, in one transaction); what only reads is then answered from it. A request that changes something asks once
more, by the one method that is that change: whatever belongs to it (the state it starts from, jobs that are owed or
done with) is in that method's transaction. So a new kind of request needs a `Noun` to be read by, or a method that
is its deed, and hardly ever both a read of its own and a deed.

Every method is one transaction. Every change of state is a compare-and-swap on the state it starts from, so that
raced and repeated requests, on one worker or several, have one winner.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from opencertd.acme.external_account import EabKey
from opencertd.acme.limits import Weighed
from opencertd.acme.reuse import Reuse
from opencertd.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    Challenge,
    Order,
    Problem,
)
from opencertd.errors import Refusal
from opencertd.issuance.along import Along
from opencertd.jobs.store import Job
from opencertd.model.names import AltName

VALIDATE = "acme-validate"
"""Kind of the job that validates a challenge; its key is the challenge's id."""

FINALIZE = "acme-finalize"
"""Kind of the job that issues for an order; its key is the order's id."""


@dataclass(frozen=True)
class AccountById:
    """An account as `kid` names it."""

    id: str


@dataclass(frozen=True)
class AccountByKey:
    """An account as `jwk` names it: by RFC 7638 thumbprint."""

    thumbprint: str


class Noun(enum.Enum):
    """What a request can be about."""

    ORDER = "order"
    AUTHORIZATION = "authorization"
    CHALLENGE = "challenge"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class About:
    """The record that the request's path names; a download is named by its order."""

    noun: Noun
    id: str


@dataclass(frozen=True)
class UnusedNonce:
    """A nonce of ours that is redeemed by keeping it. `forget_at`: when it is too old to be accepted anyway."""

    text: str
    forget_at: datetime


@dataclass(frozen=True)
class Download:
    """The certificate of an order: whose that is, who issued it, its DER. These two are None until it is issued.

    `renews`: it is one of a series.
    """

    account_id: str
    issuer_id: str | None
    certificate_der: bytes | None
    renews: bool = False


@dataclass(frozen=True)
class Begun:
    """What is known when a request begins. `authorization`: the one asked for, or the one of the challenge."""

    account: Account | None = None
    order: Order | None = None
    authorization: Authorization | None = None
    download: Download | None = None


@dataclass(frozen=True)
class Beginning:
    """How an order comes to be issued for: by this CSR, whose key's JWK has this thumbprint, and by this worker.

    `lease`: how long after `now` the FINALIZE job is `owner`'s. `charges`: what the certificate is charged.
    `renews_from`: as the order has it from then on.
    """

    order_id: str
    csr_der: bytes
    owner: str
    now: datetime
    lease: timedelta
    thumbprint: str = ""
    charges: tuple[Weighed, ...] = ()
    renews_from: datetime | None = None


class NotBegun(Exception):  # noqa: N818  (an ordinary answer of the store)
    """The order is what it was: by this refusal, or (None) because `begin_finalize` would have answered False."""

    def __init__(self, refusal: Refusal | None) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class AcmeStore(Protocol):
    """The records of the ACME edge."""

    def begin(
        self, nonce: UnusedNonce | None, who: AccountById | AccountByKey, about: About | None = None
    ) -> Deferred[Begun]:
        """Use the nonce up, and read the account and the record the request is about, in one round trip.

        Refusal BAD_NONCE when the nonce was used before; None when it is redeemed already. What there is not is None
        in the answer; nobody has judged yet whether the record is the account's.
        """

    def redeem_nonce(self, nonce: UnusedNonce) -> Deferred[None]:
        """Use a nonce up. Refusal BAD_NONCE when it was used before."""

    def create_account(self, account: Account, charges: Sequence[Weighed] = ()) -> Deferred[tuple[Account, bool]]:
        """Keep a new account; answers it and True, or the account that has this key already and False.

        A new one uses up its `eab_key` once, and is charged. Refusal UNAUTHORIZED when that key binds nobody any more;
        RATE_LIMITED, here and wherever `charges` are given: then nothing is done.
        """

    def account(self, named: AccountById | AccountByKey) -> Deferred[Account | None]:
        """The account of that id or key."""

    def update_account(
        self,
        account_id: str,
        *,
        contact: tuple[str, ...] | None = None,
        status: AccountStatus | None = None,
        terms_url: str | None = None,
    ) -> Deferred[Account]:
        """Change what is given of a VALID account. Refusal NOT_FOUND, or UNAUTHORIZED when it is not VALID.

        `terms_url`: the terms it agrees to.
        """

    def eab_key(self, key_id: str) -> Deferred[EabKey | None]:
        """The external account key of that id, revoked or not."""

    def change_key(
        self, account_id: str, old_thumbprint: str, jwk: dict[str, Any], thumbprint: str
    ) -> Deferred[Account]:
        """Swap the account's key. Refusal CONFLICT with `location` = id of the account that has the new key."""

    def prior_keys(self, account_id: str) -> Deferred[tuple[str, ...]]:
        """Thumbprints of the keys that the account had before, the latest first; of very many the oldest are gone."""

    def create_order(
        self, order: Order, charges: Sequence[Weighed] = (), *, reuse: Reuse | None = None
    ) -> Deferred[Order]:
        """Keep the order with its authorizations and challenges; answers it as kept.

        With `reuse`, authorizations for which the account has such a proof are copies of it (`proofs.with_proofs`).

        Refusal ALREADY_REPLACED when another order, finalized and not failed, replaces the same certificate.
        """

    def create_authorization(self, authorization: Authorization, charges: Sequence[Weighed] = ()) -> Deferred[None]:
        """Keep an authorization that belongs to no order, with its challenges."""

    def order(self, order_id: str) -> Deferred[Order | None]:
        """The order with everything below it."""

    def orders_of(self, account_id: str, after: str | None, limit: int) -> Deferred[tuple[str, ...]]:
        """Ids of the account's orders that are not invalid, oldest first, those after the id `after`."""

    def authorization(self, authorization_id: str) -> Deferred[Authorization | None]:
        """The authorization with its challenges."""

    def challenge(self, challenge_id: str) -> Deferred[tuple[Challenge, Authorization, Account] | None]:
        """The challenge, its authorization and the account that holds it."""

    def begin_validation(
        self, challenge_id: str, now: datetime, *, owner: str | None = None, lease: timedelta = timedelta()
    ) -> Deferred[Job | None]:
        """PENDING → PROCESSING for a challenge of a PENDING authorization, and owe its VALIDATE job, due now.

        With an `owner`, the job is leased to that worker until now + lease, which does it without a claim. In any
        other state nothing changes. Answers the job that is owed since now; None when nothing changed.
        """

    def note_attempt(self, challenge_id: str, problem: Problem) -> Deferred[None]:
        """Show the error of an attempt with a PROCESSING challenge that will be tried again. Nothing otherwise."""

    def try_again(self, challenge_id: str, at: datetime) -> Deferred[None]:
        """Owe the VALIDATE job of a PROCESSING challenge by `at`, or sooner where it is due sooner."""

    def settle_challenge(
        self,
        challenge_id: str,
        verdict: Problem | datetime | None,
        now: datetime,
        charges: Sequence[Weighed] = (),
    ) -> Deferred[bool]:
        """PROCESSING → VALID (None, or until when) or INVALID (a problem), and the PENDING authorization with it.

        An authorization that is proven until some time expires then, if it would not before. The VALIDATE job is done
        with.

        False, and nothing changed, when the challenge was not PROCESSING (somebody settled it before).
        """

    def settle_attested(
        self, challenge_id: str, verdict: Problem | bytes, now: datetime, charges: Sequence[Weighed] = ()
    ) -> Deferred[bool]:
        """PENDING → VALID, with the key that was attested, or INVALID (a problem), and the authorization with it.

        False, and nothing changed, when challenge or authorization was not PENDING.
        """

    def deactivate_authorization(self, authorization_id: str) -> Deferred[Authorization]:
        """PENDING or VALID → DEACTIVATED, with all that share its proof; any other state stays. Refusal NOT_FOUND."""

    def begin_finalize(self, beginning: Beginning) -> Deferred[bool]:
        """PENDING → PROCESSING, keep the CSR, and owe the FINALIZE job already leased to its owner.

        False when the order is not PENDING (somebody finalized it before), or the CSR's key is the key of an account
        (RFC 8555 §11.1). The caller has judged the order ready.
        """

    def along(self, order_id: str, beginning: Beginning | None) -> Along:
        """`begin_finalize`, unless that is done, and `complete_order` in the transactions of the core.

        Its `begin` raises `NotBegun`.
        """

    def complete_order(self, order_id: str, certificate_id: int) -> Deferred[None]:
        """PROCESSING → VALID, and the FINALIZE job is done with. Nothing when it is not PROCESSING."""

    def fail_order(self, order_id: str, problem: Problem) -> Deferred[None]:
        """PROCESSING → INVALID with its error, and the FINALIZE job is done with. Nothing when not PROCESSING."""

    def certificate_account(self, certificate_id: int) -> Deferred[str | None]:
        """Id of the account whose order gave this certificate."""

    def authorized(self, account_id: str, names: tuple[AltName, ...], now: datetime) -> Deferred[frozenset[AltName]]:
        """Those of the names (wildcards with their `*.`) for which the account holds a valid authorization."""
