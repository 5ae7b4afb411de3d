"""curl with openssl, strongSwan's pki and our own command enrol by EST as their manuals show."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import EST, PASSWORD, USER, enrol
from tests.interop.site import Site


def curl(ca: Daemon, *options: str | Path) -> bytes:
    """curl that fails on HTTP errors and trusts this CA only; answers the body."""
    return run("curl", "-sS", "--fail-with-body", "--cacert", ca.trust_anchors, *options).stdout


def sending(csr: Path) -> tuple[str, ...]:
    """curl's options for an enrolment request."""
    return ("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{csr}")


def print_certs(body: bytes) -> list[x509.Certificate]:
    """`openssl base64 -d | openssl pkcs7 -inform DER -print_certs`, read back."""
    der = openssl("base64", "-d", stdin=body).stdout
    pem = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=der).stdout
    return x509.load_pem_x509_certificates(pem)


def verify(ca: Daemon, directory: Path, leaf: x509.Certificate) -> None:
    """`openssl verify` of the leaf with what cacerts gives."""
    chain = directory / "cacerts.pem"
    body = curl(ca, f"{ca.url}{EST}/cacerts")
    chain.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in print_certs(body)))
    path = directory / "leaf.pem"
    path.write_bytes(leaf.public_bytes(Encoding.PEM))
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", chain, path)


def test_cacerts_by_curl_and_openssl(ca: Daemon) -> None:
    certificates = print_certs(curl(ca, f"{ca.url}{EST}/cacerts"))
    anchors = x509.load_pem_x509_certificates(ca.trust_anchors.read_bytes())
    assert set(anchors) <= set(certificates)
    assert len(certificates) == 4, "two roots and two issuing CAs"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("label", ["", "/rsa", "/ecdsa", "/default"])
def test_curl_anyauth(each_site: Site, tmp_path: Path, kind: str, label: str) -> None:
    """Basic on one site; on the other the user has Digest hashes, and `--anyauth` takes Digest then."""
    ca = each_site.ca
    csr = new_csr(new_key(tmp_path / "curl.key", kind), "device-7.test")
    who = ("--anyauth", "-u", f"{USER}:{PASSWORD}")
    (leaf,) = print_certs(curl(ca, *who, *sending(csr), f"{ca.url}{EST}{label}/simpleenroll"))
    assert leaf.subject.rfc4514_string() == "CN=device-7.test"
    verify(ca, tmp_path, leaf)


def test_curl_digest(three_workers: Site, tmp_path: Path) -> None:
    ca = three_workers.ca
    csr = new_csr(new_key(tmp_path / "curl.key"), "digest.test")
    who = ("--digest", "-u", f"{USER}:{PASSWORD}")
    (leaf,) = print_certs(curl(ca, *who, *sending(csr), f"{ca.url}{EST}/simpleenroll"))
    verify(ca, tmp_path, leaf)


@pytest.mark.parametrize("who", [("-u", f"{USER}:wrong"), ("-u", "nobody:estpwd"), ()])
def test_curl_with_a_wrong_password(each_site: Site, tmp_path: Path, who: tuple[str, ...]) -> None:
    ca = each_site.ca
    csr = new_csr(new_key(tmp_path / "curl.key"), "wrong.test")
    options = ("--anyauth", *who) if who else ()
    status = ("-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca.trust_anchors)
    url = f"{ca.url}{EST}/simpleenroll"
    assert run("curl", *status, *options, *sending(csr), url).stdout == b"401"


@pytest.mark.parametrize("form", ["PEM", "DER", "base64", "one line", "chunked"])
def test_forms_of_the_request(ca: Daemon, tmp_path: Path, form: str) -> None:
    """Clients send PEM, raw DER, wrapped and unwrapped base64; all are read."""
    key = new_key(tmp_path / "curl.key")
    csr = new_csr(key, "forms.test", form="PEM" if form == "PEM" else "DER")
    if form in ("base64", "one line", "chunked"):
        single = ("-A",) if form == "one line" else ()
        csr.write_bytes(openssl("base64", *single, "-in", csr).stdout)
    extra = ("-H", "Transfer-Encoding: chunked") if form == "chunked" else ()
    who = ("-u", f"{USER}:{PASSWORD}")
    body = curl(ca, *who, *extra, *sending(csr), f"{ca.url}{EST}/simpleenroll")
    assert len(print_certs(body)) == 1


def test_curl_reenrols_by_mutual_tls(each_site: Site, tmp_path: Path) -> None:
    ca = each_site.ca
    identity = enrol(ca, tmp_path, "renewing.test")
    old = identity.certificate
    files = ("--cert", identity.certificate_file, "--key", identity.key_file)
    csr = new_csr(identity.key_file, "renewing.test")
    (leaf,) = print_certs(curl(ca, *files, *sending(csr), f"{ca.url}{EST}/simplereenroll"))
    assert leaf.subject == old.subject
    assert leaf.serial_number != old.serial_number


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_versions(ca: Daemon, version: str) -> None:
    limits = (f"--tlsv{version}", "--tls-max", version)
    assert curl(ca, *limits, f"{ca.url}{EST}/cacerts")


def test_no_older_tls(ca: Daemon) -> None:
    old = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    connected = openssl("s_client", "-connect", f"localhost:{ca.port}", *old, ok=False)
    assert connected.returncode != 0
    assert b"Cipher is (NONE)" in connected.stdout


def test_strongswan(each_site: Site, tmp_path: Path) -> None:
    """`pki --estca`, then `pki --est` with a password, then again with the certificate it got."""
    ca = each_site.ca
    anchors = strongswan_anchors(ca, tmp_path)
    run("pki", "--estca", "--url", ca.url, *anchors, "--caout", tmp_path / "ca.crt", "--force")
    assert list(tmp_path.glob("ca*.crt"))

    key = tmp_path / "swan.key"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256").stdout)
    request = run("pki", "--req", "--type", "ecdsa", "--in", key, "--dn", "CN=swan.test").stdout
    who = ("--userpass", f"{USER}:{PASSWORD}")
    der = run("pki", "--est", "--url", ca.url, *anchors, *who, stdin=request).stdout
    first = x509.load_der_x509_certificate(der)
    verify(ca, tmp_path, first)

    old = tmp_path / "swan.crt"
    old.write_bytes(der)
    mine = ("--cert", old, "--key", key)
    renewed = run("pki", "--est", "--url", ca.url, *anchors, *mine, stdin=request).stdout
    second = x509.load_der_x509_certificate(renewed)
    assert second.subject == first.subject
    assert second.serial_number != first.serial_number


def strongswan_anchors(ca: Daemon, directory: Path) -> list[str | Path]:
    """`--cacert` options: one file each, since pki reads the first certificate of a file only."""
    options: list[str | Path] = []
    for number, anchor in enumerate(x509.load_pem_x509_certificates(ca.trust_anchors.read_bytes())):
        path = directory / f"anchor-{number}.pem"
        path.write_bytes(anchor.public_bytes(Encoding.PEM))
        options += ["--cacert", path]
    return options
