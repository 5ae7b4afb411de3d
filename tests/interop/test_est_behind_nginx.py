"""Behind nginx EST clients do what they do without it: log in, wait for a person, come with certificates.

nginx ends TLS there, and passes client certificates on.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import new_csr, new_key, run
from tests.interop.https import EST, PASSWORD, USER
from tests.interop.site import Site, site
from tests.interop.test_approval import begin, est, waiting
from tests.interop.test_est_clients import curl, print_certs, sending, strongswan_anchors, verify
from tests.interop.test_opencert import by_password, loaded, server

SETTINGS = """
[proxy]
trusted = ["127.0.0.1"]
certificate_header = "X-SSL-Client-Cert"
[approval]
retry_after = "2s"
[profiles.default]
approval = "person"
"""


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three workers behind nginx; the default profile wants a person, and the user may use Digest."""
    with site(tmp_path_factory.mktemp("est"), workers=3, settings=SETTINGS, fronted=True, digest=True) as running:
        yield running


@pytest.mark.parametrize("way", ["--basic", "--digest", "--anyauth"])
def test_curl_logs_in(fronted: Site, tmp_path: Path, way: str) -> None:
    ca = fronted.ca
    csr = new_csr(new_key(tmp_path / "curl.key"), "curl.test")
    who = (way, "-u", f"{USER}:{PASSWORD}")
    (leaf,) = print_certs(curl(ca, *who, *sending(csr), f"{ca.url}{EST}/ecdsa/simpleenroll"))
    verify(ca, tmp_path, leaf)


def test_strongswan_from_nothing_to_renewal(fronted: Site, tmp_path: Path) -> None:
    """estca; est by password, which waits for a person; est by the certificate it got, which waits again."""
    ca = fronted.ca
    anchors = strongswan_anchors(ca, tmp_path)
    run("pki", "--estca", "--url", ca.url, *anchors, "--caout", tmp_path / "ca.crt", "--force")
    key, csr = tmp_path / "swan.key", tmp_path / "swan.csr"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256").stdout)
    csr.write_bytes(run("pki", "--req", "--type", "ecdsa", "--in", key, "--dn", "CN=swan.test").stdout)
    asking = ("pki", "--est", "--url", ca.url, *anchors, "--interval", "2")
    first = approved(fronted, begin(*asking, "--userpass", f"{USER}:{PASSWORD}", stdin=csr), "swan.test")
    certificate = x509.load_der_x509_certificate(first)
    verify(ca, tmp_path, certificate)
    held = tmp_path / "swan.crt"
    held.write_bytes(certificate.public_bytes(Encoding.DER))
    second = approved(fronted, begin(*asking, "--cert", held, "--key", key, stdin=csr), "swan.test")
    renewed = x509.load_der_x509_certificate(second)
    assert renewed.subject == certificate.subject and renewed.serial_number != certificate.serial_number


def approved(site: Site, client: subprocess.Popen[bytes], name: str) -> bytes:
    """What the client has in the end, when somebody approves its request."""
    est(site.ca, "approve", waiting(site.ca, name))
    out, said = client.communicate(timeout=60)
    assert client.returncode == 0, said.decode()
    return out


def test_our_client_from_nothing_to_renewal(fronted: Site, tmp_path: Path) -> None:
    ca = fronted.ca
    first, second, key = tmp_path / "first.pem", tmp_path / "second.pem", tmp_path / "ours.key"
    wish = ("--new-key", key, "--subject", "CN=ours.test", "--san", "dns:ours.test", "--out", first, "--wait", "60")
    approved(fronted, begin("opencert", "est-enroll", *server(ca), *by_password(tmp_path), *wish), "ours.test")
    mine = ("--cert", first, "--key", key, "--out", second, "--wait", "60")
    approved(fronted, begin("opencert", "est-reenroll", *server(ca), *mine), "ours.test")
    assert loaded(second).subject == loaded(first).subject
    assert loaded(second).serial_number != loaded(first).serial_number
