"""Behind nginx that ends TLS: client certificates count, each that must not is refused, nobody else is believed."""

from __future__ import annotations

import asyncio
import base64
import http.client
import os
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop import bad_certificates
from tests.interop.acme_client import AcmeClient, AcmeError
from tests.interop.bad_certificates import NAME
from tests.interop.clients import new_csr, new_key, run
from tests.interop.https import BASIC, EST, PASSWORD, USER, Identity, answer_of, certs_only
from tests.interop.revoking import signature
from tests.interop.site import Site, site
from tests.interop.test_channel_binding import linked_csr
from tests.interop.test_est_clients import curl, print_certs, sending, strongswan_anchors
from tests.interop.wire import Answer, Connection, client_tls

HEADER = "X-SSL-Client-Cert"
STRANGER = "127.0.0.2"
"""An address of this machine that is not nginx's."""

SETTINGS = f"""
[proxy]
trusted = ["127.0.0.1"]
certificate_header = "{HEADER}"
[access]
revokers = ["CN=operator.test"]
[profiles.brief]
validity = "2s"
backdate = "1s"
[limits]
accounts_per_address = "2 per 1d"
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three workers behind nginx, which they trust."""
    with site(tmp_path_factory.mktemp("proxied"), workers=3, settings=SETTINGS, fronted=True) as running:
        yield running


def connect(site: Site, identity: Identity | None, port: int, source: str) -> http.client.HTTPSConnection:
    """To nginx, or straight to the daemon when its port is given."""
    files = (str(identity.certificate_file), str(identity.key_file)) if identity else ()
    tls, where = client_tls(str(site.ca.trust_anchors), *files), port or site.ca.front_port
    connection = http.client.HTTPSConnection("localhost", where, timeout=30, context=tls, source_address=(source, 0))
    create = lambda _, *rest: socket.create_connection(("127.0.0.1", where), *rest)  # noqa: E731
    connection._create_connection = create  # type: ignore[attr-defined]
    return connection


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
    """One request. Raises OSError where TLS fails."""
    connection = connect(site, identity, port, source)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return answer_of(connection)
    finally:
        connection.close()


def enrol(site: Site, directory: Path, name: str, label: str = "") -> Identity:
    """By password, through nginx."""
    key = new_key(directory / f"{name}.key")
    head = {**BASIC, "Content-Type": "application/pkcs10"}
    answer = ask(site, "POST", f"{EST}{label}/simpleenroll", new_csr(key, name).read_bytes(), headers=head)
    (certificate,) = certs_only(answer)
    path = key.with_suffix(".pem")
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Identity(path, key)


def reenrol(
    site: Site, identity: Identity | None, port: int = 0, headers: Mapping[str, str] | None = None, name: str = NAME
) -> int | None:
    """The status of simplereenroll; None where there is no TLS."""
    key = identity.key_file if identity else new_key(site.ca.state.with_name("nobody.key"))
    head = {"Content-Type": "application/pkcs10", **(headers or {})}
    csr = new_csr(key, name).read_bytes()
    try:
        path = f"{EST}/simplereenroll"
        return ask(site, "POST", path, csr, headers=head, identity=identity, port=port).status
    except OSError:
        return None


def inventory(site: Site, identity: Identity, port: int = 0) -> int | None:
    """The status of `GET /ca/inventory`; None where there is no TLS."""
    try:
        return ask(site, "GET", "/ca/inventory", identity=identity, port=port).status
    except OSError:
        return None


def change(site: Site, operator: Identity, of: Identity, reason: str) -> None:
    """The operator revokes or holds a certificate, through nginx."""
    sn = of.serial_hex
    query = urlencode({"sn": sn, "reason": reason, "signature": signature(operator, sn, reason)})
    answer = ask(site, "DELETE", f"/ca/revoke?{query}", identity=operator)
    assert answer.status == 200, answer


def pem_header(identity: Identity) -> str:
    return quote(identity.certificate_file.read_text(), safe="")


def test_curl_enrols_and_reenrols_through_nginx(proxied: Site, tmp_path: Path) -> None:
    ca = proxied.ca
    key = new_key(tmp_path / "curl.key")
    csr = new_csr(key, "curl.test")
    who = ("--anyauth", "-u", f"{USER}:{PASSWORD}")
    (first,) = print_certs(curl(ca, *who, *sending(csr), f"{ca.url}{EST}/simpleenroll"))
    path = tmp_path / "curl.pem"
    path.write_bytes(first.public_bytes(Encoding.PEM))
    for operation in ("simpleenroll", "simplereenroll"):
        mine = ("--cert", path, "--key", key)
        (renewed,) = print_certs(curl(ca, *mine, *sending(csr), f"{ca.url}{EST}/{operation}"))
        assert renewed.subject == first.subject
        assert renewed.serial_number != first.serial_number


def test_strongswan_reenrols_through_nginx(proxied: Site, tmp_path: Path) -> None:
    ca = proxied.ca
    anchors = strongswan_anchors(ca, tmp_path)
    identity = enrol(proxied, tmp_path, "swan.test")
    der = tmp_path / "swan.crt"
    der.write_bytes(identity.certificate.public_bytes(Encoding.DER))
    request = run("pki", "--req", "--type", "ecdsa", "--in", identity.key_file, "--dn", "CN=swan.test").stdout
    mine = ("--cert", der, "--key", identity.key_file)
    assert run("pki", "--est", "--url", ca.url, *anchors, *mine, stdin=request).stdout


def test_our_client_reenrols_through_nginx(proxied: Site, tmp_path: Path) -> None:
    identity = enrol(proxied, tmp_path, "opencert.test")
    where = ("--server", proxied.ca.url, "--trust-anchors", proxied.ca.trust_anchors)
    mine = ("--cert", identity.certificate_file, "--key", identity.key_file)
    run("opencert", "est-reenroll", *where, *mine, "--out", tmp_path / "renewed.pem")
    assert (tmp_path / "renewed.pem").exists()


def bad(kind: str, site: Site, directory: Path) -> Identity:
    """A certificate that must not count."""
    if kind == "foreign":
        return bad_certificates.foreign(directory)
    if kind == "self-signed":
        return bad_certificates.self_signed(directory)
    if kind == "self-made with our issuer's name":
        return bad_certificates.self_made(site.ca, directory)
    if kind == "bent":
        return bad_certificates.bent(enrol(site, directory, NAME), directory)
    if kind == "expired":
        identity = enrol(site, directory, NAME, "/brief")
        time.sleep(2.5)
        return identity
    identity = enrol(site, directory, NAME)
    assert (reenrol(site, identity), reenrol(site, identity, site.ca.port)) == (200, 200)
    reason = "certificateHold" if kind == "held" else "keyCompromise"
    change(site, enrol(site, directory, "operator.test"), identity, reason)
    return identity


NO_TLS = None

CASES = [
    ("revoked", 401, 401),
    ("held", 401, 401),
    ("expired", 400, NO_TLS),  # nginx itself refuses it, with its own page
    ("foreign", 401, NO_TLS),
    ("self-made with our issuer's name", 401, NO_TLS),
    ("self-signed", 401, NO_TLS),
    ("bent", 401, NO_TLS),
]


@pytest.mark.parametrize(("kind", "by_nginx", "directly"), CASES)
def test_a_certificate_that_must_not_count(
    proxied: Site, tmp_path: Path, kind: str, by_nginx: int | None, directly: int | None
) -> None:
    """On every edge that asks who is there, behind nginx and without it."""
    identity = bad(kind, proxied, tmp_path)
    assert (reenrol(proxied, identity), inventory(proxied, identity)) == (by_nginx, by_nginx)
    port = proxied.ca.port
    assert (reenrol(proxied, identity, port), inventory(proxied, identity, port)) == (directly, directly)


def test_an_expired_certificate_that_a_proxy_lets_pass_is_refused(proxied: Site, tmp_path: Path) -> None:
    """As a proxy that verifies nothing would pass it on: from its address, with its header."""
    head = {HEADER: pem_header(bad("expired", proxied, tmp_path))}
    answer = ask(proxied, "GET", "/ca/inventory", headers=head, port=proxied.ca.port, source="127.0.0.1")
    assert answer.status == 401
    assert b"expired" in answer.body


def test_a_revocation_counts_within_a_second_on_all_workers_and_on_connections_kept_open(
    proxied: Site, tmp_path: Path
) -> None:
    identity, operator = enrol(proxied, tmp_path, NAME), enrol(proxied, tmp_path, "operator.test")
    kept = [connect(proxied, identity, proxied.ca.port, STRANGER) for _ in range(24)]

    def statuses() -> set[int]:
        for connection in kept:
            connection.request("GET", "/ca/inventory")
        return {answer_of(connection).status for connection in kept}

    assert statuses() == {200}
    change(proxied, operator, identity, "superseded")
    done = time.monotonic()
    assert statuses() == {401}
    assert time.monotonic() - done < 1
    for connection in kept:
        connection.close()


def test_headers_of_a_direct_client_change_nothing(proxied: Site, tmp_path: Path) -> None:
    """Whoever has somebody's certificate, which is public, is nobody by it; and stays who TLS has proven."""
    victim = enrol(proxied, tmp_path, "victim.test")
    own = enrol(proxied, tmp_path, NAME)
    der = victim.certificate.public_bytes(Encoding.DER)
    forged = {
        HEADER: pem_header(victim),
        "Client-Cert": f":{base64.b64encode(der).decode()}:",
        "X-Forwarded-For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
    }
    for port in (proxied.ca.port, 0):
        assert reenrol(proxied, None, port, forged) == 401
        assert reenrol(proxied, own, port, forged) == 200, "its own name"
        assert reenrol(proxied, own, port, forged, name="victim.test") == 403


@pytest.mark.parametrize("value", ["x", "%2D", "-----BEGIN%20CERTIFICATE-----", ":MIIB:"])
def test_a_proxy_that_cannot_be_understood_is_told_so(proxied: Site, value: str) -> None:
    answer = ask(proxied, "GET", "/ca/inventory", headers={HEADER: value}, port=proxied.ca.port, source="127.0.0.1")
    assert answer.status == 400
    assert b"proxy" in answer.body


def test_a_certificate_in_the_connection_of_a_proxy_is_not_the_clients(proxied: Site, tmp_path: Path) -> None:
    nginxs_own = enrol(proxied, tmp_path, NAME)
    answer = ask(proxied, "GET", "/ca/inventory", identity=nginxs_own, port=proxied.ca.port, source="127.0.0.1")
    assert answer.status == 401


def test_behind_a_proxy_a_connection_binds_nobody(proxied: Site, tmp_path: Path) -> None:
    """The right value for the connection between nginx and us is still not one of the client's connection."""
    ca = proxied.ca
    identity = enrol(proxied, tmp_path, NAME)
    tls = client_tls(str(ca.trust_anchors))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", ca.port), source_address=("127.0.0.1", 0)) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        password = base64.b64encode(connection.get_channel_binding("tls-unique") or b"").decode()
        csr = linked_csr(tmp_path, password, NAME)
        head = f"POST {EST}/simplereenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
        said = f"{HEADER}: {pem_header(identity)}\r\nConnection: close\r\nContent-Length: {len(csr)}\r\n\r\n"
        connection.sendall(head.encode() + said.encode() + csr)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"a proxy ends TLS before it" in answer


class From(Connection):
    """A connection from an address of our choice."""

    source = STRANGER

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=self._host, local_addr=(self.source, 0)
        )
        return self._streams


class Pretending(From):
    """One that says it is somebody else each time."""

    said = 0

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        Pretending.said += 1
        more = {"X-Forwarded-For": f"192.0.2.{self.said % 200}", "Forwarded": f"for=192.0.2.{self.said % 200}"}
        return await super().request(method, path, {**(headers or {}), **more}, body)


def accounts(site: Site, kind: type[From], source: str, port: int = 0) -> int:
    """How many accounts one address gets before it is told rateLimited; 4 at most."""

    async def register() -> None:
        connection = kind("localhost", port or site.ca.front_port, client_tls(str(site.ca.trust_anchors)))
        connection.source = source
        try:
            await AcmeClient(connection).register()
        finally:
            connection.close()

    for number in range(4):
        try:
            asyncio.run(register())
        except AcmeError as error:
            assert error.type == "rateLimited", error
            return number
    return 4


def test_rates_count_by_the_clients_address_and_not_by_nginxs(proxied: Site) -> None:
    assert accounts(proxied, From, "127.0.1.1") == 2
    assert accounts(proxied, From, "127.0.1.2") == 2, "another client of the same nginx"
    assert accounts(proxied, Pretending, "127.0.1.3") == 2, "nginx says who it is"
    assert accounts(proxied, Pretending, "127.0.1.4", proxied.ca.port) == 2, "and here its connection does"
    assert accounts(proxied, From, "127.0.1.4") == 0, "one address, whichever way it comes"


def test_whoever_opens_a_unix_socket_is_believed_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "ca.sock"
    settings = '[proxy]\ntrusted = ["unix"]\ncertificate_header = "Client-Cert"\n'
    with site(tmp_path, workers=2, settings=settings, sockets=(path,)) as running:
        ca = running.ca
        ca.front_port = ca.port
        identity = enrol(running, tmp_path, NAME)
        der = identity.certificate.public_bytes(Encoding.DER)
        said = ("-H", f"Client-Cert: :{base64.b64encode(der).decode()}:")
        url = f"https://localhost:{ca.port}/ca/inventory"
        assert b"certificates" in curl(ca, "--unix-socket", path, *said, url)
        refused = run("curl", "-sS", "--cacert", ca.trust_anchors, "-w", "%{http_code}", *said, url).stdout
        assert refused.endswith(b"401")
        assert inventory(running, identity) == 200, "no proxy is in between here"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660, "a worker has opened the socket to everybody"
        for pid in ca.pids()[1:]:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while running.ca.log.count("ended:") < 2 or not ca.answers():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert b"certificates" in curl(ca, "--unix-socket", path, *said, url), "a worker's end has taken it away"
    assert not path.exists()
