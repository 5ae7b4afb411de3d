"""An EST server that behaves, and misbehaves, as its labels say."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AttributeOID
from klein import Klein
from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.web.iweb import IRequest
from twisted.web.server import Site

from opencertd.asn1.cms import encode_certs_only
from tests.client import pki

USER, PASSWORD = "alice", "sesam öffne dich"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
NONCE = "abc123"
WISHES = "302906092a864886f70d010907301206072a8648ce3d0201310706052b8104002206082a8648ce3d040303"
"""Of RFC 7030 §4.5.2's kinds: challengePassword, EC P-384, ecdsa-with-SHA384."""


@dataclass
class FakeEst:
    """Issues under `issuing`. `pending`: how many 202 come first. `seen`: method, path and proof of each request."""

    root: pki.Pair = field(default_factory=lambda: pki.authority("Fake Root"))
    pending: int = 0
    kind: str = "application/pkcs7-mime; smime-type=certs-only"
    retry_after: str = "1"
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issuing = pki.authority("Fake Issuing CA", self.root)
        self.app = Klein()
        self.app.route("/.well-known/est/<operation>")(lambda request, operation: self.answer(request, "", operation))
        self.app.route("/.well-known/est/<label>/<operation>")(self.answer)

    def answer(self, request: IRequest, label: str, operation: str) -> object:
        proof = request.getHeader("Authorization")
        self.seen.append((request.method.decode(), request.path.decode(), proof))
        self.bodies.append(request.content.read())
        act = getattr(self, f"act_{label}", None)
        if act is not None:
            return act(request, operation)
        if operation == "csrattrs":
            return self.act_nothing(request, operation)
        return self.cacerts(request) if operation == "cacerts" else self.enrol(request)

    def cacerts(self, request: IRequest) -> bytes:
        return self.certificates(request, [self.issuing.der, self.root.der])

    def certificates(self, request: IRequest, ders: list[bytes]) -> bytes:
        request.setHeader("Content-Type", "application/pkcs7-mime")
        return base64.encodebytes(encode_certs_only(ders))

    def enrol(self, request: IRequest) -> bytes:
        by_tls = getattr(request.transport, "getPeerCertificate", lambda: None)()
        if request.getHeader("Authorization") != BASIC and by_tls is None:
            request.setResponseCode(401)
            request.setHeader("WWW-Authenticate", 'Basic realm="fake, with comma", Bearer')
            return self.words(request, "User name or password is wrong.\n")
        if self.pending:
            self.pending -= 1
            request.setResponseCode(202)
            request.setHeader("Retry-After", self.retry_after)
            return b""
        csr = x509.load_der_x509_csr(base64.b64decode(self.bodies[-1]))
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issued = pki.certify(self.issuing, csr.public_key(), csr.subject, list(names))
        return self.certificates(request, [issued.public_bytes(Encoding.DER)])

    def words(self, request: IRequest, text: str) -> bytes:
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        return text.encode()

    def act_keygen(self, request: IRequest, operation: str, *, own: bool = True) -> object:
        if operation != "serverkeygen":
            return self.cacerts(request)
        csr = x509.load_der_x509_csr(base64.b64decode(self.bodies[-1]))
        key = ec_key()
        issued = pki.certify(self.issuing, (key if own else ec_key()).public_key(), csr.subject, [])
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        parts = (("application/pkcs8", pkcs8), (self.kind, encode_certs_only([issued.public_bytes(Encoding.DER)])))
        request.setHeader("Content-Type", "multipart/mixed ; boundary=estServerKeyGenExampleBoundary")
        body = b"This is the preamble.\r\n"
        for kind, data in parts:
            head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            body += (
                b"--estServerKeyGenExampleBoundary\r\n"
                + head.encode()
                + base64.encodebytes(data).replace(b"\n", b"\r\n")
            )
        return body + b"--estServerKeyGenExampleBoundary--\r\nThis is the epilogue.\r\n"

    def act_otherpair(self, request: IRequest, operation: str) -> object:
        return self.act_keygen(request, operation, own=False)

    def act_wishes(self, request: IRequest, operation: str) -> bytes:
        request.setHeader("Content-Type", "application/csrattrs")
        return base64.encodebytes(bytes.fromhex(WISHES))

    def act_linked(self, request: IRequest, operation: str, *, closing: bool = False) -> object:
        """Takes requests that hold the binding of their own connection, as this end's OpenSSL has it."""
        if closing:
            request.responseHeaders.setRawHeaders("Connection", ["close"])
        if operation == "csrattrs":
            return self.act_wishes(request, operation)
        connection = request.transport.getHandle()
        self.connections.append(id(connection))
        if connection.get_protocol_version_name() == "TLSv1.3":
            wanted = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        else:
            wanted = connection.get_peer_finished()
        csr = x509.load_der_x509_csr(base64.b64decode(self.bodies[-1]))
        found = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        assert base64.b64decode(found.value, validate=True) == wanted
        return self.enrol(request)

    def act_unkept(self, request: IRequest, operation: str) -> object:
        """The same, but no connection outlives its answer."""
        return self.act_linked(request, operation, closing=True)

    def act_nothing(self, request: IRequest, operation: str) -> bytes:
        request.setResponseCode(204)
        return b""

    def act_html(self, request: IRequest, operation: str) -> bytes:
        request.setHeader("Content-Type", "text/html")
        return b"<html>Welcome to the intranet portal</html>"

    def act_empty(self, request: IRequest, operation: str) -> bytes:
        return b""

    def act_forbidden(self, request: IRequest, operation: str) -> bytes:
        request.setResponseCode(403)
        return self.words(request, "Not allowed: \x1b[31mevil.example\nand more.")

    def act_busy(self, request: IRequest, operation: str) -> bytes:
        request.setResponseCode(503)
        request.setHeader("Retry-After", "17")
        return b""

    def act_otherkey(self, request: IRequest, operation: str) -> bytes:
        return self.certificates(request, [pki.leaf(self.issuing, "www.example.com").der])

    def act_redirect(self, request: IRequest, operation: str) -> bytes:
        request.redirect(f"/.well-known/est/{operation}".encode())
        return b""

    def act_moved(self, request: IRequest, operation: str) -> bytes:
        """Every operation, with its method."""
        request.redirect(f"/.well-known/est/{operation}".encode())
        request.setResponseCode(308)
        return b""

    def act_seeother(self, request: IRequest, operation: str) -> bytes:
        request.redirect(f"/.well-known/est/{operation}".encode())
        request.setResponseCode(303)
        return b""

    def act_elsewhere(self, request: IRequest, operation: str) -> bytes:
        request.redirect(b"https://evil.example/.well-known/est/cacerts")
        return b""

    def act_plain(self, request: IRequest, operation: str) -> bytes:
        request.redirect(b"http://" + request.getHeader(b"host") + b"/.well-known/est/cacerts")
        return b""

    def act_loop(self, request: IRequest, operation: str) -> bytes:
        request.redirect(request.path)
        return b""

    def act_huge(self, request: IRequest, operation: str) -> Deferred[None]:
        """Sends for ever."""
        left: Deferred[None] = request.notifyFinish()
        sending = [True]

        def more() -> None:
            if sending:
                request.write(b"A" * 65536)
                later(more)

        def stop(_: object) -> None:
            sending.clear()
            self.gone.append("huge")

        left.addBoth(stop)
        more()
        return left

    def act_slow(self, request: IRequest, operation: str) -> Deferred[None]:
        """Never answers."""
        left: Deferred[None] = request.notifyFinish()
        return left.addBoth(lambda _: self.gone.append("slow"))

    def act_trickle(self, request: IRequest, operation: str) -> Deferred[None]:
        """A byte now and then: no single wait is long."""
        left: Deferred[None] = request.notifyFinish()
        sending = [True]

        def more() -> None:
            if sending:
                request.write(b"A")
                later(more, 0.1)

        left.addBoth(lambda _: (sending.clear(), self.gone.append("trickle")))
        more()
        return left

    def act_digest(self, request: IRequest, operation: str) -> bytes:
        """Digest in SHA-256 alone, checked by RFC 7616 §3.4."""
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.getHeader("Authorization") or ""))
        if given.get("response") == digest_response(given, "POST" if operation != "cacerts" else "GET"):
            request.requestHeaders.setRawHeaders("Authorization", [BASIC])
            return self.cacerts(request) if operation == "cacerts" else self.enrol(request)
        request.setResponseCode(401)
        offers = (f'Digest realm="fake", qop="auth", nonce="{NONCE}", algorithm={a}' for a in ("MD5", "SHA-256"))
        request.responseHeaders.setRawHeaders("WWW-Authenticate", list(offers))
        return b""

    def act_negotiate(self, request: IRequest, operation: str) -> bytes:
        request.setResponseCode(401)
        request.setHeader("WWW-Authenticate", "Negotiate")
        return b""


def later(call: object, seconds: float = 0.0) -> None:
    from twisted.internet import reactor

    reactor.callLater(seconds, call)


def digest_response(given: dict[str, str], method: str) -> str:
    def h(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    secret = h(f"{USER}:fake:{PASSWORD}")
    middle = f"{NONCE}:{given.get('nc')}:{given.get('cnonce')}:auth"
    purpose = h(f"{method}:{given.get('uri')}")
    return h(f"{secret}:{middle}:{purpose}")


@contextmanager
def listening(
    fake: FakeEst, server: pki.Pair, chain: tuple[pki.Pair, ...] = (), clients: tuple[pki.Pair, ...] = ()
) -> Iterator[int]:
    """The fake behind real TLS on loopback, demanding a certificate of one of `clients` if any. Yields the port."""
    from twisted.internet import reactor

    extra = {}
    if clients:
        anchors = [Certificate(crypto.X509.from_cryptography(one.certificate)) for one in clients]
        extra["trustRoot"] = trustRootFromCertificates(anchors)
    options = CertificateOptions(
        privateKey=server.key,
        certificate=server.certificate,
        extraCertChain=[one.certificate for one in chain],
        **extra,
    )
    port = reactor.listenSSL(0, Site(fake.app.resource()), options, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
