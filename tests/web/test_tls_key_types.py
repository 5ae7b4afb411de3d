"""TLS with keys of every kind: key exchange is hybrid with whoever can, and post-quantum clients prove themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from opencertd.client.tls import Identity, TlsSettings, client_connection_creator
from opencertd.errors import StartError
from opencertd.first_start import run_now
from opencertd.keys.kinds import KINDS, PrivateKey
from opencertd.keys.tls import tls_key
from opencertd.web.tls import ServerTls
from tests.ca import NOW, TestCa, dns, hierarchy, make_ca, make_issuers, request

CLIENTS = ("p-256", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


@cache
def ca() -> TestCa:
    """A CA with nothing but ML-DSA, today."""
    made = make_ca(issuers=make_issuers(hierarchy("ml-dsa-44")))
    made.clock.advance(datetime.now(UTC) - NOW)
    return made


def identity(kind: str, name: str = "device.test") -> Identity:
    key = KINDS[kind].make()
    issued = run_now(ca().authority.issue(request(key=key, names=dns(name), subject=x509.Name([]))))
    leaf, *chain = (x509.load_der_x509_certificate(der) for der in issued.chain_der)
    return Identity(leaf, key, tuple(chain))


def pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def server(kind: str = "p-256") -> ServerTls:
    own = identity(kind, "ca.test")
    chain = b"".join(c.public_bytes(Encoding.PEM) for c in (own.certificate, *own.chain))
    return ServerTls(chain, pem(own.key), client_anchors=[i.certificate for i in ca().issuers.issuing()])


class Protocol:
    """What our client tells of a server it does not trust."""

    factory = SimpleNamespace(wrappedFactory=None)

    def failVerification(self, failure: Any) -> None:
        raise failure.value


def client(own: Identity | None = None) -> SSL.Connection:
    """As `opencert est-…` connects."""
    anchors = tuple(x509.load_der_x509_certificate(der) for der in ca().issuers.roots_der())
    creator = client_connection_creator("ca.test", TlsSettings(anchors, own))
    connection = cast(SSL.Connection, creator.clientConnectionForTLS(Protocol()))  # type: ignore[arg-type]
    connection.set_connect_state()
    return connection


def shake_hands(one: SSL.Connection, other: SSL.Connection) -> None:
    """In memory, until both are done. Raises SSL.Error when they do not come together."""
    done: set[SSL.Connection] = set()
    for _ in range(10):
        for here, there in ((one, other), (other, one)):
            try:
                here.do_handshake()
                done.add(here)
            except SSL.WantReadError:
                pass
            try:
                while True:
                    there.bio_write(here.bio_read(65536))
            except SSL.WantReadError:
                pass
    assert done == {one, other}


def accepted(tls: ServerTls) -> SSL.Connection:
    connection = tls.serverConnectionForTLS(cast(Any, None))
    connection.set_accept_state()
    return connection


def test_the_key_exchange_is_hybrid() -> None:
    ours, theirs = accepted(server()), client()
    shake_hands(theirs, ours)
    assert ours.get_group_name() == "X25519MLKEM768"
    assert ours.get_protocol_version_name() == "TLSv1.3"
    assert ours.get_peer_certificate() is None


@pytest.mark.parametrize("kind", CLIENTS)
def test_client_certificates_of_every_kind(kind: str) -> None:
    own = identity(kind)
    ours = accepted(server())
    shake_hands(client(own), ours)
    assert ours.get_peer_certificate(as_cryptography=True) == own.certificate


def test_ml_dsa_client_certificates_need_tls_1_3() -> None:
    """TLS 1.2 has no signature algorithm for them: such a client remains nobody, or gets no connection."""
    own = identity("ml-dsa-65")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(own.certificate)
    context.use_privatekey(cast(Any, tls_key(own.key)))
    theirs, ours = SSL.Connection(context, None), accepted(server())
    theirs.set_connect_state()
    try:
        shake_hands(theirs, ours)
    except SSL.Error:
        return
    assert ours.get_peer_certificate() is None


@pytest.mark.parametrize("kind", ["ml-dsa-65", "ed25519"])
def test_a_listener_may_be_given_other_keys(kind: str) -> None:
    shake_hands(client(), accepted(server(kind)))


def test_a_key_of_another_certificate_is_refused() -> None:
    own = identity("ml-dsa-65", "ca.test")
    with pytest.raises(StartError, match="do not belong together"):
        ServerTls(own.certificate.public_bytes(Encoding.PEM), pem(KINDS["ml-dsa-65"].make()))
