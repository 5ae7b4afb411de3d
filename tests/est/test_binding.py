"""Requests linked to the TLS connection that brings them: which are taken, and in which words others are refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from opencertd.asn1.csr_attributes import decode_csr_attributes
from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.est import resource
from opencertd.est.binding import BindingRule, BindingRules, check_binding
from opencertd.keys.channel_binding import ChannelBinding, channel_binding
from tests.est.rig import USER, Rig, holder, some_key
from tests.est.test_server import EST, PKCS10, enrolled
from tests.web.pki import SERVER, build, issuing

UNIQUE = ChannelBinding("tls-unique", bytes(range(12)))
EXPORTER = ChannelBinding("tls-exporter", bytes(range(32)))
OFF, WHEN_PRESENT, REQUIRED = BindingRule.OFF, BindingRule.WHEN_PRESENT, BindingRule.REQUIRED


def refusal(rule: BindingRule, password: str | None, binding: ChannelBinding | None) -> str | None:
    try:
        check_binding(rule, password, binding)
    except Refusal as refused:
        assert refused.kind is RefusalKind.BAD_CSR and refused.detail.startswith(
            "proof of possession failed (popFailed): "
        )
        return refused.detail
    return None


@pytest.mark.parametrize("rule", [WHEN_PRESENT, REQUIRED])
@pytest.mark.parametrize("binding", [UNIQUE, EXPORTER])
def test_the_connections_own_value_is_taken(rule: BindingRule, binding: ChannelBinding) -> None:
    assert refusal(rule, base64.b64encode(binding.value).decode(), binding) is None
    assert refusal(rule, base64.encodebytes(binding.value).decode(), binding) is None  # libest's line ends


@given(st.text(), st.sampled_from([UNIQUE, EXPORTER]))
def test_no_other_value_is(password: str, binding: ChannelBinding) -> None:
    for rule in (WHEN_PRESENT, REQUIRED):
        assert ("".join(password.split()) == binding.text) == (refusal(rule, password, binding) is None)


@given(st.one_of(st.none(), st.text()), st.sampled_from([UNIQUE, EXPORTER, None]))
def test_off_looks_at_nothing(password: str | None, binding: ChannelBinding | None) -> None:
    assert refusal(OFF, password, binding) is None


def test_each_failure_says_what_it_is() -> None:
    other = base64.b64encode(bytes(12)).decode()
    assert "made for another connection" in (refusal(WHEN_PRESENT, other, UNIQUE) or "")
    assert "is not this TLS connection's tls-exporter in base64" in (refusal(REQUIRED, other, EXPORTER) or "")
    for password in ("sesame", "", "öffne dich"):
        said = refusal(WHEN_PRESENT, password, EXPORTER) or ""
        assert "left out, since this CA takes no passwords there" in said
        assert not password or password not in said
        assert "left out" not in (refusal(REQUIRED, password, EXPORTER) or "")
    assert "is required here" in (refusal(REQUIRED, None, UNIQUE) or "")
    assert "tls-unique into the request's challengePassword" in (refusal(REQUIRED, None, UNIQUE) or "")
    assert refusal(WHEN_PRESENT, None, UNIQUE) is None


@pytest.mark.parametrize(("rule", "password"), [(WHEN_PRESENT, UNIQUE.text), (REQUIRED, UNIQUE.text), (REQUIRED, None)])
def test_behind_a_proxy_it_cannot_be_checked_and_is_not_taken(rule: BindingRule, password: str | None) -> None:
    assert "a proxy ends TLS before it" in (refusal(rule, password, None) or "")
    assert refusal(WHEN_PRESENT, None, None) is None


def test_a_binding_is_not_shown_in_logs() -> None:
    assert "value" not in repr(EXPORTER)


def handshake(version: int) -> tuple[SSL.Connection, SSL.Connection]:
    pair = build("localhost", issuing(), usages=(SERVER,))
    serving, asking = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    serving.use_certificate(pair.certificate)
    serving.use_privatekey(pair.key)
    for context in (serving, asking):
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    server, client = SSL.Connection(serving, None), SSL.Connection(asking, None)
    server.set_accept_state()
    client.set_connect_state()
    assert channel_binding(client, client=True) is None and channel_binding(server, client=False) is None
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    return server, client


@pytest.mark.parametrize(
    ("version", "kind", "octets"), [(SSL.TLS1_2_VERSION, "tls-unique", 12), (SSL.TLS1_3_VERSION, "tls-exporter", 32)]
)
def test_both_ends_of_a_connection_have_one_binding_and_no_other_has_it(version: int, kind: str, octets: int) -> None:
    server, client = handshake(version)
    mine = channel_binding(client, client=True)
    assert mine is not None and mine == channel_binding(server, client=False)
    assert (mine.kind, len(mine.value)) == (kind, octets)
    assert channel_binding(handshake(version)[0], client=False) != mine


def test_tls_unique_is_what_another_library_calls_so() -> None:
    """Python's ssl, over memory."""
    pair = build("localhost", issuing(), usages=(SERVER,))
    serving = SSL.Context(SSL.TLS_SERVER_METHOD)
    serving.use_certificate(pair.certificate)
    serving.use_privatekey(pair.key)
    server = SSL.Connection(serving, None)
    server.set_accept_state()
    context = ssl.create_default_context(cadata=issuing().pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if outgoing.pending:
            server.bio_write(outgoing.read())
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(65536))
    binding = channel_binding(server, client=False)
    assert binding is not None and binding.value == client.get_channel_binding("tls-unique")


def linked_csr(password: str | None, *, number: int = 0) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(parse_dn("CN=device"))
    if password is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, password.encode())
    return builder.sign(some_key(number), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request comes by the connection of `EXPORTER`."""
    monkeypatch.setattr(resource, "request_binding", lambda request: EXPORTER)


async def answer(rig: Rig, operation: str, csr: bytes, label: str = "") -> tuple[int, bytes]:
    response, body = await rig.ask("POST", f"{EST}{label}/{operation}", csr, **PKCS10)
    return response.code, body


@pytest.mark.usefixtures("over_tls")
@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll", "serverkeygen"])
@pytest_twisted.ensureDeferred
async def test_every_operation_that_takes_a_request_checks_it(operation: str) -> None:
    rig = Rig(est={"bindings": BindingRules(REQUIRED)})
    rig.door.who = USER
    mine = await enrolled(rig, linked_csr(EXPORTER.text))
    rig.door.who = holder(mine) if operation == "simplereenroll" else USER
    wrong = base64.b64encode(hashlib.sha256(b"of another connection").digest()).decode()
    for password in (None, wrong, UNIQUE.text, EXPORTER.value.hex(), "sesame"):
        before = len(rig.store.records)
        code, body = await answer(rig, operation, linked_csr(password, number=1))
        assert (code, len(rig.store.records)) == (400, before)
        assert body.startswith(b"Proof of possession failed (popFailed): ") and body.endswith(b".\n")
    code, body = await answer(rig, operation, linked_csr(EXPORTER.text))
    assert code == 200, body


@pytest.mark.usefixtures("over_tls")
@pytest_twisted.ensureDeferred
async def test_a_profile_has_its_own_rule_and_says_so_in_csrattrs() -> None:
    rig = Rig(est={"bindings": BindingRules(OFF, {"rsa": REQUIRED, "ecdsa": WHEN_PRESENT})})
    rig.door.who = USER
    for label, password, code in [
        ("/rsa", None, 400),
        ("/rsa", "sesame", 400),
        ("/rsa", EXPORTER.text, 200),
        ("/ecdsa", None, 200),
        ("/ecdsa", "sesame", 400),
        ("", "sesame", 200),
    ]:
        assert (await answer(rig, "simpleenroll", linked_csr(password), label))[0] == code, (label, password)
    for label, asked in [("/rsa", True), ("/ecdsa", False), ("", False)]:
        response, body = await rig.ask("GET", f"{EST}{label}/csrattrs", User_Agent="test")
        wanted = response.code == 200 and decode_csr_attributes(base64.b64decode(body)).challenge_password
        assert wanted == asked


@pytest_twisted.ensureDeferred
async def test_without_tls_of_our_own_only_unlinked_requests_are_taken() -> None:
    rig = Rig()
    rig.door.who = USER
    assert (await answer(rig, "simpleenroll", linked_csr(None)))[0] == 200
    code, body = await answer(rig, "simpleenroll", linked_csr(EXPORTER.text))
    assert (code, b"a proxy ends TLS before it" in body) == (400, True)
