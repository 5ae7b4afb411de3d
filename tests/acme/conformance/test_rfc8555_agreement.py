"""RFC 8555 §7.3.3 and §7.3.4: changed terms of service, external account binding."""

from __future__ import annotations

import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest

from opencertd.acme.documents import Meta
from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare
from tests.acme.conformance.people import NEW_ACCOUNT
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import b64, ec_key, jwk_of
from tests.acme.test_external_account import SECRET, add, make_rig
from tests.cli.shell import opencert
from tests.conformance import shows

OLD, NEW = (Meta(terms_of_service=f"https://ca.example/terms/{edition}") for edition in (1, 2))


async def after_change() -> Reply:
    """An order by an account that agreed to what were the terms then."""
    before = Rig(meta=OLD)
    client = Client(before)
    assert (await client.register()).status == 201
    assert (await client.order("a.example")).status == 201
    client.rig = Rig(meta=NEW, database=before.database)
    return await client.order("b.example")


@shows("8555 §7.3.3/1")
async def test_7_3_3_changed_terms() -> None:
    reply = await after_change()
    assert (reply.status, reply.problem) == (403, "userActionRequired")


@shows("8555 §7.3.3/2")
async def test_7_3_3_link_to_the_terms() -> None:
    assert f'<{NEW.terms_of_service}>;rel="terms-of-service"' in (await after_change()).headers["link"]


@shows("8555 §7.3.3/3")
async def test_7_3_3_for_a_person_to_visit() -> None:
    assert (await after_change()).json["instance"].startswith("https://")


def binding(client: Client, *, secret: bytes = SECRET, payload: Any = None, **header: Any) -> dict[str, str]:
    """A binding by the RFC's words; None takes a member of the header away."""
    members = {"alg": "HS256", "kid": "printers", "url": NEW_ACCOUNT, **header}
    protected = b64(json.dumps({name: value for name, value in members.items() if value is not None}).encode())
    body = b64(json.dumps(jwk_of(client.key) if payload is None else payload).encode())
    mac = hmac.new(secret, f"{protected}.{body}".encode(), "sha256").digest()
    return {"protected": protected, "payload": body, "signature": b64(mac)}


async def bound(**spoil: Any) -> tuple[Client, Reply]:
    rig = make_rig()
    await add(rig)
    client = Client(rig)
    return client, await client.register(externalAccountBinding=binding(client, **spoil))


async def check_refused(**spoil: Any) -> None:
    client, reply = await bound(**spoil)
    assert reply.status in {400, 403} and reply.problem
    assert (await client.post(NEW_ACCOUNT, {"onlyReturnExisting": True})).problem == "accountDoesNotExist"


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ca") / "state"
    prepare(Settings(dn="CN=Binding", state_dir=made, hostname=("localhost",)), SystemClock()).unlock()
    return made


@shows("8555 §7.3.4/1")
def test_7_3_4_key_identifiers_are_ascii(state_dir: Path) -> None:
    assert opencert("acme", "eab", "add", "dr\u00fccker", "--state-dir", state_dir).exit_code != 0
    assert opencert("acme", "eab", "list", "--state-dir", state_dir).stdout == ""


@shows("8555 §7.3.4/2")
def test_7_3_4_mac_keys_are_base64url(state_dir: Path) -> None:
    said = opencert("acme", "eab", "add", "printer", "--state-dir", state_dir).stdout.split()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43,}", said[said.index("--eab-hmac-key") + 1])


@shows("8555 §7.3.4/3")
async def test_7_3_4_a_binding_is_required() -> None:
    assert (await ask(make_rig(), "GET", f"{BASE}/directory")).json["meta"]["externalAccountRequired"] is True


@shows("8555 §7.3.4/4")
async def test_7_3_4_and_lacking() -> None:
    assert (await Client(make_rig()).register()).problem == "externalAccountRequired"


@shows("8555 §7.3.4/5")
async def test_7_3_4_a_jws() -> None:
    rig = make_rig()
    await add(rig)
    client = Client(rig)
    good = binding(client)
    for wrong in ("x", [], {}, {**good, "payload": None}, {**good, "protected": "e30"}, {**good, "signature": "="}):
        assert (await client.register(externalAccountBinding=wrong)).status in {400, 403}, wrong


@shows("8555 §7.3.4/6")
async def test_7_3_4_by_a_mac() -> None:
    for algorithm in ("ES256", "none", "RS256", None):
        await check_refused(alg=algorithm)


@shows("8555 §7.3.4/7")
async def test_7_3_4_by_a_key_of_this_ca() -> None:
    for kid in ("nobody", None, 5):
        await check_refused(kid=kid)


@shows("8555 §7.3.4/8")
async def test_7_3_4_without_a_nonce() -> None:
    await check_refused(nonce="AAAA")


@shows("8555 §7.3.4/9")
async def test_7_3_4_for_the_same_url() -> None:
    for url in (f"{BASE}/new-order", None):
        await check_refused(url=url)


@shows("8555 §7.3.4/10")
async def test_7_3_4_whose_mac_is_right() -> None:
    await check_refused(secret=bytes(32))


@shows("8555 §7.3.4/11")
async def test_7_3_4_for_the_accounts_key() -> None:
    for payload in (jwk_of(ec_key()), {}, []):
        await check_refused(payload=payload)


@shows("8555 §7.3.4/12")
async def test_7_3_4_is_shown() -> None:
    client, made = await bound()
    assert made.status == 201
    assert made.json["externalAccountBinding"] == binding(client)


@shows("8555 §7.3.4/13")
async def test_7_3_4_or_there_is_no_account() -> None:
    rig = make_rig(required=False)
    await add(rig)
    client = Client(rig)
    reply = await client.register(externalAccountBinding=binding(client, secret=bytes(32)))
    assert reply.status in {400, 403}
    assert (await client.post(NEW_ACCOUNT, {"onlyReturnExisting": True})).problem == "accountDoesNotExist"
