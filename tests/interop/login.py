"""An OpenID Connect authority over TLS, in a thread: metadata, one key, and tokens of that key."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.clients import openssl

AUDIENCE = "opencertd"


@dataclass(frozen=True)
class Login:
    """`url`: of the authority; `anchors`: a PEM file that its TLS is verified by."""

    url: str
    anchors: Path
    key: ec.EllipticCurvePrivateKey

    def token(self, key: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> str:
        """A good one, unless changed; a claim that is None is left out."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "robot", "iat": now, "exp": now + 300} | changes
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key or self.key, "ES256", headers={"kid": "k1"})


@contextmanager
def login(directory: Path) -> Iterator[Login]:
    """Running on a port of loopback."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, tls_key = directory / "login.pem", directory / "login.key"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tls_key,
        "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
    )  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    documents: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = documents.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tls_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/realm"
    public = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key()))  # type: ignore[attr-defined]
    documents["/realm/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": url + "/keys"}
    documents["/realm/keys"] = {"keys": [public | {"kid": "k1", "use": "sig", "alg": "ES256"}]}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Login(url, certificate, key)
    finally:
        server.shutdown()
        server.server_close()
