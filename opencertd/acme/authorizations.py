"""Authorizations and their challenges: read, answered, deactivated (RFC 8555 §7.5). Validating is `work.py`'s."""

from __future__ import annotations

from collections.abc import Callable

from opencertd.acme.messages import parse_challenge_response, parse_deactivation
from opencertd.acme.server import AcmeServer, ByAccount, check_own
from opencertd.acme.states import Authorization, AuthorizationStatus, Challenge, authorization_status
from opencertd.acme.urls import check_id
from opencertd.errors import Refusal, RefusalKind


class Authorizations:
    """`kick`: called when a validation is owed, so that it begins at once and not with the scheduler's next tick."""

    def __init__(self, server: AcmeServer, *, kick: Callable[[], None]) -> None:
        self._server = server
        self._kick = kick

    async def read_or_deactivate(self, asked: ByAccount, authorization_id: str) -> Authorization:
        """The account's authorization, after what is asked. Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED."""
        deactivate = parse_deactivation(asked.payload)
        found = await self._server.store.authorization(check_id(authorization_id))
        if found is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such authorization")
        check_own(asked.account, found.account_id, "authorization")
        return await self._server.store.deactivate_authorization(found.id) if deactivate else found

    async def answer_challenge(self, asked: ByAccount, challenge_id: str) -> tuple[Challenge, AuthorizationStatus]:
        """The challenge, with its validation under way when the client says it is ready and it is not settled yet.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED.
        """
        ready = parse_challenge_response(asked.payload)
        found = await self._server.store.challenge(check_id(challenge_id))
        if found is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such challenge")
        challenge, authorization, _ = found
        check_own(asked.account, authorization.account_id, "challenge")
        now = self._server.clock.now()
        if ready and authorization_status(authorization, now) is AuthorizationStatus.PENDING:
            authorization = await self._server.store.begin_validation(challenge.id, now)
            challenge = next(each for each in authorization.challenges if each.id == challenge.id)
            self._kick()
        return challenge, authorization_status(authorization, now)
