"""Authorizations and their challenges: read, answered, deactivated (RFC 8555 §7.5). Validating is `work.py`'s."""

from __future__ import annotations

from datetime import timedelta

from opencertd.acme.messages import parse_challenge_response, parse_deactivation
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import Authorization, AuthorizationStatus, Challenge, authorization_status
from opencertd.jobs.hands import Hands


class Authorizations:
    """`hands`: what does validations in this worker. `owner` and `lease`: how it holds those that it takes on itself.

    What is owed while the hands are full waits for whichever worker claims it.
    """

    def __init__(self, server: AcmeServer, *, hands: Hands, owner: str, lease: timedelta) -> None:
        self._server = server
        self._hands = hands
        self._owner = owner
        self._lease = lease

    async def read_or_deactivate(self, asked: ByAccount) -> Authorization:
        """The account's authorization, after what is asked. Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED."""
        deactivate = parse_deactivation(asked.payload)
        found = asked.own_authorization()
        return await self._server.store.deactivate_authorization(found.id) if deactivate else found

    async def answer_challenge(self, asked: ByAccount, challenge_id: str) -> tuple[Challenge, AuthorizationStatus]:
        """The challenge, with its validation under way when the client says it is ready and it is not settled yet.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED.
        """
        ready = parse_challenge_response(asked.payload)
        authorization = asked.own_authorization()
        now = self._server.clock.now()
        if ready and authorization_status(authorization, now) is AuthorizationStatus.PENDING:
            authorization = await self._begin(challenge_id)
        challenge = next(each for each in authorization.challenges if each.id == challenge_id)
        return challenge, authorization_status(authorization, now)

    async def _begin(self, challenge_id: str) -> Authorization:
        now, store = self._server.clock.now(), self._server.store
        if not self._hands.free:
            authorization, _ = await store.begin_validation(challenge_id, now)
            self._hands.kick()  # those of another worker may be free
            return authorization
        authorization, job = await store.begin_validation(challenge_id, now, owner=self._owner, lease=self._lease)
        if job is not None:
            self._hands.take_on(job)
        return authorization
