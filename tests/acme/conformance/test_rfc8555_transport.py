"""RFC 8555 §5 and §6: how requests are made and signed, URLs, nonces."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ed25519
from OpenSSL import SSL

from opencertd.acme.jws import ALGORITHMS
from tests.acme.conformance.people import (
    JOSE,
    NEW_ACCOUNT,
    NEW_ORDER,
    authorization,
    certified,
    encoded,
    envelope,
    names,
    pending,
    registered,
    send,
    with_header,
)
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import b64, ec_key, jwk_of, rsa_key, sign
from tests.conformance import shows


async def orders_of(client: Client) -> list[str]:
    return list((await client.post(f"{client.kid}/orders")).json["orders"])


async def refused_spoilt(**spoil: object) -> Reply:
    """newAccount with members of the envelope replaced, or taken away by None."""
    client = Client(Rig())
    document = {**await envelope(client, NEW_ACCOUNT, {}), **spoil}
    reply = await send(client, NEW_ACCOUNT, {name: value for name, value in document.items() if value is not None})
    assert (reply.status, reply.problem) == (400, "malformed")
    assert (await client.post(NEW_ACCOUNT, {"onlyReturnExisting": True})).problem == "accountDoesNotExist"
    return reply


@shows("8555 §5/1")
async def test_5_texts_are_utf_8() -> None:
    client = Client(Rig())
    good = '{"contact":["mailto:é@xn--bcher-kva.example"]}'.encode()
    bad = good.replace("é".encode(), "é".encode("latin-1"))
    assert (await client.post(NEW_ACCOUNT, bad)).problem == "malformed"
    reply = await client.post(NEW_ACCOUNT, good)
    reply.body.decode("utf-8")
    assert reply.problem in {"", "invalidContact"}


@shows("8555 §6.1/1")
async def test_6_1_every_url_is_https_and_the_edge_is_not_on_the_plain_port() -> None:
    rig = Rig()
    directory = (await ask(rig, "GET", f"{BASE}/directory")).json
    assert all(url.startswith("https://") for url in directory.values() if isinstance(url, str))
    assert rig.edge.plain_http is False


@shows("8555 §6.1/2")
def test_6_1_tls_is_of_today() -> None:
    from opencertd.web.tls import CIPHERS, ServerTls
    from tests.validation.certificates import challenge_certificate

    shown = challenge_certificate("x", ["a.test"])
    context = ServerTls(shown.certificate_pem, shown.key_pem)._context
    with_default = SSL.Context(SSL.TLS_SERVER_METHOD)
    with_default.set_cipher_list(CIPHERS)
    ciphers = SSL.Connection(with_default).get_cipher_list()
    assert ciphers and all(name.startswith(("ECDHE", "TLS_")) for name in ciphers)
    # set_options answers what is set: nothing is added by asking
    wanted = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
    assert context.set_options(0) & wanted == wanted
    assert shakes_hands(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), SSL.Connection(context))
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_min_proto_version(SSL.TLS1_VERSION)
    client.set_max_proto_version(SSL.TLS1_1_VERSION)
    client.set_cipher_list(b"ALL:@SECLEVEL=0")
    assert not shakes_hands(SSL.Connection(client), SSL.Connection(context))


def shakes_hands(client: SSL.Connection, server: SSL.Connection) -> bool:
    client.set_connect_state()
    server.set_accept_state()
    try:
        for _ in range(6):
            for ours, theirs in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    ours.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    theirs.bio_write(ours.bio_read(65536))
    except SSL.Error:
        return False
    return True


@shows("8555 §6.1/3")
async def test_6_1_any_page_may_read() -> None:
    reply = await ask(Rig(), "GET", f"{BASE}/directory", headers={"Origin": "https://page.example"})
    assert reply.headers["access-control-allow-origin"] == ["*"]


@shows("8555 §6.1/4")
async def test_6_1_what_is_sent_has_no_padding() -> None:
    client = await registered()
    _, challenge = await pending(client)
    assert "=" not in challenge["token"] + str(client.nonce)
    assert len(base64.urlsafe_b64decode(challenge["token"] + "=")) == 32


@shows("8555 §6.1/5")
async def test_6_1_what_comes_padded_is_refused() -> None:
    client = Client(Rig())
    for part in ("protected", "payload", "signature"):
        document = await envelope(client, NEW_ACCOUNT, {"a": 1})
        document[part] += "=" * (-len(document[part]) % 4 or 4)
        assert (await send(client, NEW_ACCOUNT, document)).problem == "malformed", part
    jwk = jwk_of(client.key)
    padded = {**jwk, "x": jwk["x"] + "="}
    assert (await client.post(NEW_ACCOUNT, {}, jwk=padded)).problem == "malformed"


@shows("8555 §6.2/1")
async def test_6_2_without_its_signature_nothing_is_done() -> None:
    client = await registered()
    document = await envelope(client, NEW_ORDER, names("a.example"))
    document["payload"] = b64(json.dumps(names("b.example")).encode())
    assert (await send(client, NEW_ORDER, document)).problem == "malformed"
    assert await orders_of(client) == []


@shows("8555 §6.2/2")
async def test_6_2_only_flattened() -> None:
    client = Client(Rig())
    document = await envelope(client, NEW_ACCOUNT, {})
    compact = ".".join((document["protected"], document["payload"], document["signature"])).encode()
    general = {
        "payload": document["payload"],
        "signatures": [{"protected": document["protected"], "signature": document["signature"]}],
    }
    for other in (compact, json.dumps(compact.decode()).encode(), general):
        assert (await send(client, NEW_ACCOUNT, other)).problem == "malformed"


@shows("8555 §6.2/3")
async def test_6_2_no_second_signature() -> None:
    other = sign(ec_key(), {}, b"{}")
    await refused_spoilt(signatures=[{"protected": other["protected"], "signature": other["signature"]}])


@shows("8555 §6.2/4")
async def test_6_2_no_unencoded_payload() -> None:
    client = Client(Rig())
    for extra in ({"b64": False, "crit": ["b64"]}, {"b64": False}):
        assert (await client.post(NEW_ACCOUNT, {}, **extra)).problem == "malformed"


@shows("8555 §6.2/5")
async def test_6_2_no_unprotected_header() -> None:
    await refused_spoilt(header={"kid": "x"})


@shows("8555 §6.2/6")
async def test_6_2_no_detached_payload() -> None:
    await refused_spoilt(payload=None)


@shows("8555 §6.2/7")
async def test_6_2_an_algorithm_that_is_a_signature() -> None:
    client = Client(Rig())
    header = {"jwk": jwk_of(client.key), "url": NEW_ACCOUNT}
    for algorithm in ("none", "HS256", "HS512", None):
        signed = sign(client.key, {**header, "alg": algorithm, "nonce": await client.fresh_nonce()}, b"{}")
        assert (await send(client, NEW_ACCOUNT, signed)).problem == "badSignatureAlgorithm"
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name == "none"]


@shows("8555 §6.2/8")
async def test_6_2_a_nonce() -> None:
    client = Client(Rig())
    reply = await with_header(client, NEW_ACCOUNT, b"{}", {"jwk": jwk_of(client.key), "url": NEW_ACCOUNT})
    assert (reply.status, reply.problem) == (400, "badNonce")


@shows("8555 §6.2/9")
async def test_6_2_a_url() -> None:
    client = Client(Rig())
    header = {"jwk": jwk_of(client.key), "nonce": await client.fresh_nonce()}
    assert (await with_header(client, NEW_ACCOUNT, b"{}", header)).problem == "malformed"


@shows("8555 §6.2/10")
async def test_6_2_a_key_or_its_name() -> None:
    client = Client(Rig())
    header = {"nonce": await client.fresh_nonce(), "url": NEW_ACCOUNT}
    assert (await with_header(client, NEW_ACCOUNT, b"{}", header)).problem == "malformed"


@shows("8555 §6.2/11")
async def test_6_2_es256() -> None:
    reply = await Client(Rig(), ec_key()).post(NEW_ACCOUNT, {}, alg="ES256")
    assert reply.status == 201


@shows("8555 §6.2/12")
async def test_6_2_ed25519() -> None:
    reply = await Client(Rig(), ed25519.Ed25519PrivateKey.generate()).post(NEW_ACCOUNT, {}, alg="EdDSA")
    assert reply.status == 201


@shows("8555 §6.2/13")
async def test_6_2_not_both() -> None:
    client = await registered()
    assert (await client.post(NEW_ORDER, names("a.example"), jwk=jwk_of(client.key))).problem == "malformed"


@shows("8555 §6.2/14")
async def test_6_2_new_account_brings_the_key_that_signs() -> None:
    client = await registered()
    assert (await client.post(NEW_ACCOUNT, {})).problem == "malformed"
    assert (await client.post(NEW_ACCOUNT, {}, by_key=True, jwk=jwk_of(ec_key()))).problem == "malformed"


@shows("8555 §6.2/15")
async def test_6_2_the_certificates_key_comes_as_jwk() -> None:
    rig, key = Rig(), ec_key()
    certificate = encoded(await certified(await registered(rig), "a.example", key=key))
    forged = await Client(rig, ec_key()).post("/revoke-cert", {"certificate": certificate}, jwk=jwk_of(key))
    assert forged.problem == "malformed"
    assert (await Client(rig, key).post("/revoke-cert", {"certificate": certificate})).status == 200


@shows("8555 §6.2/16")
async def test_6_2_all_else_is_signed_by_an_account() -> None:
    client = await registered()
    order, challenge = await pending(client)
    for url in (NEW_ORDER, str(client.kid), order.location, order.json["finalize"], challenge["url"]):
        assert (await client.post(url, {}, by_key=True)).problem == "malformed", url


@shows("8555 §6.2/17")
async def test_6_2_the_kid_is_the_url_given_out() -> None:
    client = await registered()
    kid = str(client.kid)
    for other in (kid + "/", kid.replace("https", "http"), kid.rpartition("/")[2], kid + "x"):
        assert (await client.post(NEW_ORDER, names("a.example"), kid=other)).problem == "accountDoesNotExist"
    assert (await client.post(NEW_ORDER, names("a.example"), kid=kid)).status == 201


@shows("8555 §6.2/18")
async def test_6_2_another_algorithm() -> None:
    reply = await Client(Rig()).post(NEW_ACCOUNT, {}, alg="ES256K")
    assert (reply.status, reply.problem) == (400, "badSignatureAlgorithm")


@shows("8555 §6.2/19")
async def test_6_2_the_algorithms_are_listed() -> None:
    listed = (await Client(Rig()).post(NEW_ACCOUNT, {}, alg="ES256K")).json["algorithms"]
    assert {"ES256", "EdDSA", "RS256"} <= set(listed)


@shows("8555 §6.2/20")
async def test_6_2_a_weak_key() -> None:
    reply = await Client(Rig(), rsa_key(1024)).post(NEW_ACCOUNT, {})
    assert (reply.status, reply.problem) == (400, "badPublicKey")


@shows("8555 §6.2/21")
async def test_6_2_why_a_key_is_refused() -> None:
    assert "1024" in (await Client(Rig(), rsa_key(1024)).post(NEW_ACCOUNT, {})).json["detail"]


@shows("8555 §6.2/22")
async def test_6_2_the_media_type() -> None:
    client = Client(Rig())
    body = await client.signed(NEW_ACCOUNT, {})
    assert (await ask(client.rig, "POST", NEW_ACCOUNT, body, {"Content-Type": "application/json"})).status == 415
    assert (await ask(client.rig, "POST", NEW_ACCOUNT, body, JOSE)).status == 201


@shows("8555 §6.3/1")
async def test_6_3_get_is_not_for_records() -> None:
    client = await registered()
    order = await client.ready("a.example")
    for url in (str(client.kid), order.location, order.json["authorizations"][0], f"{order.location}/certificate"):
        reply = await ask(client.rig, "GET", url)
        assert (reply.status, reply.problem) == (405, "malformed"), url


@shows("8555 §6.3/2")
async def test_6_3_reading_is_for_whom_it_concerns() -> None:
    rig = Rig()
    owner, other = await registered(rig), await registered(rig)
    order = await owner.ready("a.example")
    for url in (order.location, order.json["authorizations"][0], str(owner.kid)):
        assert (await other.post(url)).status == 403, url
        document = await envelope(owner, url)
        document["signature"] = (await envelope(owner, url))["signature"]
        assert (await send(owner, url, document)).problem == "malformed", url


@shows("8555 §6.3/3")
async def test_6_3_reading_changes_nothing() -> None:
    client = await registered()
    order, challenge = await pending(client)
    assert (await client.post(challenge["url"])).json == challenge
    before = await authorization(client, order)
    assert (await client.post(order.location)).json == order.json
    assert await authorization(client, order) == before
    assert client.rig.validator.asked == [] and await client.rig.work_off() == 0


@shows("8555 §6.3/4")
async def test_6_3_the_first_two_by_get() -> None:
    assert (await ask(Rig(), "GET", f"{BASE}/directory")).status == 200
    assert (await ask(Rig(), "GET", f"{BASE}/new-nonce")).status == 204


@shows("8555 §6.3/5")
async def test_6_3_the_first_two_by_post_as_get() -> None:
    client = await registered()
    directory = await client.post("/directory")
    assert directory.status == 200
    assert directory.json == (await ask(client.rig, "GET", f"{BASE}/directory")).json
    nonce = await client.post("/new-nonce")
    assert (nonce.status, nonce.body, nonce.headers["cache-control"]) == (204, b"", ["no-store"])
    assert (await client.post(NEW_ORDER, names("a.example"), nonce=nonce.headers["replay-nonce"][0])).status == 201


@shows("8555 §6.4/1")
async def test_6_4_made_for_another_url() -> None:
    client = await registered()
    reply = await client.post(NEW_ORDER, names("a.example"), url=f"{BASE}/new-authz")
    assert reply.status == 403
    assert await orders_of(client) == []


@shows("8555 §6.4/2")
async def test_6_4_to_the_letter() -> None:
    client = await registered()
    for same in (NEW_ORDER + "?", NEW_ORDER.replace("new-order", "new%2Dorder"), NEW_ORDER.replace("ca.", "CA.")):
        assert (await client.post(NEW_ORDER, names("a.example"), url=same)).status == 403, same


@shows("8555 §6.4/3")
async def test_6_4_is_unauthorized() -> None:
    client = await registered()
    assert (await client.post(NEW_ORDER, {}, url=str(client.kid))).problem == "unauthorized"


@shows("8555 §6.4.1/1")
async def test_6_4_1_a_url_outside_is_none() -> None:
    client = Client(Rig())
    header = {"jwk": jwk_of(client.key), "nonce": await client.fresh_nonce()}
    document = {**sign(client.key, header, b"{}"), "url": NEW_ACCOUNT}
    assert (await send(client, NEW_ACCOUNT, document)).problem == "malformed"


@shows("8555 §6.4.1/2")
async def test_6_4_1_a_string() -> None:
    client = Client(Rig())
    for other in ([NEW_ACCOUNT], 5, {}, True):
        assert (await client.post(NEW_ACCOUNT, {}, url=other)).problem == "malformed"


@shows("8555 §6.5/1")
async def test_6_5_each_success_brings_a_nonce() -> None:
    client = await registered()
    order, challenge = await pending(client)
    for url, payload in ((NEW_ORDER, names("b.example")), (challenge["url"], {}), (order.location, None)):
        reply = await client.post(url, payload)
        assert reply.status < 300 and len(reply.headers["replay-nonce"]) == 1


@shows("8555 §6.5/2")
async def test_6_5_so_does_each_error() -> None:
    client = Client(Rig())
    for body, headers, status in ((b"x", JOSE, 400), (b"", {}, 415), (b"", JOSE, 400)):
        reply = await ask(client.rig, "POST", NEW_ACCOUNT, body, headers)
        assert reply.status == status and len(reply.headers["replay-nonce"]) == 1


@shows("8555 §6.5/3")
async def test_6_5_only_our_nonces() -> None:
    stranger = await Client(Rig(nonce_key=bytes(31) + b"1")).fresh_nonce()
    client = Client(Rig())
    good = await client.fresh_nonce()
    for nonce in (stranger, good[:-1] + ("A" if good[-1] != "A" else "B"), "AAAA"):
        assert (await client.post(NEW_ACCOUNT, {}, nonce=nonce)).problem == "badNonce"


@shows("8555 §6.5/4")
async def test_6_5_once() -> None:
    client = Client(Rig())
    nonce = await client.fresh_nonce()
    assert (await client.post(NEW_ACCOUNT, {}, nonce=nonce)).status == 201
    assert (await client.post(NEW_ACCOUNT, {}, nonce=nonce)).problem == "badNonce"
    client.rig.clock.advance(timedelta(days=1))
    assert (await client.post(NEW_ACCOUNT, {}, nonce=nonce)).problem == "badNonce"


@shows("8555 §6.5/5")
async def test_6_5_a_bad_nonce_is_400() -> None:
    for nonce in (None, "", "AAAA"):
        reply = await Client(Rig()).post(NEW_ACCOUNT, {}, nonce=nonce)
        assert (reply.status, reply.problem) == (400, "badNonce")


@shows("8555 §6.5/6")
async def test_6_5_bad_nonce_brings_a_good_one() -> None:
    client = await registered()
    refused = await client.post(NEW_ORDER, names("a.example"), nonce="AAAA")
    good = refused.headers["replay-nonce"][0]
    assert (await client.post(NEW_ORDER, names("a.example"), nonce=good)).status == 201


@shows("8555 §6.5.1/1")
async def test_6_5_1_nonces_are_unique_and_made_of_secrets() -> None:
    rig = Rig()
    seen = {(await ask(rig, "HEAD", f"{BASE}/new-nonce")).headers["replay-nonce"][0] for _ in range(200)}
    assert len(seen) == 200
    for place in range(0, 24, 8):  # what is drawn afresh each time, on average 128 bits of 160 differ from any other's
        assert len({nonce[place : place + 8] for nonce in seen}) == 200


@shows("8555 §6.5.1/2")
async def test_6_5_1_nonces_are_base64url() -> None:
    reply = await ask(Rig(), "HEAD", f"{BASE}/new-nonce")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", reply.headers["replay-nonce"][0])


@shows("8555 §6.5.2/1")
async def test_6_5_2_a_nonce_outside_is_none() -> None:
    client = Client(Rig())
    header = {"jwk": jwk_of(client.key), "url": NEW_ACCOUNT}
    document = {**sign(client.key, header, b"{}"), "nonce": await client.fresh_nonce()}
    assert (await send(client, NEW_ACCOUNT, document)).problem == "badNonce"


@shows("8555 §6.5.2/2")
async def test_6_5_2_a_nonce_in_other_letters_is_malformed() -> None:
    client = Client(Rig())
    for nonce in ("a b", "é", "AAA=", "A+/A", "A", 5, ["AAAA"]):
        assert (await client.post(NEW_ACCOUNT, {}, nonce=nonce)).problem == "malformed", nonce
