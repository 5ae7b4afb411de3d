"""Who has the role decides from elsewhere about what others asked; nobody else does, and no web page."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted

from opencertd.model.approval import ApprovalState
from opencertd.model.requester import ANY_NAME, Proof, Requester
from tests.est.rig import USER, new_csr
from tests.est.test_approval import Counter, certificate_of, check_waits, new_key

ensure = pytest_twisted.ensureDeferred
BOB = Requester(Proof.TLS_CERTIFICATE, "ab" * 32, "CN=bob", ANY_NAME, roles=frozenset({"approver"}))


async def as_one(counter: Counter, who: Requester, method: str, path: str, **headers: str) -> tuple[int, Any]:
    counter.door.who = who
    response, body = await counter.ask(method, path, **headers)
    return response.code, json.loads(body)


async def waiting(counter: Counter, name: str = "cam", who: Requester = USER) -> tuple[str, bytes]:
    """The id of a new request of `who`, and its CSR."""
    csr = new_csr(f"CN={name}", f"{name}.test", key=new_key())
    counter.door.who = who
    check_waits(await counter.enrol(csr))
    return (await counter.desk.waiting())[-1].id, csr


@ensure
async def test_what_waits_is_shown_page_by_page_with_what_an_approver_needs() -> None:
    counter = Counter()
    ids = [(await waiting(counter, f"cam{number}"))[0] for number in range(3)]
    code, page = await as_one(counter, BOB, "GET", "/ca/requests?limit=2")
    assert (code, [one["id"] for one in page["requests"]]) == (200, ids[:2])
    one = page["requests"][0]
    asked = (await counter.desk.waiting())[0]
    assert (one["status"], one["requester"], one["subject"]) == ("waiting", "password:estuser", "CN=cam0")
    assert (one["names"], one["keySha256"]) == ([{"type": "dns", "value": "cam0.test"}], asked.spki_sha256)
    assert one["until"] == asked.until.strftime("%Y-%m-%dT%H:%M:%SZ")
    code, rest = await as_one(counter, BOB, "GET", page["next"])
    assert (code, [one["id"] for one in rest["requests"]], "next" in rest) == (200, ids[2:], False)


@ensure
async def test_an_approval_lets_the_requester_have_the_certificate_once() -> None:
    counter = Counter()
    identity, csr = await waiting(counter)
    code, said = await as_one(counter, BOB, "POST", f"/ca/requests/{identity}/approve?reason=ticket+7")
    assert (code, said["status"], said["reason"]) == (200, "approved", "ticket 7")
    assert said["decidedBy"] == f"tls-certificate:{BOB.id}"
    for deed in ("approve", "reject?reason=no"):
        code, _ = await as_one(counter, BOB, "POST", f"/ca/requests/{identity}/{deed}")
        assert code == 409, "decided once"
    counter.door.who = USER
    certificate_of(await counter.enrol(csr))


@ensure
async def test_the_rejected_are_told_why() -> None:
    counter = Counter()
    identity, csr = await waiting(counter)
    code, said = await as_one(counter, BOB, "POST", f"/ca/requests/{identity}/reject?reason=not+ours")
    assert (code, said["status"]) == (200, "rejected")
    counter.door.who = USER
    response, body = await counter.enrol(csr)
    assert response.code == 403 and b"not ours" in body


@ensure
async def test_it_needs_the_role_and_another_than_who_asked() -> None:
    counter = Counter()
    approving_user = Requester(Proof.PASSWORD, "estuser", "estuser", ANY_NAME, roles=frozenset({"approver"}))
    identity, _ = await waiting(counter)
    for who in (USER, Requester(Proof.BEARER_TOKEN, "x", "x", ANY_NAME, roles=frozenset({"revoker", "operator"}))):
        for method, path in (("GET", "/ca/requests"), ("POST", f"/ca/requests/{identity}/approve")):
            assert (await as_one(counter, who, method, path))[0] == 403
    code, said = await as_one(counter, approving_user, "POST", f"/ca/requests/{identity}/approve")
    assert code == 403 and "their own" in said["detail"]
    ((one),) = await counter.desk.waiting()
    assert one.state is ApprovalState.WAITING


@ensure
async def test_no_web_page_decides_by_an_approvers_browser() -> None:
    counter = Counter()
    identity, _ = await waiting(counter)
    for origin in ("https://evil.test", "null"):
        code, _ = await as_one(counter, BOB, "POST", f"/ca/requests/{identity}/approve", Origin=origin)
        assert code == 403
    assert len(await counter.desk.waiting()) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing/approve", 404),
        ("%F0%9F%98%80/reject?reason=x", 404),
        ("ID/reject", 400),
        ("ID/reject?reason=+", 400),
        ("ID/reject?" + urlencode({"reason": "x" * 501}), 400),
        ("ID/reject?" + urlencode({"reason": "two\nlines"}), 400),
        ("ID/approve?" + urlencode({"reason": "\x1b[31m"}), 400),
        ("ID/erase", 404),
    ],
)
@ensure
async def test_what_makes_no_sense_is_refused_and_decides_nothing(path: str, status: int) -> None:
    counter = Counter()
    identity, _ = await waiting(counter)
    assert (await as_one(counter, BOB, "POST", "/ca/requests/" + path.replace("ID", identity)))[0] == status
    assert len(await counter.desk.waiting()) == 1


@ensure
async def test_where_nobody_approves_there_is_nothing() -> None:
    counter = Counter()
    counter.authority.approvals = None
    assert (await as_one(counter, BOB, "GET", "/ca/requests"))[0] == 404
