"""Challenges are tried again until their time is up, show the last error meanwhile, and no account starves others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from opencertd.acme.attempts import Shares, next_attempt
from opencertd.acme.states import Problem
from opencertd.acme.store import VALIDATE
from opencertd.acme.work import Work
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind
from tests.acme.rig import LEASE, Client, Rig

NOW = datetime(2031, 5, 6, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ABSENT = FailedProof(FailureKind.DNS, "no record yet")


def attempts(patience: timedelta, each: timedelta = timedelta(0), kind: str = "dns") -> list[float]:
    """When attempts begin that all fail after `each`, in seconds since the first began."""
    now, found, since = NOW, [0.0], None
    while True:
        now += each
        since = since or now
        again = next_attempt(Problem(kind, ""), since, now, patience)
        if again is None:
            return found
        now = again
        found.append((now - NOW).total_seconds())


class TestPauses:
    def test_double_up_to_a_minute_and_the_last_attempt_is_at_the_end(self) -> None:
        assert attempts(10 * SECOND) == [0, 1, 2, 4, 8, 10]
        assert attempts(200 * SECOND) == [0, 1, 2, 4, 8, 16, 32, 64, 124, 184, 200]
        assert attempts(0 * SECOND) == [0]
        assert attempts(10 * SECOND, each=10 * SECOND) == [0, 11]

    @pytest.mark.parametrize("kind", ["malformed", "caa", "unauthorized"])
    def test_what_will_not_change_is_not_tried_again(self, kind: str) -> None:
        assert attempts(10 * SECOND, kind=kind) == [0]

    @given(st.integers(0, 3600), st.integers(0, 30))
    def test_always_end_soon_after_patience_does(self, patience: int, each: int) -> None:
        found = attempts(patience * SECOND, each * SECOND)
        assert found[-1] <= patience + each + each
        assert len(found) <= 10 + patience // 60 + 2
        assert all(later - sooner >= 1 for sooner, later in pairwise(found[:-1]))

    @given(st.integers(-3600, 3600))
    def test_a_clock_that_was_set_back_does_not_make_it_endless_or_a_storm(self, step: int) -> None:
        again = next_attempt(Problem("dns", ""), NOW, NOW + step * SECOND, 10 * SECOND)
        assert again is None or NOW + step * SECOND < again <= NOW + 10 * SECOND


class TestFlow:
    @staticmethod
    def rig(patience: timedelta = 10 * SECOND) -> Rig:
        rig = Rig()
        rig.work._patience = patience
        return rig

    @staticmethod
    async def begun(rig: Rig, name: str = "a.test") -> tuple[Client, str, str]:
        """A client, its authorization and the challenge that it has answered."""
        client = Client(rig)
        await client.register()
        order = await client.order(name)
        authorization = order.json["authorizations"][0]
        challenge = (await client.post(authorization)).json["challenges"][0]["url"]
        assert (await client.post(challenge, {})).json["status"] == "processing"
        return client, authorization, challenge

    @pytest_twisted.ensureDeferred
    async def test_the_last_error_is_on_show_until_a_later_attempt_proves(self) -> None:
        rig = self.rig()
        rig.validator.verdicts["a.test"] = ABSENT
        client, authorization, challenge = await self.begun(rig)
        assert await rig.work_off() == 1
        shown = await client.post(challenge)
        assert shown.json["status"] == "processing" and shown.headers["retry-after"]
        assert shown.json["error"] == {"type": "urn:ietf:params:acme:error:dns", "detail": "no record yet"}
        assert (await client.post(authorization)).json["status"] == "pending"
        assert await rig.work_off() == 0
        rig.validator.verdicts["a.test"] = FailedProof(FailureKind.INCORRECT_RESPONSE, "another record")
        rig.clock.advance(SECOND)
        assert await rig.work_off() == 1
        assert (await client.post(challenge)).json["error"]["detail"] == "another record"
        del rig.validator.verdicts["a.test"]
        rig.clock.advance(SECOND)
        assert await rig.work_off() == 1
        settled = (await client.post(challenge)).json
        assert settled["status"] == "valid" and "error" not in settled
        assert (await client.post(authorization)).json["status"] == "valid"

    @pytest_twisted.ensureDeferred
    async def test_when_time_is_up_it_is_invalid_by_the_last_error_and_nothing_is_owed(self) -> None:
        rig = self.rig()
        rig.validator.verdicts["a.test"] = ABSENT
        client, authorization, challenge = await self.begun(rig)
        for _ in range(40):
            await rig.work_off()
            rig.clock.advance(SECOND / 2)
        assert (await client.post(challenge)).json["status"] == "invalid"
        shown = (await client.post(authorization)).json
        assert shown["status"] == "invalid" and shown["challenges"][0]["error"]["detail"] == "no record yet"
        assert len(rig.validator.asked) == 6
        rig.clock.advance(timedelta(days=1))
        assert await rig.jobs.claim((VALIDATE,), "w3", rig.clock.now(), LEASE, 9) == ()

    @pytest_twisted.ensureDeferred
    async def test_a_client_may_ask_for_the_next_attempt(self) -> None:
        rig = self.rig(timedelta(hours=1))
        rig.validator.verdicts["a.test"] = ABSENT
        client, _, challenge = await self.begun(rig)
        for _ in range(12):
            await rig.work_off()
            rig.clock.advance(10 * SECOND)
        tried = len(rig.validator.asked)
        assert await rig.work_off() == 0  # the pauses are long by now
        for _ in range(5):  # however often it asks
            assert (await client.post(challenge, {})).json["status"] == "processing"
        rig.clock.advance(SECOND)
        assert await rig.work_off() == 1 and len(rig.validator.asked) == tried + 1
        await client.post(challenge)  # a look is no request
        rig.clock.advance(2 * SECOND)
        assert await rig.work_off() <= 1
        assert len(rig.validator.asked) <= tried + 2

    @pytest_twisted.ensureDeferred
    async def test_an_authorization_that_ends_first_is_the_hard_end(self) -> None:
        rig = self.rig(timedelta(days=30))
        rig.validator.verdicts["a.test"] = ABSENT
        client, authorization, challenge = await self.begun(rig)
        await rig.work_off()
        rig.clock.advance(timedelta(days=7))
        assert (await client.post(authorization)).json["status"] == "invalid"
        await rig.work_off()
        assert (await client.post(challenge)).json["status"] == "invalid"
        rig.clock.advance(timedelta(days=1))
        assert await rig.work_off() == 0


class TestShares:
    @given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 5))
    def test_no_account_has_more_than_its_limit_and_none_pays_for_another(self, coming: list[int], limit: int) -> None:
        shares = Shares(limit)
        inside: dict[int, int] = {}
        for who in coming:
            later = shares.enter(str(who), NOW)
            had = inside.get(who, 0)
            assert (later is None) == (had < limit)
            if later is None:
                inside[who] = had + 1
            else:
                assert SECOND / 2 <= later - NOW <= 10 * SECOND
        for who, count in inside.items():
            for _ in range(count):
                shares.leave(str(who))
        assert not shares._busy and not shares._sent_away

    @pytest_twisted.ensureDeferred
    async def test_an_account_whose_names_hang_does_not_hold_up_another(self) -> None:
        rig = Rig()
        hanging: list[Deferred[None]] = []

        class Hangs:
            async def validate(self, question: ControlQuestion) -> None:
                if question.name.value.startswith("slow"):
                    hanging.append(Deferred())
                    await hanging[-1]

        validator: object = Hangs()
        work = Work(
            store=rig.store,
            authority=rig.authority,
            validator=validator,  # type: ignore[arg-type]
            clock=rig.clock,
            account_url=str,
            at_once_per_account=3,
            stars=rig.stars,
        )
        rig.work = work
        greedy, modest = Client(rig), Client(rig)
        for client, names in ((greedy, [f"slow{n}.test" for n in range(30)]), (modest, ["quick.test"])):
            await client.register()
            order = await client.order(*names)
            for url in order.json["authorizations"]:
                challenge = (await client.post(url)).json["challenges"][0]["url"]
                await client.post(challenge, {})
        jobs = await rig.jobs.claim((VALIDATE,), "w2", rig.clock.now(), LEASE, 100)
        running = [Deferred.fromCoroutine(work.validate(job)) for job in jobs]
        assert len(jobs) == 31 and len(hanging) == 3
        ended = [each.result for each in running if each.called]
        assert len(ended) == 28 and sum(isinstance(each, datetime) for each in ended) == 27
        assert (await modest.post(order.location)).json["status"] == "ready"
        for each in hanging:
            each.callback(None)
        later = rig.clock.now() + 10 * SECOND
        for job, answer in zip(jobs, running, strict=True):
            if isinstance(answer.result, datetime):
                await rig.jobs.postpone(job, "w2", answer.result)
        again = await rig.jobs.claim((VALIDATE,), "w2", later, LEASE, 100)
        assert len(again) == 27  # nothing is lost
