"""What most checks begin with: TLS over memory, requests, and the bytes of answers as others read them."""

from __future__ import annotations

import base64
import contextlib
import email
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from OpenSSL import SSL

from opencertd.web.authentication import Authenticator
from opencertd.web.digest import Digest
from opencertd.web.tls import ServerTls
from tests.est.rig import USER, Rig, new_csr
from tests.web.people import Used, person, users_of
from tests.web.pki import SERVER, Pair, build, issuing

EST = "/.well-known/est"
LABELS = ("", "/default", "/rsa")
PKCS10 = {"Content_Type": "application/pkcs10", "User_Agent": "test"}
Answer = tuple[Any, bytes]


def asked(**options: Any) -> Rig:
    """A CA that USER asks."""
    rig = Rig(**options)
    rig.door.who = USER
    return rig


async def post(rig: Rig, operation: str, csr: bytes | None = None, **headers: str) -> Answer:
    """A request for a certificate, by default one that is granted."""
    return await rig.ask("POST", f"{EST}/{operation}", csr or new_csr("CN=device"), **{**PKCS10, **headers})


def certificates(body: bytes) -> list[x509.Certificate]:
    """Those of a certs-only body."""
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))


async def certified(rig: Rig, csr: bytes, operation: str = "simpleenroll") -> x509.Certificate:
    """The one certificate of a request that is granted."""
    response, body = await post(rig, operation, csr)
    assert response.code == 200, body
    (certificate,) = certificates(body)
    return certificate


def media_type(answer: Answer) -> str:
    """The answer's Content-Type."""
    (found,) = answer[0].headers.getRawHeaders("content-type")
    return str(found)


def parts(answer: Answer) -> list[Any]:
    """The parts of a multipart answer, as the standard library reads MIME."""
    response, body = answer
    assert response.code == 200, body
    message: Any = email.message_from_bytes(f"Content-Type: {media_type(answer)}\r\n\r\n".encode() + body)
    return list(message.get_payload())


def is_sentence(answer: Answer) -> bool:
    """Whether it is one line of plain text."""
    _, body = answer
    return media_type(answer) == "text/plain; charset=utf-8" and body.endswith(b".\n") and body.count(b"\n") == 1


def with_passwords(directory: Path) -> Rig:
    """A CA to which users log in by Basic or Digest: `ann`, and one without a name."""
    rig = Rig()
    ann, nameless = person("ann", "secret", digest=True), person("", "pin", digest=True)
    users = users_of(directory / "users", ann, nameless, clock=rig.clock)
    digest = Digest(users=users, key=b"k" * 32, redeem=Used().redeem, clock=rig.clock)
    door = Authenticator(recognise=rig.authority.recognise, clock=rig.clock, users=users, digest=digest)
    rig.door.authenticate = door.authenticate  # type: ignore[method-assign]
    rig.door.challenges = door.challenges  # type: ignore[method-assign]
    return rig


def basic(name: str, password: str) -> str:
    """Authorization by Basic."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def server() -> SSL.Context:
    """The daemon's TLS, which takes client certificates by `issuing()`."""
    shown = build("localhost", issuing(), usages=(SERVER,))
    return ServerTls(shown.pem, shown.key_pem, client_anchors=[issuing().certificate])._context


def client(identity: Pair | None = None) -> SSL.Context:
    """Somebody's."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    return context


def shakes_hands(asking: SSL.Context, serving: SSL.Context | None = None) -> tuple[SSL.Connection, SSL.Connection]:
    """Both ends after the handshake. Raises SSL.Error where they do not agree."""
    ours, theirs = SSL.Connection(asking), SSL.Connection(serving or server())
    ours.set_connect_state()
    theirs.set_accept_state()
    for _ in range(6):
        for one, other in ((ours, theirs), (theirs, ours)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    with contextlib.suppress(SSL.WantReadError):
        ours.recv(1)
    return ours, theirs


def offered() -> list[str]:
    """The cipher suites that the daemon agrees to."""
    return SSL.Connection(server()).get_cipher_list()
