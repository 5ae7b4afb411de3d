"""ACME's records in SQL: every change of state is one UPDATE that names the state it starts from.

What changes a challenge and its authorization changes them in this order, so that two challenges of one authorization
are settled one after the other: the first verdict is the one that finds the authorization pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, or_, select, update
from twisted.internet.defer import Deferred

from opencertd.acme.external_account import EabKey
from opencertd.acme.limits import Weighed
from opencertd.acme.reuse import Reuse
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
)
from opencertd.acme.store import (
    FINALIZE,
    VALIDATE,
    About,
    AccountById,
    AccountByKey,
    Beginning,
    Begun,
    UnusedNonce,
)
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.along import Along
from opencertd.jobs.store import Job
from opencertd.model.names import AltName
from opencertd.store import acme_accounts as accounts
from opencertd.store import acme_eab as eab
from opencertd.store import acme_finalize as finalizing
from opencertd.store.acme_attested import JUDGE, MAY_BEGIN, settle_attested
from opencertd.store.acme_proofs import deactivate, reused
from opencertd.store.acme_rows import (
    authorization_by_id,
    authorization_of_challenge,
    authorized,
    insert_authorizations,
    insert_order,
    order_by_id,
    problem_json,
    read_about,
)
from opencertd.store.database import Database
from opencertd.store.jobs import forget, owe, owe_leased
from opencertd.store.rate_limits import weigh
from opencertd.store.schema import (
    acme_authorizations,
    acme_challenges,
    acme_nonces,
    acme_orders,
)
from opencertd.store.statements import Direct, on_both

_REDEEM = Direct(on_both(lambda insert: insert(acme_nonces).on_conflict_do_nothing().returning(acme_nonces.c.nonce)))

# What `states.order_status` calls invalid, of orders that were not finalized.
_FAILED = exists().where(
    acme_authorizations.c.order_id == acme_orders.c.id,
    or_(
        acme_authorizations.c.status.not_in((AuthorizationStatus.PENDING, AuthorizationStatus.VALID)),
        acme_authorizations.c.expires <= bindparam("now"),
    ),
)
_OVER = and_(acme_orders.c.status == OrderStatus.PENDING, or_(acme_orders.c.expires <= bindparam("now"), _FAILED))
_ORDERS = (
    select(acme_orders.c.id)
    .where(acme_orders.c.account_id == bindparam("account_id"), acme_orders.c.status != OrderStatus.INVALID, ~_OVER)
    .order_by(acme_orders.c.position)
    .limit(bindparam("most"))
)
_PLACE = (
    select(acme_orders.c.position)
    .where(acme_orders.c.id == bindparam("after"), acme_orders.c.account_id == bindparam("account_id"))
    .correlate(None)
)
_ORDERS_AFTER = _ORDERS.where(acme_orders.c.position > _PLACE.scalar_subquery())
_MOVE_ORDER = Direct(
    update(acme_orders).where(acme_orders.c.id == bindparam("of_id"), acme_orders.c.status == bindparam("start"))
)
_REPLACEMENT = Direct(
    select(acme_orders.c.id)
    .where(
        acme_orders.c.replaces == bindparam("replaces"),
        or_(acme_orders.c.status == OrderStatus.PROCESSING, acme_orders.c.status == OrderStatus.VALID),
    )
    .limit(1)
)
_ACCOUNT_OF_CERTIFICATE = select(acme_orders.c.account_id).where(
    acme_orders.c.certificate_id == bindparam("certificate_id")
)

_BEGIN_CHALLENGE = Direct(
    update(acme_challenges)
    .where(acme_challenges.c.id == bindparam("of_id"), acme_challenges.c.status == ChallengeStatus.PENDING, MAY_BEGIN)
    .values(status=ChallengeStatus.PROCESSING)
)
_TRIED_CHALLENGE = update(acme_challenges).where(
    acme_challenges.c.id == bindparam("of_id"), acme_challenges.c.status == ChallengeStatus.PROCESSING
)
_NOTE_ATTEMPT = Direct(_TRIED_CHALLENGE)
_SETTLE_CHALLENGE = Direct(_TRIED_CHALLENGE.returning(acme_challenges.c.authorization_id))
_END = bindparam("end", type_=acme_authorizations.c.expires.type)
_SHORTEN = (
    update(acme_authorizations)
    .where(acme_authorizations.c.id == bindparam("of_id"), acme_authorizations.c.expires > _END)
    .values(expires=_END)
)


class SqlAcmeStore:
    """The `AcmeStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(
        self, nonce: UnusedNonce | None, who: AccountById | AccountByKey, about: About | None = None
    ) -> Deferred[Begun]:
        if nonce is None:
            return self._database.glance(lambda connection: _begun(connection, who, about))

        def begin(connection: Connection) -> Begun:
            _redeem(connection, nonce)
            return _begun(connection, who, about)

        return self._database.write(begin)

    def redeem_nonce(self, nonce: UnusedNonce) -> Deferred[None]:
        return self._database.write(lambda connection: _redeem(connection, nonce))

    def create_account(self, account: Account, charges: Sequence[Weighed] = ()) -> Deferred[tuple[Account, bool]]:
        def create(connection: Connection) -> tuple[Account, bool]:
            kept, created = accounts.create(connection, account)
            if created:
                weigh(connection, charges, self._clock.now())
            if created and kept.eab_key is not None:
                eab.use(connection, kept.eab_key, kept)
            return kept, created

        return self._database.write(create)

    def account(self, named: AccountById | AccountByKey) -> Deferred[Account | None]:
        return self._database.glance(lambda connection: accounts.find(connection, named))

    def update_account(
        self,
        account_id: str,
        *,
        contact: tuple[str, ...] | None = None,
        status: AccountStatus | None = None,
        terms_url: str | None = None,
    ) -> Deferred[Account]:
        return self._database.write(
            lambda connection: accounts.change(
                connection, account_id, contact=contact, status=status, terms_url=terms_url
            )
        )

    def eab_key(self, key_id: str) -> Deferred[EabKey | None]:
        return self._database.read(lambda connection: eab.find(connection, key_id))

    def change_key(
        self, account_id: str, old_thumbprint: str, jwk: dict[str, Any], thumbprint: str
    ) -> Deferred[Account]:
        def change(connection: Connection) -> Account:
            changed = accounts.change_key(connection, account_id, old_thumbprint, jwk, thumbprint)
            accounts.note_prior_key(connection, account_id, old_thumbprint, self._clock.now())
            return changed

        return self._database.write(change)

    def prior_keys(self, account_id: str) -> Deferred[tuple[str, ...]]:
        return self._database.glance(lambda connection: accounts.prior_keys(connection, account_id))

    def create_order(
        self, order: Order, charges: Sequence[Weighed] = (), *, reuse: Reuse | None = None
    ) -> Deferred[Order]:
        def create(connection: Connection) -> Order:
            weigh(connection, charges, self._clock.now())
            if order.replaces is not None and _REPLACEMENT.first(connection, replaces=order.replaces) is not None:
                raise Refusal(RefusalKind.ALREADY_REPLACED, "another order has replaced this certificate")
            made = order if reuse is None else reused(connection, order, reuse)
            insert_order(connection, made)
            return made

        return self._database.write(create)

    def create_authorization(self, authorization: Authorization, charges: Sequence[Weighed] = ()) -> Deferred[None]:
        def create(connection: Connection) -> None:
            weigh(connection, charges, self._clock.now())
            insert_authorizations(connection, None, (authorization,))

        return self._database.write(create)

    def order(self, order_id: str) -> Deferred[Order | None]:
        return self._database.glance(lambda connection: order_by_id(connection, order_id))

    def orders_of(self, account_id: str, after: str | None, limit: int) -> Deferred[tuple[str, ...]]:
        query = _ORDERS if after is None else _ORDERS_AFTER
        asked = {"account_id": account_id, "after": after, "most": limit, "now": self._clock.now()}
        return self._database.read(lambda connection: tuple(connection.execute(query, asked).scalars()))

    def authorization(self, authorization_id: str) -> Deferred[Authorization | None]:
        return self._database.glance(lambda connection: authorization_by_id(connection, authorization_id))

    def challenge(self, challenge_id: str) -> Deferred[tuple[Challenge, Authorization, Account] | None]:
        def challenge(connection: Connection) -> tuple[Challenge, Authorization, Account] | None:
            found = authorization_of_challenge(connection, challenge_id)
            if found is None:
                return None
            authorization, account = found
            return next(one for one in authorization.challenges if one.id == challenge_id), authorization, account

        return self._database.glance(challenge)

    def begin_validation(
        self, challenge_id: str, now: datetime, *, owner: str | None = None, lease: timedelta = timedelta()
    ) -> Deferred[Job | None]:
        def begin(connection: Connection) -> Job | None:
            if not _BEGIN_CHALLENGE.count(connection, of_id=challenge_id):
                return None
            if owner is None:
                return owe(connection, VALIDATE, challenge_id, now)
            return owe_leased(connection, VALIDATE, challenge_id, owner=owner, now=now, lease=lease)

        return self._database.write(begin)

    def note_attempt(self, challenge_id: str, problem: Problem) -> Deferred[None]:
        def note(connection: Connection) -> None:
            _NOTE_ATTEMPT.count(connection, of_id=challenge_id, error=problem_json(problem))

        return self._database.write(note)

    def try_again(self, challenge_id: str, at: datetime) -> Deferred[None]:
        def again(connection: Connection) -> None:
            if _NOTE_ATTEMPT.count(connection, of_id=challenge_id, status=ChallengeStatus.PROCESSING):
                owe(connection, VALIDATE, challenge_id, at)

        return self._database.write(again)

    def settle_challenge(
        self,
        challenge_id: str,
        verdict: Problem | datetime | None,
        now: datetime,
        charges: Sequence[Weighed] = (),
    ) -> Deferred[bool]:
        def settle(connection: Connection) -> bool:
            settled = _settle(connection, challenge_id, verdict, now)
            if settled:
                weigh(connection, charges, now)
            return settled

        return self._database.write(settle)

    def settle_attested(
        self, challenge_id: str, verdict: Problem | bytes, now: datetime, charges: Sequence[Weighed] = ()
    ) -> Deferred[bool]:
        return self._database.write(lambda connection: settle_attested(connection, challenge_id, verdict, now, charges))

    def deactivate_authorization(self, authorization_id: str) -> Deferred[Authorization]:
        def ended(connection: Connection) -> Authorization:
            deactivate(connection, _present(connection, authorization_id))
            return _present(connection, authorization_id)

        return self._database.write(ended)

    def begin_finalize(self, beginning: Beginning) -> Deferred[bool]:
        return self._database.write(lambda connection: finalizing.begin(connection, beginning))

    def along(self, order_id: str, beginning: Beginning | None) -> Along:
        return finalizing.along(order_id, beginning)

    def complete_order(self, order_id: str, certificate_id: int) -> Deferred[None]:
        return self._database.write(lambda connection: finalizing.complete(connection, order_id, certificate_id))

    def fail_order(self, order_id: str, problem: Problem) -> Deferred[None]:
        def fail(connection: Connection) -> None:
            ended = {"start": OrderStatus.PROCESSING, "status": OrderStatus.INVALID, "error": problem_json(problem)}
            if _MOVE_ORDER.count(connection, of_id=order_id, **ended):
                forget(connection, FINALIZE, order_id)

        return self._database.write(fail)

    def certificate_account(self, certificate_id: int) -> Deferred[str | None]:
        asked = {"certificate_id": certificate_id}
        return self._database.read(
            lambda connection: connection.execute(_ACCOUNT_OF_CERTIFICATE, asked).scalars().first()
        )

    def authorized(self, account_id: str, names: tuple[AltName, ...], now: datetime) -> Deferred[frozenset[AltName]]:
        return self._database.read(lambda connection: authorized(connection, account_id, names, now))


def _redeem(connection: Connection, nonce: UnusedNonce) -> None:
    if _REDEEM.first(connection, nonce=nonce.text, expires=nonce.forget_at) is None:
        raise Refusal(RefusalKind.BAD_NONCE, "this nonce was used before")


def _begun(connection: Connection, who: AccountById | AccountByKey, about: About | None) -> Begun:
    if isinstance(who, AccountByKey):
        return Begun(accounts.find(connection, who))
    return read_about(connection, who.id, about)


def _present(connection: Connection, authorization_id: str) -> Authorization:
    authorization = authorization_by_id(connection, authorization_id)
    if authorization is None:
        raise Refusal(RefusalKind.NOT_FOUND, "there is no such authorization")
    return authorization


def _settle(connection: Connection, challenge_id: str, verdict: Problem | datetime | None, now: datetime) -> bool:
    problem = verdict if isinstance(verdict, Problem) else None
    valid = problem is None
    settled = _SETTLE_CHALLENGE.first(
        connection,
        of_id=challenge_id,
        status=ChallengeStatus.VALID if valid else ChallengeStatus.INVALID,
        validated_at=now if valid else None,
        error=problem_json(problem),
    )
    if settled is None:
        return False
    forget(connection, VALIDATE, challenge_id)
    status = AuthorizationStatus.VALID if valid else AuthorizationStatus.INVALID
    JUDGE.count(connection, of_id=settled.authorization_id, status=status)
    if isinstance(verdict, datetime):
        connection.execute(_SHORTEN, {"of_id": settled.authorization_id, "end": verdict})
    return True
