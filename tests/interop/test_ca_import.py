"""A CA of easy-rsa or of `openssl ca` moves in: its past is told as before, and it goes on issuing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, Identity, certs_only, enrol, request, request_plain
from tests.interop.old_cas import PASSPHRASE, OldCa, easy_rsa, openssl_ca
from tests.interop.site import site


@dataclass(frozen=True)
class Moved:
    """A CA that moved in, and the daemon that is it now."""

    old: OldCa
    ca: Daemon


def import_into(state: Path, name: str, *paths: Path, passphrase: Path | None = None) -> str:
    """`opencert ca import`; what it said."""
    options = ("--passphrase-file", passphrase) if passphrase else ()
    return run("opencert", "ca", "import", name, *paths, "--state-dir", state, *options).stderr.decode()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """An easy-rsa CA in an empty state directory."""
    place = tmp_path_factory.mktemp("office")
    old = easy_rsa(place)
    secret = place / "secret"
    secret.write_text(PASSPHRASE + "\n")
    assert "5 certificates, 3 of them revoked" in import_into(
        place / "state", "office", old.directory, passphrase=secret
    )
    with site(place, dn="") as running:
        yield Moved(old, running.ca)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """A CA of `openssl ca` whose certificates are partly lost, beside a CA that was here already."""
    place = tmp_path_factory.mktemp("root")
    old = openssl_ca(place, crl_number="20240102030405")
    for number in ("01", "02"):
        (old.directory / "newcerts" / f"{number}.pem").unlink()
    with Daemon(place / "state").running():
        pass  # which makes its own CA first
    said = import_into(place / "state", "old-root", old.directory)
    assert "2 without a file of the certificate itself" in said
    assert "unique_subject" in said
    with site(place) as running:
        yield Moved(old, running.ca)


@pytest.fixture(params=["office", "root"])
def moved(request: pytest.FixtureRequest) -> Moved:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Moved)
    return found


def ocsp(moved: Moved, certificate: Path) -> str:
    """What `openssl ocsp` says, which trusts the old CA certificate alone."""
    issuer = moved.old.certificate
    where = ("-url", f"{moved.ca.http_url}/ca/ocsp", "-CAfile", issuer, "-issuer", issuer)
    said = openssl("ocsp", *where, "-cert", certificate)
    assert b"Response verify OK" in said.stderr
    return said.stdout.decode()


def crl_of(moved: Moved, directory: Path) -> Path:
    name = "office" if "pki" in str(moved.old.directory) else "old-root"
    path = directory / "crl.pem"
    path.write_bytes(request_plain(moved.ca, "GET", f"/ca/{name}/crl?format=pem").body)
    return path


def test_ocsp_tells_the_past_as_it_was(moved: Moved) -> None:
    for word, certificate in moved.old.certificates.items():
        said = ocsp(moved, certificate)
        if word in moved.old.revoked:
            assert ": revoked" in said, word
            assert f"Reason: {moved.old.revoked[word]}" in said or not moved.old.revoked[word]
        else:
            assert ": good" in said, word


def test_the_crl_agrees_with_the_one_the_old_ca_would_publish(moved: Moved, tmp_path: Path) -> None:
    old = x509.load_pem_x509_crl((moved.old.directory / "crl.pem").read_bytes())
    new_file = crl_of(moved, tmp_path)
    new = x509.load_pem_x509_crl(new_file.read_bytes())
    assert b"verify OK" in openssl("crl", "-in", new_file, "-CAfile", moved.old.certificate, "-noout").stderr
    told = {entry.serial_number: (entry.revocation_date_utc, _said(entry)) for entry in old}
    assert {entry.serial_number: (entry.revocation_date_utc, _said(entry)) for entry in new} == told
    try:
        number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    assert new.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number


def _said(entry: x509.RevokedCertificate) -> list[x509.ExtensionType]:
    """Reason and invalidity date; what `openssl ca` adds of hold instructions is out of use."""
    kinds = (x509.CRLReason, x509.InvalidityDate)
    return sorted((e.value for e in entry.extensions if isinstance(e.value, kinds)), key=repr)


def test_old_certificates_verify_with_crl_check_as_before(moved: Moved, tmp_path: Path) -> None:
    crl = crl_of(moved, tmp_path)
    for word, certificate in moved.old.certificates.items():
        check = ("verify", "-crl_check", "-CAfile", moved.old.certificate, "-CRLfile", crl, certificate)
        done = openssl(*check, ok=False)
        if word in moved.old.revoked and not word.startswith("expired"):
            assert b"certificate revoked" in done.stderr, word
        elif word == "expired":
            assert b"certificate has expired" in done.stderr
        elif not word.startswith("expired"):
            assert done.returncode == 0, (word, done.stderr)


def test_the_old_ca_goes_on_issuing(office: Moved, tmp_path: Path) -> None:
    new = enrol(office.ca, tmp_path, "new.example", "rsa")
    assert b": OK" in openssl("verify", "-CAfile", office.old.certificate, new.certificate_file).stdout
    assert new.certificate.serial_number.bit_length() > 128
    assert ": good" in ocsp(office, new.certificate_file)
    anchors = certs_only(request(office.ca, "GET", f"{EST}/cacerts"))
    assert anchors == [x509.load_pem_x509_certificate(office.old.certificate.read_bytes())]
    assert (office.ca.trust_anchors).read_bytes().count(b"BEGIN CERTIFICATE") == 1


def test_a_device_renews_with_its_old_certificate(office: Moved, tmp_path: Path) -> None:
    place = office.old.certificates["client"].parent
    old = Identity(place / "client.crt", place / "client.key")
    renewed = tmp_path / "renewed.pem"
    run(
        *("opencert", "est-reenroll", "--server", office.ca.url, "--trust-anchors", office.ca.trust_anchors),
        *("--cert", old.certificate_file, "--key", old.key_file, "--out", renewed),
    )
    subject = x509.load_pem_x509_certificate(renewed.read_bytes()).subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "client.example"


def test_a_revoked_device_does_not(office: Moved, tmp_path: Path) -> None:
    place = office.old.certificates["stolen"].parent
    done = run(
        *("opencert", "est-reenroll", "--server", office.ca.url, "--trust-anchors", office.ca.trust_anchors),
        *("--cert", place / "stolen.crt", "--key", place / "stolen.key", "--out", tmp_path / "no.pem"),
        ok=False,
    )
    assert done.returncode == 1
    assert not (tmp_path / "no.pem").exists()


def test_the_inventory_shows_what_is_known(root: Moved, tmp_path: Path) -> None:
    identity = enrol(root.ca, tmp_path, "reader.example", "ec")
    page = request(root.ca, "GET", "/ca/inventory", identity=identity).body
    shown = json.loads(page)["certificates"]
    by_serial = {entry["serial"]: entry for entry in shown if entry["issuer"] == "old-root"}
    assert by_serial["01"]["notBefore"] is None
    assert by_serial["01"]["subject"] == "CN=good.example,O=Bücher\\, Söhne"
    assert by_serial["03"]["notBefore"] is not None
    assert by_serial["03"]["subject"] == "CN=ca-compromised.example,O=Bücher\\, Söhne"
    assert by_serial["04"]["status"] == "held"
    assert by_serial["1234567890"]["profile"] == "issuing"


def test_a_ca_beside_others_is_chosen_by_name(root: Moved, tmp_path: Path) -> None:
    first = enrol(root.ca, tmp_path, "usual.example", "ec").certificate
    assert first.issuer != x509.load_pem_x509_certificate(root.old.certificate.read_bytes()).subject
    csr = new_csr(new_key(tmp_path / "named.key"), "named.example").read_bytes()
    headers = {**BASIC, "Content-Type": "application/pkcs10"}
    (named,) = certs_only(request(root.ca, "POST", f"{EST}/old-root/simpleenroll", csr, headers))
    file = tmp_path / "named.pem"
    file.write_bytes(named.public_bytes(Encoding.PEM))
    assert b": OK" in openssl("verify", "-CAfile", root.old.certificate, file).stdout


def test_importing_again_brings_what_is_new(root: Moved) -> None:
    directory, config = root.old.directory, root.old.directory.parent / "ca.cnf"
    assert "nothing was changed" in import_into(root.ca.state, "old-root", directory)
    openssl("ca", "-config", config, "-revoke", root.old.certificates["good"], "-crl_reason", "superseded")
    root.old.revoked["good"] = "superseded"
    assert "0 certificates and 1 revocations were new" in import_into(root.ca.state, "old-root", directory)
    _until(lambda: "Reason: superseded" in ocsp(root, root.old.certificates["good"]))


def test_a_running_daemon_takes_it_up(root: Moved, office: Moved, tmp_path: Path) -> None:
    """Another CA moves in while the daemon serves: its past is told, and it issues, without a restart."""
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE + "\n")
    import_into(root.ca.state, "second", office.old.directory, passphrase=secret)
    both = Moved(office.old, root.ca)
    _until(lambda: request_plain(root.ca, "GET", "/ca/second/crl").status == 200)
    assert "Reason: keyCompromise" in ocsp(both, office.old.certificates["stolen"])
    assert ": good" in ocsp(both, office.old.certificates["server"])
    csr = new_csr(new_key(tmp_path / "second.key"), "second.example").read_bytes()
    headers = {**BASIC, "Content-Type": "application/pkcs10"}
    (issued,) = certs_only(request(root.ca, "POST", f"{EST}/second/simpleenroll", csr, headers))
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(office.old.certificate.read_bytes()))
    place = office.old.certificates["client"].parent
    old = Identity(place / "client.crt", place / "client.key")
    assert request(root.ca, "GET", "/ca/inventory", identity=old).status == 200, "TLS trusts the new issuer's clients"


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not there():
        assert time.monotonic() < end, "the daemon does not take it up"
        time.sleep(0.2)
