"""Requests to the daemon from Python: one connection each, trust from `trust-anchors.pem`, TLS kept strict."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests.interop.clients import new_csr, new_key
from tests.interop.daemon import Daemon
from tests.interop.wire import Answer, client_tls

USER, PASSWORD = "estuser", "estpwd"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
EST = "/.well-known/est"


@dataclass(frozen=True)
class Identity:
    """A client certificate with its key, as files."""

    certificate_file: Path
    key_file: Path

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    @property
    def serial_hex(self) -> str:
        return f"{self.certificate.serial_number:X}"


def connect(ca: Daemon, identity: Identity | None = None, timeout: float = 30.0) -> http.client.HTTPSConnection:
    """A connection, not opened yet, with a client certificate when one is given."""
    files = (str(identity.certificate_file), str(identity.key_file)) if identity else ()
    context = client_tls(str(ca.trust_anchors), *files)
    connection = http.client.HTTPSConnection(ca.host, ca.port, timeout=timeout, context=context)
    # whatever the daemon is called, it is on this machine
    connection._create_connection = lambda _, *rest: socket.create_connection(("localhost", ca.port), *rest)  # type: ignore[attr-defined]
    return connection


def request(
    ca: Daemon,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    identity: Identity | None = None,
) -> Answer:
    """One HTTPS request on a connection of its own."""
    connection = connect(ca, identity)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return answer_of(connection)
    finally:
        connection.close()


def request_plain(
    ca: Daemon, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request to the plain HTTP port."""
    connection = http.client.HTTPConnection("localhost", ca.http_port, timeout=30)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return answer_of(connection)
    finally:
        connection.close()


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    """Read the answer to the request just sent."""
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def certs_only(answer: Answer) -> list[x509.Certificate]:
    """The certificates of an EST answer (base64 of a certs-only CMS)."""
    assert answer.status == 200, (answer.status, answer.body[:500])
    return list(pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body)))


def enrol(ca: Daemon, directory: Path, name: str, kind: str = "ec", **credentials: Any) -> Identity:
    """A new key and its certificate by EST simpleenroll with Basic (or the `headers`/`identity` given)."""
    directory.mkdir(parents=True, exist_ok=True)
    key = new_key(directory / f"{name}.key", kind)
    return enrol_key(ca, key, name, **credentials)


def enrol_key(ca: Daemon, key: Path, name: str, **credentials: Any) -> Identity:
    """A certificate for the key in that file, which is kept beside it."""
    wanted = credentials or {"headers": BASIC}
    wanted["headers"] = {"Content-Type": "application/pkcs10", **wanted.get("headers", {})}
    csr = new_csr(key, name).read_bytes()
    (certificate,) = certs_only(request(ca, "POST", f"{EST}/simpleenroll", csr, **wanted))
    path = key.with_suffix(".pem")
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Identity(path, key)
