"""Behind nginx that ends TLS: client certificates count, each that must not is refused, and nobody else's word counts."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.interop import bad_certificates
from tests.interop.bad_certificates import NAME
from tests.interop.clients import new_csr, new_key, run
from tests.interop.https import BASIC, EST, PASSWORD, USER, Identity, answer_of, enrol, request
from tests.interop.revoking import revoke
from tests.interop.site import Site, site
from tests.interop.test_est_clients import curl, print_certs, sending, strongswan_anchors
from tests.interop.wire import Answer, client_tls

HEADER = "X-SSL-Client-Cert"
STRANGER = "127.0.0.2"
"""An address of this machine that is not nginx's."""

SETTINGS = f"""
[proxy]
trusted = ["127.0.0.1"]
certificate_header = "{HEADER}"
[profiles.brief]
validity = "1s"
[limits]
accounts_per_address = "2 per 1d"
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three workers behind nginx, which they trust."""
    with site(tmp_path_factory.mktemp("proxied"), workers=3, settings=SETTINGS, fronted=True) as running:
        yield running


def ask(
    site: Site,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    identity: Identity | None = None,
    headers: Mapping[str, str] | None = None,
    port: int = 0,
    source: str = STRANGER,
) -> Answer:
    """A request to nginx, or straight to the daemon when its port is given. Raises OSError where TLS fails."""
    files = (str(identity.certificate_file), str(identity.key_file)) if identity else ()
    context = client_tls(str(site.ca.trust_anchors), *files)
    where = port or site.ca.front_port
    connection = http.client.HTTPSConnection(
        "localhost", where, timeout=30, context=context, source_address=(source, 0)
    )
    connection._create_connection = lambda _, *rest: http.client.socket.create_connection(  # type: ignore[attr-defined]
        ("127.0.0.1", where), *rest
    )
    try:
        connection.request(method, path, body, dict(headers or {}))
        return answer_of(connection)
    finally:
        connection.close()


def reenrol(site: Site, identity: Identity, **more: object) -> int:
    csr = new_csr(identity.key_file, NAME).read_bytes()
    head = {"Content-Type": "application/pkcs10", **more.pop("headers", {})}  # type: ignore[dict-item]
    path = f"{EST}/simplereenroll"
    return ask(site, "POST", path, csr, headers=head, identity=identity, **more).status  # type: ignore[arg-type]


def test_curl_enrols_and_reenrols_through_nginx(proxied: Site, tmp_path: Path) -> None:
    ca = proxied.ca
    key = new_key(tmp_path / "curl.key")
    csr = new_csr(key, "curl.test")
    who = ("--anyauth", "-u", f"{USER}:{PASSWORD}")
    (first,) = print_certs(curl(ca, *who, *sending(csr), f"{ca.url}{EST}/simpleenroll"))
    path = tmp_path / "curl.pem"
    path.write_bytes(first.public_bytes(serialization_pem()))
    mine = ("--cert", path, "--key", key)
    for operation in ("simpleenroll", "simplereenroll"):
        (renewed,) = print_certs(curl(ca, *mine, *sending(csr), f"{ca.url}{EST}/{operation}"))
        assert (renewed.subject, renewed.serial_number != first.serial_number) == (first.subject, True)


def serialization_pem():  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM
