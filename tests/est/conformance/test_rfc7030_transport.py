"""RFC 7030 §3 and §6: URLs, HTTP, TLS, who is asking, and what links a request to its connection."""

from __future__ import annotations

import base64
import dataclasses
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.web.iweb import IRequest

from opencertd.est import resource
from opencertd.est.binding import BindingRule, BindingRules
from opencertd.est.resource import EstResource, edge
from opencertd.keys.channel_binding import ChannelBinding
from opencertd.model.requester import ANY_NAME, NameGrant, Proof, Requester
from opencertd.web import authentication
from opencertd.web.digest import DigestCredentials, expected_response
from opencertd.web.users import digest_secret
from tests.conformance import shows
from tests.est.conformance.people import (
    EST,
    LABELS,
    asked,
    basic,
    certified,
    client,
    is_sentence,
    media_type,
    offered,
    parts,
    post,
    server,
    shakes_hands,
    with_passwords,
)
from tests.est.rig import USER, Rig, holder, new_csr, some_key
from tests.est.test_binding import linked_csr
from tests.web.pki import CLIENT, SERVER, build, issuing, namesake

OPERATIONS = ("cacerts", "csrattrs", "simpleenroll", "simplereenroll", "serverkeygen", "fullcmc")
CONNECTION = ChannelBinding("tls-exporter", bytes(range(32)))
REQUIRED = {"bindings": BindingRules(BindingRule.REQUIRED)}


@pytest.fixture
def over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request comes by `CONNECTION`."""

    def binding(_: IRequest) -> ChannelBinding:
        return CONNECTION

    monkeypatch.setattr(resource, "request_binding", binding)


@pytest.fixture
def passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A CA to which users log in, since TLS proves nobody."""
    monkeypatch.setattr(authentication, "shown_certificate", lambda request: None)
    return with_passwords(tmp_path)


async def ask(rig: Rig, operation: str, label: str = "") -> tuple[Any, bytes]:
    if operation in {"cacerts", "csrattrs"}:
        return await rig.ask("GET", f"{EST}{label}/{operation}")
    return await post(rig, f"{label[1:]}/{operation}".lstrip("/"))


@shows("7030 §3.2.2/1")
async def test_3_2_2_below_well_known() -> None:
    rig = asked()
    for operation in ("cacerts", "simpleenroll"):
        assert (await ask(rig, operation))[0].code == 200
    claims = edge(EstResource(server=None, authenticator=rig.door)).claims  # type: ignore[arg-type]
    assert claims((".well-known", "est", "cacerts")) and not claims(("est", "cacerts"))


@shows("7030 §3.2.2/2")
async def test_3_2_2_no_label_shadows_an_operation() -> None:
    """Whatever profiles are called: where an operation is the last segment, it is the operation."""
    rig = asked()
    profile = rig.authority.profiles["rsa"]
    named = {name: dataclasses.replace(profile, name=name) for name in OPERATIONS}
    rig.authority.profiles = {**rig.authority.profiles, **named}
    certificate = await certified(rig, new_csr("CN=device"))
    assert rig.store.records[1].profile == "default"
    rig.door.who = holder(certificate)
    await certified(rig, new_csr("CN=device"), "simplereenroll")
    assert rig.store.records[2].profile == "default"


@shows("7030 §3.2.2/3")
async def test_3_2_2_with_and_without_a_label() -> None:
    for operation in OPERATIONS:
        answers = set()
        for label in LABELS:
            rig = asked()
            rig.door.who = holder(await certified(rig, new_csr("CN=device")))
            answers.add((await ask(rig, operation, label))[0].code)
        assert answers == {501 if operation == "fullcmc" else 200}, operation


@shows("7030 §3.2.2/4")
async def test_3_2_2_the_url_tells_renewal_from_enrolment() -> None:
    rig = asked()
    assert (await post(rig, "simpleenroll"))[0].code == 200
    assert (await post(rig, "simplereenroll"))[0].code == 401, "by password nothing is renewed"


@shows("7030 §3.2.3/1")
async def test_3_2_3_who_is_to_log_in_is_told_so(passwords: Rig) -> None:
    rig = passwords
    for answer in (await post(rig, "simpleenroll"), await post(rig, "simpleenroll", Authorization=basic("ann", "no"))):
        assert answer[0].code == 401 and is_sentence(answer)
        kinds = [value.split()[0] for value in answer[0].headers.getRawHeaders("www-authenticate")]
        assert {"Basic", "Digest"} == set(kinds)
    assert (await post(rig, "simpleenroll", Authorization=basic("ann", "secret")))[0].code == 200
    assert (await post(rig, "simpleenroll", Authorization=await digest(rig, "ann", "secret")))[0].code == 200


async def digest(rig: Rig, name: str, password: str) -> str:
    """Authorization by Digest, with a nonce just asked for."""
    values = (await post(rig, "simpleenroll"))[0].headers.getRawHeaders("www-authenticate")
    nonce = next(match[1] for value in values if (match := re.search(r'nonce="([^"]+)"', value)))
    url, algorithm = f"{EST}/simpleenroll", "SHA-256"
    said = DigestCredentials(name, nonce, url, "", "00000001", "c", algorithm)
    response = expected_response(digest_secret(algorithm, name, password), said, "POST")
    return (
        f'Digest username="{name}", realm="opencertd", nonce="{nonce}", uri="{url}", response="{response}", '
        f'cnonce="c", nc=00000001, qop=auth, algorithm={algorithm}'
    )


@shows("7030 §3.2.3/2")
async def test_3_2_3_passwords_go_over_tls_only(passwords: Rig) -> None:
    rig = passwords
    answer = await rig.plain.request(
        "POST",
        f"http://ca.test{EST}/simpleenroll",
        data=new_csr("CN=a"),
        headers={"Authorization": basic("ann", "secret")},
    )
    assert answer.code == 404 and not rig.store.records
    assert answer.headers.getRawHeaders("www-authenticate") is None


@shows("7030 §3.2.3/3")
def test_3_2_3_no_suite_is_anonymous_or_encrypts_nothing() -> None:
    assert offered() and not any(word in suite for suite in offered() for word in ("NULL", "ADH", "AECDH", "anon"))
    for suites in (b"aNULL:@SECLEVEL=0", b"eNULL:@SECLEVEL=0"):
        asking = client()
        asking.set_max_proto_version(SSL.TLS1_2_VERSION)
        asking.set_cipher_list(suites)
        with pytest.raises(SSL.Error):
            shakes_hands(asking)


@shows("7030 §3.2.3/4")
async def test_3_2_3_a_password_without_a_name(passwords: Rig) -> None:
    rig = passwords
    assert (await post(rig, "simpleenroll", Authorization=basic("", "pin")))[0].code == 200
    assert (await post(rig, "simpleenroll", Authorization=await digest(rig, "", "pin")))[0].code == 200
    assert (await post(rig, "simpleenroll", Authorization=basic("", "secret")))[0].code == 401


@shows("7030 §3.2.4/1")
async def test_3_2_4_media_types() -> None:
    rig = asked()
    rig.door.who = holder(await certified(rig, new_csr("CN=device")))
    types = {operation: media_type(await ask(rig, operation)) for operation in OPERATIONS[:5]}
    assert types["cacerts"] == "application/pkcs7-mime"
    assert types["csrattrs"] == "application/csrattrs"
    assert types["simpleenroll"] == types["simplereenroll"] == "application/pkcs7-mime; smime-type=certs-only"
    assert types["serverkeygen"].startswith("multipart/mixed; boundary=")
    key, certificate = parts(await ask(rig, "serverkeygen"))
    assert key.get_content_type() == "application/pkcs8"
    assert certificate.get_content_type() == "application/pkcs7-mime"


@shows("7030 §3.3/1")
async def test_3_3_https_only() -> None:
    rig = asked()
    assert (await rig.treq.request("GET", f"https://ca.test{EST}/cacerts")).code == 200
    for operation in OPERATIONS:
        assert (await rig.plain.request("GET", f"http://ca.test{EST}/{operation}")).code == 404


@shows("7030 §3.3/2")
def test_3_3_no_old_tls() -> None:
    for version, taken in [
        (SSL.TLS1_VERSION, False),
        (SSL.TLS1_1_VERSION, False),
        (SSL.TLS1_2_VERSION, True),
        (SSL.TLS1_3_VERSION, True),
    ]:
        asking = client()
        asking.set_min_proto_version(version)
        asking.set_max_proto_version(version)
        asking.set_cipher_list(b"ALL:@SECLEVEL=0")
        if taken:
            assert shakes_hands(asking)[0].get_protocol_version() == version
        else:
            with pytest.raises(SSL.Error):
                shakes_hands(asking)


@shows("7030 §3.3.1/1")
def test_3_3_1_the_server_shows_its_certificate() -> None:
    shown = shakes_hands(client())[0].get_peer_certificate(as_cryptography=True)
    assert shown is not None and shown.subject.rfc4514_string() == "CN=localhost"


@shows("7030 §3.3.1/2")
async def test_3_3_1_its_certificate_is_good(tmp_path: Path) -> None:
    """As the CA issues its own, by the profile for that."""
    rig = asked()
    profile = dataclasses.replace(rig.authority.profiles["daemon-tls"], public=True)
    rig.authority.profiles = {profile.name: profile}
    certificate = await certified(rig, new_csr("CN=ca.test", "ca.test"), f"{profile.name}/simpleenroll")
    authorities = [x509.load_der_x509_certificate(der) for der in rig.authority.authorities()]
    check_by_openssl(tmp_path, certificate, authorities, rig.clock.now())


def check_by_openssl(
    directory: Path, leaf: x509.Certificate, authorities: list[x509.Certificate], now: datetime
) -> None:
    """A server's certificate, strictly."""
    for name, some in (("leaf", [leaf]), ("authorities", authorities)):
        (directory / name).write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in some))
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "ca.test"]
    words += ["-attime", str(int(now.timestamp())), "-CAfile", str(directory / "authorities")]
    done = subprocess.run([*words, str(directory / "leaf")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@shows("7030 §3.3.2/1")
def test_3_3_2_clients_by_certificate() -> None:
    mine = build("device", issuing(), usages=(CLIENT,))
    seen = shakes_hands(client(mine))[1].get_peer_certificate(as_cryptography=True)
    assert seen is not None and seen.subject.rfc4514_string() == "CN=device"
    assert shakes_hands(client())[1].get_peer_certificate() is None


@shows("7030 §3.3.2/2")
def test_3_3_2_they_are_validated() -> None:
    bad = [
        build("expired", issuing(), usages=(CLIENT,), age=timedelta(hours=5)),
        build("too early", issuing(), usages=(CLIENT,), age=-timedelta(hours=5)),
        build("of a namesake", namesake(), usages=(CLIENT,)),
        build("by itself", usages=(CLIENT,)),
        build("for servers", issuing(), usages=(SERVER,)),
        build("below a leaf", build("leaf", issuing(), usages=(CLIENT,)), usages=(CLIENT,)),
    ]
    for identity in bad:
        with pytest.raises(SSL.Error):
            shakes_hands(client(identity))


@shows("7030 §3.3.2/3")
async def test_3_3_2_an_identity_is_no_right() -> None:
    rig = asked()
    rig.door.who = holder(await certified(rig, new_csr("CN=device", "mine.test")))
    answer = await post(rig, "simpleenroll", new_csr("CN=device", "yours.test"))
    assert answer[0].code == 403 and is_sentence(answer)


@shows("7030 §3.3.3/1")
def test_3_3_3_there_is_no_suite_without_certificates() -> None:
    assert all(re.match(r"TLS_(AES|CHACHA20)|ECDHE-(RSA|ECDSA)-", suite) for suite in offered()), offered()


@shows("7030 §3.4/1")
async def test_3_4_the_signature_is_verified() -> None:
    rig = asked()
    mine, others = new_csr("CN=device"), new_csr("CN=device", key=some_key(9))
    forged = others[: -len(mine) // 4] + mine[len(mine) - len(mine) // 4 :]
    bent = bytearray(mine)
    bent[-1] ^= 1
    for csr in (bytes(bent), forged):
        answer = await post(rig, "simpleenroll", csr)
        assert answer[0].code == 400 and is_sentence(answer)
    assert not rig.store.records


@pytest.mark.usefixtures("over_tls")
@shows("7030 §3.5/1")
async def test_3_5_what_names_a_connection_is_verified() -> None:
    for options in ({}, REQUIRED):
        rig = asked(est=options)
        assert (await post(rig, "simpleenroll", linked_csr(CONNECTION.text)))[0].code == 200
        other = base64.b64encode(bytes(32)).decode()
        assert (await post(rig, "simpleenroll", linked_csr(other)))[0].code == 400
        assert len(rig.store.records) == 1


@pytest.mark.usefixtures("over_tls")
@shows("7030 §3.5/3")
async def test_3_5_words_that_say_so() -> None:
    answer = await post(asked(est=REQUIRED), "simpleenroll", linked_csr(None))
    assert is_sentence(answer)
    assert b"popFailed" in answer[1] and b"linking identity and proof of possession is required" in answer[1]


@shows("7030 §3.5/4")
def test_3_5_nothing_is_renegotiated() -> None:
    assert server().set_options(0) & SSL.OP_NO_RENEGOTIATION


@shows("7030 §3.7/1")
async def test_3_7_local_policy_decides() -> None:
    rig = asked()
    rig.door.who = dataclasses.replace(USER, grant=NameGrant(patterns=("*.shop.test",)))
    assert (await post(rig, "simpleenroll", new_csr("CN=a.shop.test", "a.shop.test")))[0].code == 200
    assert (await post(rig, "simpleenroll", new_csr("CN=a.bank.test", "a.bank.test")))[0].code == 403


@pytest.mark.usefixtures("over_tls")
@shows("7030 §3.7/2")
async def test_3_7_a_registration_authority_asks_for_others() -> None:
    """By whatever names, and with requests that were made for connections to it."""
    rig = asked(est=REQUIRED)
    certificate = await certified(rig, linked_csr(CONNECTION.text))
    others = linked_csr(base64.b64encode(bytes(32)).decode())
    rig.door.who = holder(certificate)
    assert (await post(rig, "simpleenroll", others))[0].code == 400
    authority = dataclasses.replace(holder(certificate), grant=ANY_NAME)
    assert isinstance(authority, Requester) and authority.proof is Proof.TLS_CERTIFICATE
    rig.door.who = authority
    assert (await post(rig, "simpleenroll", others))[0].code == 200
    assert (await post(rig, "simpleenroll", new_csr("CN=other", "other.test")))[0].code == 200


@shows("7030 §6/1")
def test_6_no_weak_suites() -> None:
    assert not any(word in suite for suite in offered() for word in ("EXP", "DES", "RC4", "CBC"))
