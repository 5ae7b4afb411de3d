"""Under a profile that wants approval nothing is issued that was not approved just so, and one approval gives one."""

from __future__ import annotations

import dataclasses
import json
import secrets
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred, DeferredList

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.approvals import TOLD_AGAIN, Approvals, ApprovalTerms, Decide
from opencertd.model.approval import ApprovalRequest, ApprovalState, Decision
from opencertd.model.certificates import CertificateState
from opencertd.model.request import IssuanceRequest, IssuedCertificate, IssuingProtocol, Transaction, Window
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.audit import SqlAuditStore
from tests.ca import TestCa, dns, make_ca, make_rules, request, requester, spki_of
from tests.store.values import refused

ensure = pytest_twisted.ensureDeferred
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
OPERATOR = Requester(Proof.OPERATOR, "root", "root", ANY_NAME)
RULES = """
[profiles.cameras]
approval = "person"
validity = "30d"
[profiles.brief]
like = "cameras"
validity = "1h"
"""


class Desk:
    """A CA with such profiles, and who decides."""

    def __init__(self, decide: Decide | None = None, rules: str = RULES) -> None:
        self.ca: TestCa = make_ca(rules=rules)
        self.clock = self.ca.clock
        self.store = SqlApprovalStore(self.ca.database, self.clock)
        self.authority = self.ca.authority
        self.authority.approvals = self.approvals(decide)

    def approvals(self, decide: Decide | None = None) -> Approvals:
        return Approvals(
            self.store,
            clock=self.clock,
            reactor=self.ca.reactor,
            random=secrets.token_bytes,
            terms=ApprovalTerms(WEEK, 60, 3),
            decide=decide,
        )

    async def waiting(self) -> list[ApprovalRequest]:
        return [one for _, one in await self.store.waiting(0, 100)]

    async def decide(self, approved: bool = True, reason: str = "") -> ApprovalRequest:
        """About the one that waits."""
        (one,) = await self.waiting()
        until = self.clock.now() + WEEK
        return await self.store.decide(one.id, Decision(approved, reason), OPERATOR, until)

    async def issue(self, wish: IssuanceRequest) -> IssuedCertificate:
        return await self.authority.issue(wish)

    async def pends(self, wish: IssuanceRequest) -> Refusal:
        refusal = await refused(self.issue(wish))
        assert refusal.kind is RefusalKind.PENDING, refusal
        assert refusal.retry_after == 60
        return refusal

    async def audit(self) -> list[tuple[str, str, str]]:
        entries = await SqlAuditStore(self.ca.database, self.clock).page(None, 1000)
        told = [(e.deed, json.loads(e.what).get("change", ""), e.result) for e in entries]
        return [one for one in told if one[0] in {"approval", "issue"}]


def wish(**changes: Any) -> IssuanceRequest:
    """A request as an edge makes it: a repetition of it has another CSR, so another transaction."""
    transaction = Transaction(secrets.token_hex(8), timedelta(minutes=1))
    values = {"profile": "cameras", "protocol": IssuingProtocol.EST, "transaction": transaction}
    return request(**{**values, **changes})


def again(first: IssuanceRequest) -> IssuanceRequest:
    """The same, by a CSR that is not byte for byte the same."""
    return dataclasses.replace(first, transaction=Transaction(secrets.token_hex(8), timedelta(minutes=1)))


@ensure
async def test_a_request_waits_until_somebody_approves_it_and_gives_one_certificate() -> None:
    desk = Desk()
    before = len(await desk.audit())
    asked = wish()
    words = (await desk.pends(asked)).detail
    await desk.pends(again(asked))
    (waiting,) = await desk.waiting()
    assert waiting.id in words
    assert (waiting.subject, waiting.names, waiting.profile) == ("CN=device.test", dns("device.test"), "cameras")
    assert (waiting.requester, waiting.protocol, waiting.key) == ("password:estuser", "est", "EC P-256")
    await desk.decide()
    issued = await desk.issue(again(asked))
    repeated = await desk.issue(again(asked))
    assert repeated.certificate_der == issued.certificate_der
    told = (await desk.audit())[before:]
    changes = [("approval", change, "done") for change in ("ask", "approve")]
    assert told == [*changes, ("issue", "", "done"), ("approval", "issue", "done")]


@ensure
async def test_whoever_decides_sees_how_long_it_is_to_be_good() -> None:
    desk = Desk(rules=RULES + '[profiles.wished]\nlike = "cameras"\nvalidity_may_be_asked = true\n')
    now = desk.clock.now().replace(microsecond=0)
    for window in (Window(now + HOUR, now + 6 * HOUR), Window(not_after=now + 5 * HOUR)):
        asked = wish(profile="wished", validity=window)
        await desk.pends(asked)
        (waiting,) = await desk.waiting()
        assert waiting.validity == 5 * HOUR
        await desk.decide()
        assert (await desk.issue(again(asked))).record.not_after == window.not_after


@ensure
async def test_later_the_same_wish_is_another_request() -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    first = await desk.issue(asked)
    desk.clock.advance(TOLD_AGAIN)
    await desk.pends(asked)
    await desk.decide()
    second = await desk.issue(asked)
    assert second.record.serial != first.record.serial


@ensure
async def test_a_certificate_is_not_told_again_when_little_is_left_of_it() -> None:
    desk = Desk()
    asked = wish(profile="brief")
    await desk.pends(asked)
    await desk.decide()
    await desk.issue(asked)
    desk.clock.advance(HOUR / 2 - timedelta(minutes=1))
    await desk.issue(asked)
    desk.clock.advance(timedelta(minutes=1))
    await desk.pends(asked)


OTHER_KEY = spki_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    "change",
    [
        {"spki_der": OTHER_KEY},
        {"subject": parse_dn("CN=device.test,O=Else")},
        {"names": dns("device.test", "other.test")},
        {"names": ()},
        {"requester": requester(id="mallory", label="estuser")},
        {"requester": requester(proof=Proof.BEARER_TOKEN)},
        {"profile": "brief"},
        {"applicant_spki_der": OTHER_KEY},
        {"transaction": Transaction("acme-order:1")},
    ],
    ids=lambda change: next(iter(change)),
)
@ensure
async def test_what_was_not_approved_just_so_waits(change: dict[str, Any]) -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    await desk.pends(dataclasses.replace(asked, **change))
    assert (await desk.issue(asked)).record.names == asked.names


@ensure
async def test_when_the_profile_would_make_another_subject_meanwhile_it_is_asked_anew() -> None:
    desk = Desk()
    asked = wish(subject=x509.Name([]))
    await desk.pends(asked)
    await desk.decide()
    rules = make_rules(RULES, desk.ca.issuers)
    changed = make_rules(RULES.replace('"30d"', '"30d"\nsubject = "O=Cameras"', 1), desk.ca.issuers)
    desk.authority.adopt(desk.ca.issuers, changed.profiles, changed.policies)
    await desk.pends(asked)
    desk.authority.adopt(desk.ca.issuers, rules.profiles, rules.policies)
    await desk.issue(asked)


@ensure
async def test_policy_is_looked_at_when_it_is_issued_too() -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    stricter = make_rules(RULES + '[policy.deny]\ndns = ["device.test"]\n', desk.ca.issuers)
    desk.authority.adopt(desk.ca.issuers, stricter.profiles, stricter.policies)
    assert (await refused(desk.issue(asked))).kind is RefusalKind.REJECTED_NAME


@ensure
async def test_nobody_is_asked_about_what_would_be_refused_anyway() -> None:
    desk = Desk(rules=RULES + '[policy.deny]\ndns = ["device.test"]\n')
    assert (await refused(desk.issue(wish()))).kind is RefusalKind.REJECTED_NAME
    assert await desk.waiting() == []


@ensure
async def test_a_rejection_is_told_in_words_until_its_time_is_over() -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide(approved=False, reason="no device of ours")
    for _ in range(2):
        refusal = await refused(desk.issue(again(asked)))
        assert refusal.kind is RefusalKind.UNAUTHORIZED
        assert refusal.detail.endswith("was rejected: no device of ours")
    desk.clock.advance(WEEK)
    await desk.pends(asked)


@pytest.mark.parametrize("approve", [False, True])
@ensure
async def test_what_is_not_decided_or_fetched_in_time_is_asked_anew(approve: bool) -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    (old,) = await desk.waiting()
    if approve:
        await desk.decide()
    desk.clock.advance(WEEK)
    await desk.pends(asked)
    (new,) = await desk.waiting()
    assert new.id != old.id
    states = [one.state for _, one in await desk.store.all(0, 10)]
    assert states == [ApprovalState.EXPIRED, ApprovalState.WAITING]


@ensure
async def test_many_that_come_for_it_at_once_get_the_same() -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    coming: list[Deferred[IssuedCertificate]] = [Deferred.fromCoroutine(desk.issue(again(asked))) for _ in range(9)]
    issued = [one for _, one in await DeferredList(coming, fireOnOneErrback=True)]
    assert len({one.certificate_der for one in issued}) == 1
    page = await desk.authority.store.inventory(0, 1000)
    assert [one.names for one in page].count(dns("device.test")) == 1


@ensure
async def test_whoever_was_killed_before_it_said_that_it_issued_has_issued_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    with monkeypatch.context() as killed:
        killed.setattr(desk.authority.approvals, "spend", Desk.pends)  # ends in a TypeError, before anything is kept
        with pytest.raises(TypeError):
            await desk.issue(asked)
    first = [one for _, one in await desk.store.all(0, 10)]
    assert [one.state for one in first] == [ApprovalState.APPROVED]
    issued = await desk.issue(asked)
    assert issued.record.state is CertificateState.ISSUED
    page = await desk.authority.store.inventory(0, 1000)
    assert [one.names for one in page].count(dns("device.test")) == 1
    assert [one.certificate_id for _, one in await desk.store.all(0, 10)] == [issued.record.id]


@ensure
async def test_one_deed_that_is_known_for_ever_gets_its_certificate_for_ever() -> None:
    """As an ACME order does, whose worker was killed and comes back late."""
    desk = Desk()
    asked = wish(transaction=Transaction("acme-order:1"))
    await desk.pends(asked)
    await desk.decide()
    issued = await desk.issue(asked)
    desk.clock.advance(2 * WEEK)
    assert (await desk.issue(asked)).certificate_der == issued.certificate_der
    await desk.pends(dataclasses.replace(asked, transaction=Transaction("acme-order:2")))


@ensure
async def test_too_many_that_wait_are_refused_and_others_are_not_in_their_way() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.pends(wish())
    assert (await refused(desk.issue(wish()))).kind is RefusalKind.RATE_LIMITED
    await desk.pends(wish(requester=requester(id="bob")))


@ensure
async def test_names_too_long_for_anybody_to_read_are_refused() -> None:
    desk = Desk(rules=RULES)
    long = tuple(dns(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{number}.test")[0] for number in range(90))
    refusal = await refused(desk.issue(wish(names=long)))
    assert refusal.kind is RefusalKind.TOO_LARGE
    assert await desk.waiting() == []


@ensure
async def test_where_nobody_can_approve_nothing_is_issued() -> None:
    desk = Desk()
    desk.authority.approvals = None
    assert (await refused(desk.issue(wish()))).kind is RefusalKind.UNAVAILABLE


@ensure
async def test_other_profiles_and_the_daemon_itself_wait_for_nobody() -> None:
    desk = Desk()
    await desk.issue(wish(profile="default"))
    await desk.issue(wish(requester=requester(proof=Proof.DAEMON)))
    assert await desk.waiting() == []


@pytest.mark.parametrize("approved", [True, False])
@ensure
async def test_code_decides_at_once(approved: bool) -> None:
    seen: list[ApprovalRequest] = []

    async def decide(waiting: ApprovalRequest) -> Decision:
        seen.append(waiting)
        return Decision(approved, "by the inventory", by="inventory")

    desk = Desk(decide)
    asked = wish()
    if approved:
        await desk.issue(asked)
    else:
        assert "rejected: by the inventory" in (await refused(desk.issue(asked))).detail
    (kept,) = [one for _, one in await desk.store.all(0, 10)]
    assert (kept.decided_by, kept.reason) == ("daemon:inventory", "by the inventory")
    assert [one.id for one in seen] == [kept.id]
    assert seen[0].state is ApprovalState.WAITING


async def _leaves_it(waiting: ApprovalRequest) -> None:
    return None


async def _fails(waiting: ApprovalRequest) -> Decision:
    raise RuntimeError("the inventory is away")


@pytest.mark.parametrize("decide", [_leaves_it, _fails])
@ensure
async def test_what_code_does_not_decide_waits_for_a_person(decide: Decide) -> None:
    desk = Desk(decide)
    asked = wish()
    await desk.pends(asked)
    await desk.decide()
    await desk.issue(asked)


@ensure
async def test_code_that_never_answers_holds_nobody_up() -> None:
    asked_at: list[ApprovalRequest] = []

    async def decide(waiting: ApprovalRequest) -> Decision | None:
        asked_at.append(waiting)
        await Deferred()
        return None

    desk = Desk(decide)
    asking = Deferred.fromCoroutine(desk.issue(wish()))
    assert not asking.called and asked_at
    desk.ca.reactor.advance(10)
    assert (await refused(asking)).kind is RefusalKind.PENDING


@ensure
async def test_a_person_who_is_faster_than_the_code_counts() -> None:
    desk = Desk()

    async def decide(waiting: ApprovalRequest) -> Decision:
        await desk.decide(approved=False, reason="by hand")
        return Decision(approved=True)

    desk.authority.approvals = desk.approvals(decide)
    assert "by hand" in (await refused(desk.issue(wish()))).detail


@ensure
async def test_what_is_approved_is_what_the_certificate_has() -> None:
    desk = Desk()
    asked = wish(names=dns("a.test", "b.test"), subject=parse_dn("CN=a.test,O=Cam"))
    await desk.pends(asked)
    shown = await desk.decide()
    certificate = x509.load_der_x509_certificate((await desk.issue(asked)).certificate_der)
    assert certificate.subject.rfc4514_string() == shown.subject
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name.value for name in shown.names]
