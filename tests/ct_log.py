"""A log of Certificate Transparency over real HTTP, which reads what it is sent by libraries that are not ours.

It behaves as a log of RFC 6962 does, and misbehaves as its `manner` says.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import ssl
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1_modules import rfc5280

POISON = "1.3.6.1.4.1.11129.2.4.3"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def wall_clock() -> datetime:
    return datetime.now(UTC)


class FakeLog:
    """One log. `now`: its clock. `seen`: the chains it was sent. `entries`: the TBS it has signed timestamps for."""

    def __init__(self, key: Key | None = None, now: Callable[[], datetime] = wall_clock) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.now = now
        self.manner = "good"
        self.seen: list[list[x509.Certificate]] = []
        self.entries: list[bytes] = []
        self.faults: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.scheme, self.host = "http", "127.0.0.1"
        self.ended = threading.Event()

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_b64(self) -> str:
        return base64.b64encode(self.spki).decode()

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.spki).digest()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self._server.server_address[1]}/2026"

    def toml(self, **more: str) -> str:
        """As one of `logs` in settings."""
        pairs = {"url": self.url, "key": self.key_b64, **more}
        return "{ " + ", ".join(f'{name} = "{value}"' for name, value in pairs.items()) + " }"

    def speak_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme, self.host = "https", "localhost"

    def __enter__(self) -> FakeLog:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def add_pre_chain(self, body: bytes) -> dict[str, Any]:
        """The answer to a submission that is as RFC 6962 §4.2 wants it; AssertionError otherwise."""
        chain = [x509.load_der_x509_certificate(base64.b64decode(one)) for one in json.loads(body)["chain"]]
        self.seen.append(chain)
        for one, above in itertools.pairwise(chain):
            one.verify_directly_issued_by(above)
        assert len(chain) > 1, "no issuer"
        poison = chain[0].extensions.get_extension_for_class(x509.PrecertPoison)
        assert poison.critical
        tbs = without_poison(chain[0].tbs_certificate_bytes)
        issuer = chain[1].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self.stamp(issuer, tbs)

    def stamp(self, issuer_spki: bytes, tbs: bytes, extensions: bytes = b"") -> dict[str, Any]:
        milliseconds = int(self.now().timestamp() * 1000)
        signed = struct.pack(">BBQH", 0, 0, milliseconds, 1) + hashlib.sha256(issuer_spki).digest()
        signed += len(tbs).to_bytes(3, "big") + tbs + len(extensions).to_bytes(2, "big") + extensions
        signature = self.sign(signed)
        self.entries.append(tbs)
        return {
            "sct_version": 0,
            "id": base64.b64encode(self.id).decode(),
            "timestamp": milliseconds,
            "extensions": base64.b64encode(extensions).decode(),
            "signature": base64.b64encode(signature).decode(),
        }

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            algorithms, signature = b"\4\1", self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            algorithms, signature = b"\4\3", self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        return algorithms + len(signature).to_bytes(2, "big") + signature


def without_poison(tbs_der: bytes) -> bytes:
    """By pyasn1: the to-be-signed bytes that a log signs."""
    tbs, _ = decode(tbs_der, asn1Spec=rfc5280.TBSCertificate())
    kept = [one for one in tbs["extensions"] if str(one["extnID"]) != POISON]
    assert len(kept) == len(tbs["extensions"]) - 1
    tbs["extensions"].clear()
    tbs["extensions"].extend(kept)
    return bytes(encode(tbs))


def verify(stamp: Any, log: FakeLog, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """By cryptography's own reading of the certificate: the timestamp is the log's. Raises InvalidSignature."""
    assert stamp.log_id == log.id
    tbs = certificate.tbs_precertificate_bytes
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    milliseconds = round(stamp.timestamp.replace(tzinfo=UTC).timestamp() * 1000)
    signed = struct.pack(">BBQH", 0, 0, milliseconds, 1) + hashlib.sha256(spki).digest()
    signed += len(tbs).to_bytes(3, "big") + tbs
    signed += len(stamp.extension_bytes).to_bytes(2, "big") + stamp.extension_bytes
    key = log.key.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(stamp.signature, signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        key.verify(stamp.signature, signed, ec.ECDSA(hashes.SHA256()))


def _handler(log: FakeLog) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Be silent."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                assert self.path == "/2026/ct/v1/add-pre-chain", self.path
                getattr(self, f"be_{log.manner}")(body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                log.faults.append("hung up")
            except Exception as error:
                log.faults.append(repr(error))
                self.send(400, repr(error).encode())

        def send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def answer(self, body: bytes, **changes: Any) -> None:
            given = {**log.add_pre_chain(body), **changes}
            self.send(200, json.dumps({k: v for k, v in given.items() if v is not None}).encode())

        def be_good(self, body: bytes) -> None:
            self.answer(body)

        def be_extended(self, body: bytes) -> None:
            chain = [x509.load_der_x509_certificate(base64.b64decode(one)) for one in json.loads(body)["chain"]]
            issuer = chain[1].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            given = log.stamp(issuer, without_poison(chain[0].tbs_certificate_bytes), b"\0\0\5abcde")
            self.send(200, json.dumps(given).encode())

        def be_silent(self, body: bytes) -> None:
            log.ended.wait(60)

        def be_dripping(self, body: bytes) -> None:
            self.send_response(200)
            self.end_headers()
            while not log.ended.wait(0.1):
                self.wfile.write(b" ")
                self.wfile.flush()

        def be_huge(self, body: bytes) -> None:
            self.send_response(200)
            self.end_headers()
            while not log.ended.is_set():
                self.wfile.write(b" " * 65536)

        def be_huge_and_good(self, body: bytes) -> None:
            self.send(200, json.dumps(log.add_pre_chain(body)).encode() + b" " * (1 << 20))

        def be_hanging_up(self, body: bytes) -> None:
            self.close_connection = True

        def be_unsigned(self, body: bytes) -> None:
            self.answer(body, signature=None)

        def be_signing_nothing(self, body: bytes) -> None:
            self.answer(body, signature=base64.b64encode(b"\4\3\0\0").decode())

        def be_wrongly_signed(self, body: bytes) -> None:
            self.answer(body, signature=base64.b64encode(log.sign(b"something else")).decode())

        def be_signing_by_sha1(self, body: bytes) -> None:
            given = log.add_pre_chain(body)
            signature = base64.b64decode(given["signature"])
            self.send(
                200, json.dumps({**given, "signature": base64.b64encode(b"\2" + signature[1:]).decode()}).encode()
            )

        def be_cut_off(self, body: bytes) -> None:
            given = log.add_pre_chain(body)
            signature = base64.b64decode(given["signature"])[:-1]
            self.send(200, json.dumps({**given, "signature": base64.b64encode(signature).decode()}).encode())

        def be_another(self, body: bytes) -> None:
            self.answer(body, id=base64.b64encode(bytes(32)).decode())

        def be_of_version_2(self, body: bytes) -> None:
            self.answer(body, sct_version=1)

        def be_of_no_time(self, body: bytes) -> None:
            self.answer(body, timestamp=(1 << 64) - 1)

        def be_of_bad_time(self, body: bytes) -> None:
            self.answer(body, timestamp="now")

        def be_of_short_id(self, body: bytes) -> None:
            self.answer(body, id="AAAA")

        def be_of_bad_base64(self, body: bytes) -> None:
            self.answer(body, extensions="%%%")

        def be_of_number_extensions(self, body: bytes) -> None:
            self.answer(body, extensions=7)

        def be_html(self, body: bytes) -> None:
            self.send(200, b"<html>Welcome</html>")

        def be_a_list(self, body: bytes) -> None:
            self.send(200, b"[]")

        def be_deep(self, body: bytes) -> None:
            self.send(200, b"[" * 60000)

        def be_empty(self, body: bytes) -> None:
            self.send(200, b"")

        def be_refusing(self, body: bytes) -> None:
            self.send(400, b"\x1b[31mroot is not accepted here")

        def be_busy(self, body: bytes) -> None:
            self.send(503, b"")

        def be_redirecting(self, body: bytes) -> None:
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def be_signing_another(self, body: bytes) -> None:
            """A timestamp of its own for somebody else's certificate."""
            self.send(200, json.dumps(log.stamp(b"another issuer", b"another certificate")).encode())

        def be_late(self, body: bytes) -> None:
            time.sleep(0.3)
            self.answer(body)

    return Handler
