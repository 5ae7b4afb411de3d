"""Authorizations and their challenges: read, answered, deactivated (RFC 8555 §7.5). Validating is `work.py`'s."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from opencertd.acme.attempts import ON_REQUEST
from opencertd.acme.devices import judge_device
from opencertd.acme.messages import parse_attestation, parse_challenge_response, parse_deactivation
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import (
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Problem,
    authorization_status,
)
from opencertd.jobs.hands import Hands
from opencertd.validation.attestation import DEVICE_ATTEST_01, Roots

PATIENCE = 1.0
"""Seconds for which a look at an authorization waits for a validation under way: most take less, and clients that have
to look again sleep for longer."""


class Authorizations:
    """`hands`: what does validations in this worker. `owner` and `lease`: how it holds those that it takes on itself.

    `devices`: whose attestations are taken. What is owed while the hands are full waits for whichever worker claims it.
    """

    def __init__(
        self,
        server: AcmeServer,
        hands: Hands,
        *,
        owner: str,
        lease: timedelta,
        devices: Roots,
        reactor: IReactorTime,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._hands = hands
        self._owner = owner
        self._lease = lease
        self._devices = devices

    async def read_or_deactivate(self, asked: ByAccount) -> Authorization:
        """The account's authorization, after what is asked. Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED."""
        deactivate = parse_deactivation(asked.payload)
        found = asked.own_authorization()
        return await (self._server.store.deactivate_authorization(found.id) if deactivate else self._settled(found))

    async def _settled(self, found: Authorization) -> Authorization:
        """The authorization, after the end of a validation that is under way here, if that comes soon."""
        if authorization_status(found, self._server.clock.now()) is not AuthorizationStatus.PENDING:
            return found
        under_way = (each.id for each in found.challenges if each.status is ChallengeStatus.PROCESSING)
        ending = next((end for end in map(self._hands.ending, under_way) if end is not None), None)
        if ending is None:
            return found
        try:
            await ending.addTimeout(PATIENCE, self._reactor)
        except DeferredTimeout:
            return found
        return await self._server.store.authorization(found.id) or found

    async def answer_challenge(self, asked: ByAccount, challenge_id: str) -> tuple[Challenge, AuthorizationStatus]:
        """The challenge, with its validation under way when the client says it is ready and it is not settled yet.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED.
        """
        ready = parse_challenge_response(asked.payload)
        authorization = asked.own_authorization()
        now = self._server.clock.now()
        challenge = _of(authorization, challenge_id)
        if challenge.type == DEVICE_ATTEST_01:
            authorization = await self._attest(asked, authorization, challenge, now)
        elif ready and authorization_status(authorization, now) is AuthorizationStatus.PENDING:
            if challenge.status is ChallengeStatus.PENDING:
                authorization = await self._begin(authorization, challenge_id, now)
            elif challenge.status is ChallengeStatus.PROCESSING and challenge.error is not None:
                await self._server.store.try_again(challenge_id, now + ON_REQUEST)  # RFC 8555 §8.2
        return _of(authorization, challenge_id), authorization_status(authorization, now)

    async def _attest(
        self, asked: ByAccount, authorization: Authorization, challenge: Challenge, now: datetime
    ) -> Authorization:
        """The authorization as it is after a device's answer, if the request is one and comes in time."""
        attestation = parse_attestation(asked.payload)
        pending = authorization_status(authorization, now) is AuthorizationStatus.PENDING
        if attestation is None or not pending or challenge.status is not ChallengeStatus.PENDING:
            return authorization
        verdict = judge_device(
            authorization, challenge, asked.account.thumbprint, attestation, roots=self._devices, now=now
        )
        limits, name = self._server.limits, authorization.name
        failed = isinstance(verdict, Problem)
        charges = limits.failure(asked.account.id, name) if failed else limits.success(asked.account.id, name)
        await self._server.store.settle_attested(challenge.id, verdict, now, charges)
        return await self._server.store.authorization(authorization.id) or authorization

    async def _begin(self, authorization: Authorization, challenge_id: str, now: datetime) -> Authorization:
        """The authorization as it then is."""
        store = self._server.store
        if self._hands.free:
            job = await store.begin_validation(challenge_id, now, owner=self._owner, lease=self._lease)
            if job is not None:
                self._hands.take_on(job)
        else:
            job = await store.begin_validation(challenge_id, now)
            self._hands.kick()  # those of another worker may be free
        if job is None:  # nothing changed by this; what is known may be old
            return await store.authorization(authorization.id) or authorization
        challenges = tuple(
            replace(each, status=ChallengeStatus.PROCESSING) if each.id == challenge_id else each
            for each in authorization.challenges
        )
        return replace(authorization, challenges=challenges)


def _of(authorization: Authorization, challenge_id: str) -> Challenge:
    return next(each for each in authorization.challenges if each.id == challenge_id)
