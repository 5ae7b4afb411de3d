"""Who is asking is what the request proves, by header before certificate, and nothing it merely says."""

from __future__ import annotations

import base64
import subprocess
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
import treq
from klein import Klein
from OpenSSL import crypto
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest
from zope.interface import directlyProvides

from opencertd.clock import FixedClock, SystemClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.profiles import CMC_RA
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.certificates import (
    CertificateRecord,
    CertificateState,
    Revocation,
    RevocationReason,
)
from opencertd.model.names import parse_dns_name
from opencertd.model.requester import REGISTRATION_AUTHORITY, Proof, Requester
from opencertd.web.authentication import Authenticator, parse_basic
from opencertd.web.client_trust import ClientTrust
from opencertd.web.digest import Digest
from opencertd.web.proxy import Forwarded
from opencertd.web.refusals import body_of, handle_refusals, new_app, render_problem
from opencertd.web.site import build_site

from .oidc import Idp
from .people import NOW, Used, person, users_of
from .pki import CLIENT, Pair, build, issuing, namesake
from .wire import edge, get, parse, problem, wire


@pytest.fixture(scope="module")
def certificate() -> Pair:
    return build("host.test", issuing(), usages=(CLIENT,))


def record(certificate: Pair, **changes: Any) -> CertificateRecord:
    values: dict[str, Any] = {
        "id": 1,
        "issuer_id": "i",
        "serial": certificate.certificate.serial_number,
        "state": CertificateState.ISSUED,
        "profile": "default",
        "requester": "password:ann",
        "requester_label": "ann",
        "subject": "CN=host.test",
        "names": (parse_dns_name("host.test"), parse_dns_name("www.host.test")),
        "not_before": NOW - timedelta(days=1),
        "not_after": NOW + timedelta(days=1),
        "owner": "w",
        "intended_at": NOW,
        "certificate_der": certificate.der,
        "revocation": None,
    }
    return CertificateRecord(**(values | changes))


class Known:
    """The CA's records, by DER."""

    def __init__(self, *records: CertificateRecord) -> None:
        self.records = {each.certificate_der: each for each in records}

    async def __call__(self, certificate_der: bytes) -> CertificateRecord | None:
        return self.records.get(certificate_der)


def request(certificate: Pair | None = None, *authorization: str) -> Any:
    """A request as far as an authenticator looks."""
    transport = Mock()
    if certificate is not None:
        directlyProvides(transport, ISSLTransport)
        transport.getPeerCertificate.return_value = crypto.X509.from_cryptography(certificate.certificate)
    asked = Mock(transport=transport, method=b"POST", uri=b"/x")
    asked.requestHeaders.getRawHeaders = lambda name: [each.encode("latin-1") for each in authorization] or None
    return asked


def forwarded(certificate: Pair) -> Any:
    """A request that a proxy has passed on."""
    value = f":{base64.b64encode(certificate.der).decode()}:"
    asked = request()
    asked.forwarded = Forwarded((value,))
    return asked


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def authenticator(directory: Path, *records: CertificateRecord, **parts: Any) -> Authenticator:
    users = users_of(directory / "users", person("ann", "a", names=("*.ann.test",)))
    return Authenticator(recognise=Known(*records), clock=FixedClock(NOW), **({"users": users} | parts))


async def refused(asked: Authenticator, what: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asked.authenticate(what)
    assert caught.value.kind is RefusalKind.UNAUTHENTICATED
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_may_have_exactly_its_own_names(tmp_path: Path, certificate: Pair) -> None:
    requester = await authenticator(tmp_path, record(certificate)).authenticate(request(certificate))
    assert requester == Requester(
        proof=Proof.TLS_CERTIFICATE,
        id=sha256(certificate.der).hexdigest(),
        label="CN=host.test",
        grant=requester.grant,
        certificate_der=certificate.der,
    )
    for name, covered in [("host.test", True), ("www.host.test", True), ("a.host.test", False), ("test", False)]:
        assert requester.grant.covers(parse_dns_name(name)) is covered


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revocation": Revocation(NOW, RevocationReason.SUPERSEDED)}, "revoked"),
        ({"revocation": Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)}, "on hold"),
        ({"not_after": NOW - timedelta(seconds=1)}, "expired"),
        ({"not_before": NOW + timedelta(seconds=1)}, "not valid yet"),
        ({"state": CertificateState.ABANDONED}, "not one of this CA's"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_certificates_that_no_longer_count_are_refused_in_words(
    tmp_path: Path, certificate: Pair, changes: dict[str, Any], words: str
) -> None:
    asked = authenticator(tmp_path, record(certificate, **changes))
    assert words in (await refused(asked, request(certificate))).detail


@pytest_twisted.ensureDeferred
async def test_an_unknown_certificate_and_none_are_refused(tmp_path: Path, certificate: Pair) -> None:
    asked = authenticator(tmp_path)
    assert "not one of this CA's" in (await refused(asked, request(certificate))).detail
    assert "brings none" in (await refused(asked, request())).detail


@pytest_twisted.ensureDeferred
async def test_a_forwarded_certificate_is_what_tls_would_have_proven(tmp_path: Path, certificate: Pair) -> None:
    trust = ClientTrust(lambda: (issuing().certificate,))
    asked = authenticator(tmp_path, record(certificate), trust=trust)
    assert await asked.authenticate(forwarded(certificate)) == await asked.authenticate(request(certificate))


@pytest.mark.parametrize(
    ("anchor", "changes", "words"),
    [
        (namesake, {}, "signature failure"),
        (issuing, {"revocation": Revocation(NOW, RevocationReason.SUPERSEDED)}, "revoked"),
        (issuing, {"revocation": Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)}, "on hold"),
        (issuing, {"not_after": NOW - timedelta(seconds=1)}, "expired"),
        (issuing, {"certificate_der": b""}, "not one of this CA's"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_forwarded_certificate_is_judged_again(
    tmp_path: Path, certificate: Pair, anchor: Any, changes: dict[str, Any], words: str
) -> None:
    trust = ClientTrust(lambda: (anchor().certificate,))
    asked = authenticator(tmp_path, record(certificate, **changes), trust=trust)
    assert words in (await refused(asked, forwarded(certificate))).detail


@pytest_twisted.ensureDeferred
async def test_behind_a_proxy_its_own_certificate_counts_for_nobody(tmp_path: Path, certificate: Pair) -> None:
    asked = authenticator(tmp_path, record(certificate))
    by_proxy = request(certificate)
    by_proxy.forwarded = Forwarded()
    assert "brings none" in (await refused(asked, by_proxy)).detail


RA = (CLIENT, CMC_RA)


@pytest.mark.parametrize(
    ("profile", "usages", "for_others"),
    [
        ("registration-authority", RA, True),
        ("registration-authority", (CLIENT,), False),
        ("registration-authority", (), False),
        ("default", RA, False),  # an EST server's certificate has this purpose, too
        ("daemon-tls", RA, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_may_enrol_for_others(tmp_path: Path, profile: str, usages: Any, for_others: bool) -> None:
    holder = build("ra.test", issuing(), usages=usages)
    profiles = frozenset({"registration-authority"})
    asked = authenticator(tmp_path, record(holder, profile=profile), registration_authorities=profiles)
    requester = await asked.authenticate(request(holder))
    assert requester.enrols_for_others is for_others
    assert requester.grant.everything is for_others
    assert requester.roles == (frozenset({REGISTRATION_AUTHORITY}) if for_others else frozenset())


@pytest_twisted.ensureDeferred
async def test_nobody_enrols_for_others_where_no_profile_says_so(tmp_path: Path) -> None:
    holder = build("ra.test", issuing(), usages=RA)
    asked = authenticator(tmp_path, record(holder, profile="registration-authority"))
    assert not (await asked.authenticate(request(holder))).enrols_for_others


@pytest_twisted.ensureDeferred
async def test_roles_are_given_to_who_is_meant_and_proven_so(tmp_path: Path, certificate: Pair) -> None:
    roles = (
        ("revoker", RequesterMatch(proof=Proof.TLS_CERTIFICATE, label="CN=host.*")),
        ("operator", RequesterMatch(proof=Proof.PASSWORD, id="ann")),
        ("auditor", RequesterMatch(proof=Proof.PASSWORD, id="a*")),
        ("auditor", RequesterMatch(proof=Proof.BEARER_TOKEN, role="inspector")),
    )
    idp = Idp("RSA")
    asked = authenticator(tmp_path, record(certificate), roles=roles, bearer=idp.verifier)

    async def found(what: Any) -> set[str]:
        return set((await asked.authenticate(what)).roles)

    assert await found(request(certificate)) == {"revoker"}
    assert await found(request(None, basic("ann", "a"))) == {"operator", "auditor"}
    assert await found(request(None, f"Bearer {idp.token(sub='ann', roles=['inspector'])}")) == {"inspector", "auditor"}
    assert await found(request(None, f"Bearer {idp.token(sub='ann')}")) == set()


@pytest_twisted.ensureDeferred
async def test_a_user_may_have_the_names_of_its_patterns(tmp_path: Path) -> None:
    requester = await authenticator(tmp_path).authenticate(request(None, basic("ann", "a")))
    assert (requester.proof, requester.id, requester.label) == (Proof.PASSWORD, "ann", "ann")
    assert requester.grant.covers(parse_dns_name("x.ann.test"))
    assert not requester.grant.covers(parse_dns_name("x.bob.test"))
    assert requester.certificate_der is None


@pytest.mark.parametrize(
    "authorization",
    [
        [basic("ann", "wrong")],
        [basic("ann", "a"), basic("ann", "a")],
        ["Basic"],
        ["Basic !!!"],
        ["Basic YW5u"],
        ["Digest username=ann"],
        ["Bearer x.y.z"],
        ["Negotiate abc"],
        [""],
        ["\xff\xfe"],
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_header_is_refused_even_beside_a_good_certificate(
    tmp_path: Path, certificate: Pair, authorization: list[str]
) -> None:
    await refused(authenticator(tmp_path, record(certificate)), request(certificate, *authorization))


@pytest_twisted.ensureDeferred
async def test_a_right_header_decides_over_the_certificate(tmp_path: Path, certificate: Pair) -> None:
    asked = authenticator(tmp_path, record(certificate))
    assert (await asked.authenticate(request(certificate, basic("ann", "a")))).proof is Proof.PASSWORD


@pytest_twisted.ensureDeferred
async def test_a_bearer_token_is_judged_by_its_verifier(tmp_path: Path) -> None:
    idp = Idp("RSA")
    asked = authenticator(tmp_path, bearer=idp.verifier)
    assert (await asked.authenticate(request(None, f"bearer {idp.token()}"))).proof is Proof.BEARER_TOKEN
    await refused(asked, request(None, f"Bearer {idp.token(aud='other')}"))


@pytest_twisted.ensureDeferred
async def test_no_users_file_means_no_passwords(tmp_path: Path) -> None:
    await refused(authenticator(tmp_path, users=None), request(None, basic("ann", "a")))


def test_basic_is_utf_8_or_what_older_clients_send() -> None:
    def parsed(pair: bytes) -> tuple[str, str]:
        return parse_basic(base64.b64encode(pair).decode())

    assert parsed("jös:pä:ß".encode()) == ("jös", "pä:ß")
    assert parsed("jös:pä".encode("latin-1")) == ("jös", "pä")
    assert parsed(b":") == ("", "")


@pytest_twisted.ensureDeferred
async def test_challenges_are_what_could_succeed(tmp_path: Path) -> None:
    def schemes(challenges: tuple[str, ...]) -> list[str]:
        return [challenge.split()[0] for challenge in challenges]

    bearer = Idp("RSA").verifier
    some = users_of(tmp_path / "some", person("ann", "a", digest=True), person("bob", "b"))
    every = users_of(tmp_path / "every", person("ann", "a", digest=True), person("bob", "b", digest=True))

    def asked(**parts: Any) -> Authenticator:
        return Authenticator(recognise=Known(), clock=FixedClock(NOW), **parts)

    def digest(users: Any) -> Digest:
        return Digest(users=users, key=b"k" * 32, redeem=Used().redeem, clock=FixedClock(NOW))

    assert await asked().challenges() == ()
    assert await asked(users=some).challenges() == ('Basic realm="opencertd"',)
    assert schemes(await asked(users=some, digest=digest(some)).challenges()) == ["Basic"]
    assert schemes(await asked(users=every, digest=digest(every), bearer=bearer).challenges()) == [
        "Basic",
        "Digest",
        "Digest",
        "Bearer",
    ]
    assert await asked(bearer=bearer).challenges() == ('Bearer realm="opencertd"',)


def guarded(asked: Authenticator) -> Klein:
    """An app that says who is asking, as an edge does."""
    app = new_app()

    @app.route("/api/who", methods=["GET", "POST"])
    async def who(request: IRequest) -> bytes:
        try:
            requester = await asked.authenticate(request)
        except Refusal as refusal:
            if refusal.kind is RefusalKind.UNAUTHENTICATED:
                values = [challenge.encode() for challenge in await asked.challenges(refusal)]
                request.responseHeaders.setRawHeaders(b"WWW-Authenticate", values)
            raise
        return f"{requester.proof.value} {requester.id} {len(body_of(request))}".encode()

    handle_refusals(app, render_problem)
    return app


@pytest_twisted.ensureDeferred
async def test_basic_by_treq(tmp_path: Path) -> None:
    http = StubTreq(guarded(authenticator(tmp_path)).resource())
    good = await http.get("https://ca.test/api/who", auth=("ann", "a"))
    assert (good.code, await treq.content(good)) == (200, b"password ann 0")
    bad = await http.get("https://ca.test/api/who", auth=("ann", "b"))
    assert (bad.code, bad.headers.getRawHeaders("WWW-Authenticate")) == (401, ['Basic realm="opencertd"'])


def test_who_proves_nothing_is_asked_to(tmp_path: Path) -> None:
    client = wire(edge(guarded(authenticator(tmp_path))))
    answer = client.send(get("/api/who"))
    assert problem(answer)["status"] == 401
    assert parse(answer)[1]["www-authenticate"] == 'Basic realm="opencertd"'


@pytest.mark.parametrize(
    ("arguments", "digest", "answer"),
    [
        (["--digest", "-u", "ann:a"], True, "200 password ann 600"),
        (["--anyauth", "-u", "ann:a"], True, "200 password ann 600"),
        (["--anyauth", "-u", "ann:a"], False, "200 password ann 600"),
        (["--basic", "-u", "ann:a"], True, "200 password ann 600"),
        (["--digest", "-u", "ann:x"], True, "401"),
        (["--anyauth", "-u", "ann:x"], False, "401"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_curl(tmp_path: Path, arguments: list[str], digest: bool, answer: str) -> None:
    users = users_of(tmp_path / "users", person("ann", "a", digest=digest), clock=SystemClock())
    clock, used = SystemClock(), Used()
    asked = Authenticator(
        recognise=Known(),
        clock=clock,
        users=users,
        digest=Digest(users=users, key=b"k" * 32, redeem=used.redeem, clock=clock),
    )
    site = build_site([edge(guarded(asked))], reactor=reactor)  # type: ignore[arg-type]
    port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
    (tmp_path / "body").write_bytes(b"x" * 600)
    url = f"http://127.0.0.1:{port.getHost().port}/api/who?a=1,2"
    command = ["curl", "-s", *arguments, "--data-binary", f"@{tmp_path / 'body'}", "-w", "\n%{http_code} ", url]
    try:
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        again = await deferToThread(subprocess.run, [*command, url], capture_output=True, text=True, timeout=30)
    finally:
        await port.stopListening()
    body, _, code = done.stdout.partition("\n")
    assert f"{code.strip()} {body}".startswith(answer), done
    assert again.stdout.count(f"\n{answer[:3]}") == 2, "two requests on one connection, the second with nc=00000002"
    assert bool(used.keys) == (digest and "--basic" not in arguments and answer != "401")
