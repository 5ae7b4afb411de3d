"""How every conversation begins: the directory, nonces, and who may say what to which URL."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.acme.documents import Meta
from opencertd.acme.jws import ALGORITHMS
from tests.acme.rig import BASE, Client, Rig, ask, check_manners
from tests.acme.signing import algorithm_of, ec_key, jwk_of, keys_of_all_kinds, rsa_key

JOSE = {"Content-Type": "application/jose+json"}
POSTS = [
    *("/new-account", "/new-order", "/new-authz", "/revoke-cert", "/key-change"),
    *("/account/x", "/account/x/orders", "/order/x", "/order/x/finalize", "/order/x/certificate"),
    *("/authorization/x", "/challenge/x"),
]


@pytest_twisted.ensureDeferred
async def test_the_directory_is_for_everybody() -> None:
    rig = Rig(meta=Meta(website="https://www.example"))
    reply = await ask(rig, "GET", f"{BASE}/directory")
    assert (reply.status, reply.headers["content-type"]) == (200, ["application/json"])
    assert reply.json["newOrder"] == f"{BASE}/new-order"
    assert reply.json["meta"]["website"] == "https://www.example"
    assert "link" not in reply.headers


@pytest_twisted.ensureDeferred
async def test_new_nonce() -> None:
    rig = Rig()
    seen = set()
    for method, status in (("HEAD", 200), ("GET", 204)):
        reply = await ask(rig, method, f"{BASE}/new-nonce")
        assert (reply.status, reply.body) == (status, b"")
        assert reply.headers["cache-control"] == ["no-store"]
        assert reply.headers["link"] == [f'<{BASE}/directory>;rel="index"']
        seen.add(reply.headers["replay-nonce"][0])
    assert len(seen) == 2


@pytest.mark.parametrize("path", POSTS)
@pytest_twisted.ensureDeferred
async def test_post_only_routes_refuse_other_methods(path: str) -> None:
    rig = Rig()
    for method in ("GET", "PUT", "DELETE"):
        reply = await ask(rig, method, BASE + path)
        assert (reply.status, reply.problem, reply.headers["allow"]) == (405, "malformed", ["OPTIONS, POST"])


@pytest.mark.parametrize("path", ["/directory", "/new-nonce"])
@pytest_twisted.ensureDeferred
async def test_what_is_there_by_get_is_read_by_post_only_with_a_signature_and_no_payload(path: str) -> None:
    client = Client(Rig())
    assert (await client.send(BASE + path, b"")).problem == "malformed"
    await client.register()
    assert (await client.post(path, {})).problem == "malformed"
    assert (await client.post(path)).status == (200 if path == "/directory" else 204)


@pytest_twisted.ensureDeferred
async def test_an_unknown_path_below_ours_is_a_problem_document() -> None:
    reply = await ask(Rig(), "POST", f"{BASE}/order/x/y/z", b"", JOSE)
    check_manners(reply)
    assert (reply.status, reply.problem) == (404, "malformed")


@pytest.mark.parametrize("path", POSTS)
@pytest_twisted.ensureDeferred
async def test_another_media_type_is_refused(path: str) -> None:
    rig = Rig()
    body = await Client(rig).signed(BASE + path, {})
    for headers in ({}, {"Content-Type": "application/json"}, {"Content-Type": "application/jose+jsonx"}):
        reply = await ask(rig, "POST", BASE + path, body, headers)
        check_manners(reply)
        assert (reply.status, reply.problem) == (415, "malformed")


@pytest_twisted.ensureDeferred
async def test_the_media_type_may_have_parameters_and_capitals() -> None:
    rig = Rig()
    body = await Client(rig).signed(f"{BASE}/new-account", {})
    headers = {"Content-Type": "Application/JOSE+JSON; charset=utf-8"}
    assert (await ask(rig, "POST", f"{BASE}/new-account", body, headers)).status == 201


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"\xff\x00", b"[" * 50000, b'{"protected":"","payload":"","signature":""}']
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_jws_is_malformed_everywhere(path: str, body: bytes) -> None:
    reply = await Client(Rig()).send(BASE + path, body)
    assert (reply.status, reply.problem) == (400, "malformed")


@pytest_twisted.ensureDeferred
async def test_a_nonce_is_good_once() -> None:
    rig = Rig()
    client = Client(rig)
    nonce = await client.fresh_nonce()
    assert (await client.post("/new-account", {}, nonce=nonce)).status == 201
    again = await client.post("/new-account", {}, nonce=nonce)
    assert (again.status, again.problem) == (400, "badNonce")
    assert (await client.post("/new-account", {})).status == 200


@pytest_twisted.ensureDeferred
async def test_a_replayed_request_is_refused_as_a_whole() -> None:
    client = Client(Rig())
    await client.register()
    url = f"{BASE}/new-order"
    body = await client.signed(url, {"identifiers": [{"type": "dns", "value": "a.example"}]})
    assert (await client.send(url, body)).status == 201
    assert (await client.send(url, body)).problem == "badNonce"


@pytest_twisted.ensureDeferred
async def test_missing_old_and_foreign_nonces_are_bad_and_the_answer_brings_a_good_one() -> None:
    rig = Rig()
    client = Client(rig)
    old = await client.fresh_nonce()
    rig.clock.advance(timedelta(hours=1))
    for nonce in (None, "", "bm9uY2U", old):
        reply = await client.post("/new-account", {}, nonce=nonce)
        assert (reply.status, reply.problem) == (400, "badNonce"), nonce
    assert (await client.register()).status == 201


@pytest_twisted.ensureDeferred
async def test_a_used_nonce_is_remembered_until_it_is_too_old_to_be_taken() -> None:
    rig = Rig()
    client = Client(rig)
    nonce = await client.fresh_nonce()
    await client.post("/new-account", {}, nonce=nonce)
    rig.clock.advance(timedelta(minutes=59, seconds=59))
    await rig.clean_up.nonces(rig.clock.now())
    assert (await client.post("/new-account", {}, nonce=nonce)).problem == "badNonce"
    rig.clock.advance(timedelta(hours=1))
    await rig.clean_up.nonces(rig.clock.now())
    assert (await client.post("/new-account", {}, nonce=nonce)).problem == "badNonce"


@pytest.mark.parametrize(
    "url",
    [
        "https://ca.example/pki/new-order",
        "https://backend.internal/new-account",
        "http://ca.example/pki/new-account",
        "https://ca.example/pki/new-account?",
        "https://ca.example/pki/new-account/",
        "/new-account",
        "",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_request_made_for_another_url_is_refused(url: str) -> None:
    client = Client(Rig())
    body = await client.signed(f"{BASE}/new-account", {}, url=url)
    reply = await client.send(f"{BASE}/new-account", body)
    assert (reply.status, reply.problem) == (403, "unauthorized")


@pytest.mark.parametrize("key", keys_of_all_kinds(), ids=algorithm_of)
@pytest_twisted.ensureDeferred
async def test_accounts_with_every_kind_of_key_can_order(key: Any) -> None:
    client = Client(Rig(), key)
    assert (await client.register()).status == 201
    assert (await client.order("a.example")).status == 201


@pytest_twisted.ensureDeferred
async def test_a_weak_account_key_is_refused() -> None:
    reply = await Client(Rig(), rsa_key(1024)).register()
    assert (reply.status, reply.problem) == (400, "badPublicKey")


@pytest_twisted.ensureDeferred
async def test_an_unknown_algorithm_is_answered_with_those_known() -> None:
    reply = await Client(Rig()).post("/new-account", {}, alg="HS256")
    assert (reply.status, reply.problem) == (400, "badSignatureAlgorithm")
    assert reply.json["algorithms"] == list(ALGORITHMS)


@pytest_twisted.ensureDeferred
async def test_new_account_takes_only_jwk_and_the_rest_only_kid() -> None:
    client = Client(Rig())
    await client.register()
    assert (await client.post("/new-account", {})).problem == "malformed"
    for path in POSTS[1:]:
        if path != "/revoke-cert":
            assert (await client.post(path, {}, by_key=True)).problem == "malformed", path


@pytest.mark.parametrize("path", [path for path in POSTS if path != "/new-account"])
@pytest_twisted.ensureDeferred
async def test_nobody_signs_for_another_account(path: str) -> None:
    rig = Rig()
    owner, thief = Client(rig), Client(rig)
    await owner.register()
    reply = await thief.post(path, {}, jwk=None, kid=owner.kid)
    assert (reply.status, reply.problem) == (400, "malformed")
    assert "signature" in reply.json["detail"]


@pytest.mark.parametrize(
    "kid",
    [f"{BASE}/account/nobody", f"{BASE}/account/", f"{BASE}/account/a\0b", "nobody", "https://other.example/account/x"],
)
@pytest_twisted.ensureDeferred
async def test_an_unknown_account_does_not_exist(kid: str) -> None:
    reply = await Client(Rig()).post("/new-order", {}, jwk=None, kid=kid)
    assert (reply.status, reply.problem) == (400, "accountDoesNotExist")


@pytest.mark.parametrize("path", [path for path in POSTS if "/x" in path])
@pytest.mark.parametrize("record", ["x", "a%20b", "%C3%A4", "x" * 65, "..", "%27"])
@pytest_twisted.ensureDeferred
async def test_records_that_cannot_be_are_not_found(path: str, record: str) -> None:
    client = Client(Rig())
    await client.register()
    payload = {"csr": ""} if path.endswith("finalize") else None
    reply = await client.post(path.replace("/x", f"/{record}"), payload)
    assert reply.status == (403 if path.startswith("/account") and record == "x" else 404), reply.body


@pytest_twisted.ensureDeferred
async def test_junk_in_json_is_no_trouble() -> None:
    client = Client(Rig())
    await client.register()
    for payload in (
        b"{",
        b"[]",
        b"\xff",
        b'{"identifiers":' + b"[" * 30000,
        b'{"identifiers":[{"type":"dns","value":"\\ud800"}]}',
    ):
        assert (await client.post("/new-order", payload)).problem == "malformed"


@pytest_twisted.ensureDeferred
async def test_the_signature_covers_the_payload() -> None:
    client = Client(Rig())
    document = json.loads(await client.signed(f"{BASE}/new-account", {"contact": []}))
    other = json.loads(await client.signed(f"{BASE}/new-account", {"contact": None}))
    body = json.dumps({**document, "payload": other["payload"]}).encode()
    assert (await client.send(f"{BASE}/new-account", body)).problem == "malformed"
    assert (await client.post("/new-account", {}, jwk=jwk_of(ec_key()))).problem == "malformed"
