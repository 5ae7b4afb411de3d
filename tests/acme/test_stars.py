"""Certificates that renew themselves (RFC 8739), where things do not go their usual way; that is in `conformance`."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, ensureDeferred

from opencertd.acme.auto_renewal import StarTerms
from opencertd.acme.orders import OrderTerms
from opencertd.acme.star_store import RENEW
from opencertd.acme.times import format_time
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import RevocationReason
from opencertd.model.request import ReinstatementRequest, RevocationRequest
from opencertd.model.requester import NameGrant, Proof, Requester
from opencertd.store.certificates import SqlCertificateStore
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import BASE, LEASE, START, Client, Reply, Rig, ask, issuers
from tests.acme.signing import csr_for, ec_key
from tests.acme.star import (
    BY_GET,
    DAY,
    END,
    HOUR,
    LIFETIME,
    NAME,
    TERMS,
    certificate,
    fetch,
    get,
    go_to,
    ordered,
    series,
    star_rig,
    started,
    validity,
    wish,
)

ensure = pytest_twisted.ensureDeferred
CANCEL = {"status": "canceled"}
NEXT = START + LIFETIME * 0.4
"""When the second certificate is due."""
OPERATOR = Requester(Proof.TLS_CERTIFICATE, "operator", "the operator", NameGrant())


async def state(client: Client, order: Reply) -> tuple[str, str]:
    """The order's status, and the words of its error."""
    now = (await client.post(order.location)).json
    return now["status"], now.get("error", {}).get("detail", "")


def openssl(*arguments: str, stdin: bytes = b"") -> str:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout.decode()


class TestWhatIsAsked:
    @ensure
    async def test_where_it_is_not_offered_nobody_gets_a_long_lived_certificate_instead(self) -> None:
        _, reply = await ordered(Rig())
        assert (reply.status, reply.problem) == (400, "malformed") and "not offered here" in reply.json["detail"]

    @ensure
    async def test_it_may_be_offered_for_some_profiles(self) -> None:
        rig = star_rig(StarTerms(HOUR, 365 * DAY, profiles=frozenset({"ecdsa"})))
        client, reply = await ordered(rig)
        assert (reply.status, reply.problem) == (400, "malformed") and "'default'" in reply.json["detail"]
        assert (await client.order(NAME, profile="ecdsa", **{"auto-renewal": wish()})).status == 201
        for profile, offered in (("ecdsa", True), ("rsa", False)):
            meta = (await ask(rig, "GET", f"{BASE}/acme/{profile}/directory")).json["meta"]
            assert ("auto-renewal" in meta) is offered

    @ensure
    async def test_a_certificate_longer_than_the_profile_allows_is_refused(self) -> None:
        client, reply = await ordered(members={"lifetime": 60 * 86400, "end-date": format_time(START + 300 * DAY)})
        assert (reply.status, reply.problem) == (400, "malformed")
        assert "'default' allows" in reply.json["detail"]
        members = {"lifetime": 50 * 86400, "end-date": format_time(START + 300 * DAY), "lifetime-adjust": 50 * 86400}
        assert (await client.order(NAME, **{"auto-renewal": wish(**members)})).problem == "malformed"

    @ensure
    async def test_nobody_would_approve_a_series(self) -> None:
        rig = star_rig()
        profile = dataclasses.replace(rig.authority.profiles["default"], approval=True)
        rig.authority.profiles = {**rig.authority.profiles, "default": profile}
        _, reply = await ordered(rig)
        assert (reply.status, reply.problem) == (400, "malformed") and "approves" in reply.json["detail"]

    @ensure
    async def test_the_end_may_be_over_before_it_is_finalized(self) -> None:
        client, order = await ordered(members={"end-date": format_time(START + DAY)})
        await client.prove(order)
        client.rig.clock.advance(2 * DAY)
        final = await client.finalize(order, csr_for(ec_key(), NAME))
        assert final.json["status"] == "invalid" and "over" in final.json["error"]["detail"]

    @ensure
    async def test_without_a_start_the_first_begins_with_the_order_or_as_much_before_as_was_asked(self) -> None:
        client, order = await started()
        assert validity(await certificate(client, order)) == (START, START + LIFETIME)
        assert order.json["auto-renewal"]["lifetime-adjust"] == LIFETIME.total_seconds() * 0.6
        client, order = await started(members={"lifetime-adjust": 7200})
        assert validity(await certificate(client, order)) == (START - 2 * HOUR, START + LIFETIME)

    @ensure
    async def test_a_start_to_come_is_that_of_the_first_certificate(self) -> None:
        start = START + 5 * DAY
        client, order = await started(members={"start-date": format_time(start)})
        assert validity(await certificate(client, order)) == (start, start + LIFETIME)
        await go_to(client.rig, start + DAY)
        assert validity(await certificate(client, order)) == (start, start + LIFETIME)
        await go_to(client.rig, start + LIFETIME * 0.4)
        second = (start + LIFETIME * 0.4, start + 2 * LIFETIME)
        assert validity(await certificate(client, order)) == second


class TestTheSeries:
    @ensure
    async def test_each_is_verified_by_openssl_all_its_life(self, tmp_path: Path) -> None:
        root = next(each for each in issuers().all() if each.record.parent_id is None and each.name == "ecdsa-root")
        (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        client, order = await started()
        seen: dict[str, tuple[str, ...]] = {}
        while client.rig.clock.now() + 8 * HOUR < END:
            await go_to(client.rig, client.rig.clock.now() + 8 * HOUR)
            pem = (await fetch(client, order)).body
            (tmp_path / "chain.pem").write_bytes(pem)
            now = str(int(client.rig.clock.now().timestamp()))
            files = ("-CAfile", str(tmp_path / "root.pem"), "-untrusted", str(tmp_path / "chain.pem"))
            said = openssl("verify", "-attime", now, *files, str(tmp_path / "chain.pem"))
            assert said.endswith(": OK\n")
            shown = ("-serial", "-startdate", "-enddate", "-dateopt", "iso_8601")
            serial, *dates = openssl("x509", "-noout", *shown, stdin=pem).splitlines()
            seen[serial] = tuple(dates)
        assert list(seen.values()) == [
            ("notBefore=2031-05-06 07:08:09Z", "notAfter=2031-05-10 07:08:09Z"),
            ("notBefore=2031-05-07 21:32:09Z", "notAfter=2031-05-14 07:08:09Z"),
            ("notBefore=2031-05-11 21:32:09Z", "notAfter=2031-05-18 07:08:09Z"),
            ("notBefore=2031-05-15 21:32:09Z", "notAfter=2031-05-22 07:08:09Z"),
            ("notBefore=2031-05-19 21:32:09Z", "notAfter=2031-05-26 07:08:09Z"),
        ]

    @ensure
    async def test_two_workers_at_one_job_issue_one_certificate(self) -> None:
        client, order = await started()
        rig = client.rig
        other = star_rig(database=rig.database, clock=rig.clock, owner="w9")
        rig.clock.advance(NEXT - START)
        (job,) = await rig.jobs.claim((RENEW,), "w2", rig.clock.now(), LEASE, 10)
        rig.authority.gate = Deferred()
        slow = ensureDeferred(rig.renewing.renew(job))  # its lease ends meanwhile
        later = await other.renewing.renew(job)
        newest = await certificate(client, order)
        rig.authority.gate.callback(None)
        assert await slow == later == NEXT + LIFETIME
        assert await certificate(client, order) == newest
        assert len(await issued_ever(rig)) == 2

    @ensure
    async def test_a_worker_that_was_asleep_does_not_bring_an_old_one_back(self) -> None:
        client, order = await started()
        rig = client.rig
        other = star_rig(database=rig.database, clock=rig.clock, owner="w9")
        rig.clock.advance(NEXT - START)
        (job,) = await rig.jobs.claim((RENEW,), "w2", rig.clock.now(), LEASE, 10)
        rig.authority.gate = Deferred()
        slow = ensureDeferred(rig.renewing.renew(job))
        rig.clock.advance(LIFETIME)
        await other.renewing.renew(job)
        newest = await certificate(client, order)
        assert validity(newest)[1] == START + 3 * LIFETIME
        rig.authority.gate.callback(None)
        await slow
        assert await certificate(client, order) == newest

    @ensure
    async def test_after_a_long_rest_only_what_is_due_is_issued(self) -> None:
        client, order = await started()
        client.rig.clock.advance(LIFETIME + HOUR)
        late = await fetch(client, order)
        assert late.status == 503 and late.headers["retry-after"] == ["60"]  # what there is, is over
        client.rig.clock.advance(2 * LIFETIME)
        await client.rig.work_off()
        assert validity(await certificate(client, order))[1] == START + 4 * LIFETIME
        assert len(await issued_ever(client.rig)) == 2

    @ensure
    async def test_what_hinders_the_ca_for_a_while_delays_and_does_not_end_it(self) -> None:
        client, order = await started()
        rig = client.rig
        rig.clock.advance(NEXT - START)
        rig.authority.failures += [Refusal(RefusalKind.UNAVAILABLE, "the key is away"), RuntimeError("what is this")]
        (job,) = await rig.jobs.claim((RENEW,), "w2", rig.clock.now(), LEASE, 10)
        for expected in (Refusal, RuntimeError):
            with pytest.raises(expected):  # the scheduler backs off and tries again
                await rig.renewing.renew(job)
        assert await state(client, order) == ("valid", "")
        assert await rig.renewing.renew(job) == NEXT + LIFETIME
        assert validity(await certificate(client, order)) == (NEXT, START + 2 * LIFETIME)

    @ensure
    async def test_a_crash_after_the_first_was_issued_costs_nothing(self) -> None:
        """The order is in processing and its certificate in the store: the job finds it, whatever the time."""
        client, order = await ordered()
        await client.prove(order)
        rig, publish = client.rig, client.rig.stars.publish
        rig.stars.publish = lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))  # type: ignore[method-assign]
        final = await client.finalize(order, csr_for(ec_key(), NAME))
        assert final.json["status"] == "processing"
        rig.stars.publish = publish  # type: ignore[method-assign]
        await go_to(rig, START + 2 * LEASE)
        assert await state(client, order) == ("valid", "")
        assert len(await issued_ever(rig)) == 1
        assert len(await series(client, await client.post(order.location))) == 5


async def issued_ever(rig: Rig) -> set[int]:
    """The serials of all certificates in the store."""
    kept = SqlCertificateStore(rig.database, rig.clock)
    return {record.serial for record in await kept.inventory(0, 100)}


class TestTheEnd:
    async def gives_up(self, client: Client, order: Reply, words: str) -> None:
        """At the next renewal the order is over, by this error, and there is no certificate to be had."""
        before = len(await issued_ever(client.rig))
        await go_to(client.rig, NEXT + HOUR)
        status, detail = await state(client, order)
        assert status == "invalid" and words in detail
        reply = await fetch(client, order)
        assert (reply.status, reply.problem) == (403, "orderNotReady")
        assert len(await issued_ever(client.rig)) == before
        assert (await client.post(order.location, CANCEL)).problem == "autoRenewalCancellationInvalid"

    @ensure
    async def test_when_the_core_refuses(self) -> None:
        client, order = await started()
        client.rig.authority.failures.append(Refusal(RefusalKind.REJECTED_NAME, "not this name any more"))
        await self.gives_up(client, order, "not this name any more")

    @ensure
    async def test_when_caa_forbids_it(self) -> None:
        client, order = await started()
        client.rig.validator.caa[NAME] = FailedProof(FailureKind.CAA, "another CA's")
        await self.gives_up(client, order, "another CA's")

    @ensure
    async def test_when_the_client_gives_up_the_right_to_a_name(self) -> None:
        client, order = await started()
        await client.post(order.json["authorizations"][0], {"status": "deactivated"})
        await self.gives_up(client, order, f"the authorization for {NAME} is deactivated")

    @ensure
    async def test_when_the_operator_has_revoked_a_certificate(self) -> None:
        client, order = await started()
        await by_operator(client.rig, await certificate(client, order), RevocationReason.SUPERSEDED)
        await self.gives_up(client, order, "was revoked")

    @ensure
    async def test_when_its_key_is_known_to_be_compromised(self) -> None:
        key = ec_key()
        client, order = await ordered()
        await client.prove(order)
        final = await client.finalize(order, csr_for(key, NAME))
        _, pem = await client.certificate("other.example", key=key)
        await by_operator(client.rig, x509.load_pem_x509_certificates(pem)[0], RevocationReason.KEY_COMPROMISE)
        await self.gives_up(client, final, "compromised")

    @ensure
    async def test_when_the_account_is_deactivated(self) -> None:
        client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
        assert client.kid is not None
        await client.post(client.kid, {"status": "deactivated"})
        reply = await get(client, order)
        assert (reply.status, reply.problem) == (403, "unauthorized")
        await go_to(client.rig, END)
        assert len(await issued_ever(client.rig)) == 1

    @ensure
    async def test_a_hold_only_interrupts_it(self) -> None:
        client, order = await started()
        first = await certificate(client, order)
        await by_operator(client.rig, first, RevocationReason.CERTIFICATE_HOLD)
        await go_to(client.rig, NEXT + HOUR)
        assert await certificate(client, order) == first
        (record,) = await client.rig.authority.store.by_serial(first.serial_number)
        await client.rig.authority.reinstate(ReinstatementRequest(record.issuer_id, record.serial, OPERATOR))
        await go_to(client.rig, NEXT + 2 * HOUR)
        assert validity(await certificate(client, order)) == (NEXT, START + 2 * LIFETIME)


async def by_operator(rig: Rig, leaf: x509.Certificate, reason: RevocationReason) -> None:
    (record,) = await rig.authority.store.by_serial(leaf.serial_number)
    await rig.authority.revoke(RevocationRequest(record.issuer_id, record.serial, reason, OPERATOR))


class TestCanceling:
    @ensure
    async def test_waits_while_a_certificate_is_being_issued(self) -> None:
        """Else one would be issued after the client was told that there would be none."""
        client, order = await started()
        rig = client.rig
        rig.clock.advance(NEXT - START)
        (job,) = await rig.jobs.claim((RENEW,), "w2", rig.clock.now(), LEASE, 10)
        reply = ensureDeferred(client.post(order.location, CANCEL))
        rig.reactor.pump([0.1] * 3)
        assert not reply.called
        later = await rig.renewing.renew(job)
        assert later is not None
        await rig.jobs.postpone(job, "w2", later)
        rig.reactor.pump([0.1] * 3)
        rig.treq.flush()
        canceled = await reply
        assert canceled.json["status"] == "canceled"
        assert canceled.json["expires"] == format_time(START + 2 * LIFETIME)
        assert (await fetch(client, order)).problem == "autoRenewalCanceled"
        await go_to(rig, END)
        assert len(await issued_ever(rig)) == 2

    @ensure
    async def test_does_not_wait_for_ever(self) -> None:
        client, order = await started()
        rig = client.rig
        rig.clock.advance(NEXT - START)
        await rig.jobs.claim((RENEW,), "w2", rig.clock.now(), LEASE, 10)
        reply = ensureDeferred(client.post(order.location, CANCEL))
        rig.reactor.pump([0.1] * 30)
        rig.treq.flush()
        refused = await reply
        assert refused.status == 503 and refused.headers["retry-after"] == ["5"]
        assert await state(client, order) == ("valid", "")
        rig.clock.advance(LEASE)  # that worker died
        assert (await client.post(order.location, CANCEL)).json["status"] == "canceled"

    @ensure
    async def test_is_for_orders_that_renew_and_for_their_account(self) -> None:
        client, order = await started()
        plain, _ = await client.certificate("plain.example")
        reply = await client.post(plain.location, CANCEL)
        assert (reply.status, reply.problem) == (400, "malformed")
        other = Client(client.rig)
        await other.register()
        assert (await other.post(order.location, CANCEL)).problem == "unauthorized"
        assert (await other.post(order.json["star-certificate"])).problem == "unauthorized"
        payloads: tuple[Any, ...] = ({}, {"status": "invalid"}, b"[]", b"canceled")
        for payload in payloads:
            assert (await client.post(order.location, payload)).problem == "malformed"
        assert await state(client, order) == ("valid", "")


class TestReading:
    @ensure
    async def test_by_get_ends_with_the_setting(self) -> None:
        client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
        assert (await get(client, order)).status == 200
        now = star_rig(TERMS, database=client.rig.database, clock=client.rig.clock)
        reply = await ask(now, "GET", order.json["star-certificate"])
        assert (reply.status, reply.problem) == (405, "malformed") and "POST" in reply.headers["allow"][0]
        off = Rig(database=client.rig.database, clock=client.rig.clock, terms=OrderTerms("default"))
        assert (await ask(off, "GET", order.json["star-certificate"])).status == 405

    @ensure
    async def test_orders_of_before_go_on_where_nothing_is_offered_any_more(self) -> None:
        client, order = await started()
        off = Rig(database=client.rig.database, clock=client.rig.clock)
        client.rig = off
        await go_to(off, NEXT)
        assert validity(await certificate(client, order)) == (NEXT, START + 2 * LIFETIME)
        assert (await client.post(order.location, CANCEL)).json["status"] == "canceled"

    @ensure
    async def test_what_is_not_there(self) -> None:
        client, order = await started(star_rig(BY_GET), members={"allow-certificate-get": True})
        where = order.json["star-certificate"]
        plain, _ = await client.certificate("plain.example")
        for url in (f"{where}?chain=9", f"{BASE}/order/nothing/star-certificate", f"{plain.location}/star-certificate"):
            assert (await ask(client.rig, "GET", url)).status == 404, url
            assert (await client.post(url)).status == 404, url
        assert (await client.post(f"{order.location}/certificate")).status == 404
        assert (await client.post(where, {})).problem == "malformed"

    @ensure
    async def test_before_the_first_there_is_none(self) -> None:
        client, order = await ordered()
        reply = await client.post(f"{order.location}/star-certificate")
        assert (reply.status, reply.problem) == (403, "orderNotReady")


def test_the_second_is_due_when_the_tests_say() -> None:
    assert START + timedelta(days=1, hours=14, minutes=24) == NEXT
