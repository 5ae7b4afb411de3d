"""Issuers come, lose their keys, get them back and go while three workers serve: nothing restarts, openssl agrees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, Answer, certs_only, request, request_plain
from tests.interop.site import site

ASKED = 9  # often enough that each of the three workers is asked
PATIENCE = 30.0


@dataclass(frozen=True)
class Place:
    """A daemon, and commands on its state directory while it runs."""

    ca: Daemon
    directory: Path

    def do(self, *words: str | Path) -> str:
        done = run("opencert", "ca", *words, "--state-dir", self.ca.state)
        return (done.stdout + done.stderr).decode()

    def enrol(self, label: str, *names: str) -> Answer:
        key = new_key(self.directory / "device.key", "ec")
        csr = new_csr(key, names[0], *names).read_bytes()
        headers = {"Content-Type": "application/pkcs10", **BASIC}
        return request(self.ca, "POST", f"{EST}/{label}/simpleenroll", csr, headers=headers)

    def ocsp(self, issuer: Path, certificate: Path) -> str:
        asked = ("-url", f"{self.ca.http_url}/ca/ocsp", "-issuer", issuer, "-cert", certificate, "-no_nonce")
        said = openssl("ocsp", *asked, "-CAfile", self.ca.trust_anchors, "-verify_other", issuer)
        assert b"Response verify OK" in said.stderr
        return said.stdout.decode().splitlines()[0].partition(": ")[2]

    def export(self, name: str) -> Path:
        path = self.directory / f"{name}.pem"
        self.do("export", name, "--out", path, "--force")
        return path

    def crl(self, name: str) -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(request_plain(self.ca, "GET", f"/ca/{name}/crl").body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("hierarchy")
    with site(directory, workers=3) as running:
        yield Place(running.ca, directory)


def soon(holds: Callable[[], bool]) -> None:
    """It holds within some seconds, and then for whichever worker is asked."""
    end = time.monotonic() + PATIENCE
    while not all(holds() for _ in range(ASKED)):
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.2)


def test_the_life_of_an_issuer(place: Place) -> None:
    root_name = "ecdsa-root"
    place.do("create", "office", "--parent", root_name, "--dn", "CN=Office,O=X", "--permit", "dns:office.example")
    soon(lambda: place.enrol("office", "a.office.example").status == 200)
    issued = place.directory / "issued.pem"
    (certificate,) = certs_only(place.enrol("office", "b.office.example"))
    issued.write_bytes(certificate.public_bytes(Encoding.PEM))
    office, root = place.export("office"), place.export(root_name)
    openssl("verify", "-x509_strict", "-CAfile", place.ca.trust_anchors, "-untrusted", office, issued)
    assert place.ocsp(office, issued) == "good"
    assert place.ocsp(root, office) == "good"
    outside = place.enrol("office", "elsewhere.example")
    assert outside.status in {400, 403}
    assert b"permitted are only dns:office.example" in outside.body

    secret, key = place.directory / "secret", place.directory / "root.key"
    secret.write_text("correct horse\n")
    place.do("export", root_name, "--key", "--remove-key", "--passphrase-file", secret, "--out", key)
    soon(lambda: place.enrol("office", "c.office.example").status == 200)
    assert place.ocsp(root, office) == "good"
    year = datetime.now(UTC) + timedelta(days=360)
    soon(lambda: (place.crl(root_name).next_update_utc or year) > year)

    place.do("revoke", "office", "--reason", "cessationOfOperation", "--yes")
    soon(lambda: place.enrol("office", "d.office.example").status == 503)
    soon(lambda: place.ocsp(root, office) == "revoked")
    serial = x509.load_pem_x509_certificate(office.read_bytes()).serial_number
    assert place.crl(root_name).get_revoked_certificate_by_serial_number(serial) is None
    place.do("import-key", root_name, key, "--passphrase-file", secret)
    soon(lambda: place.crl(root_name).get_revoked_certificate_by_serial_number(serial) is not None)
    assert "Traceback" not in place.ca.log
    assert place.ca.faults() == []


def test_a_retired_issuer_tells_status_and_signs_nothing(place: Place) -> None:
    place.do("create", "branch", "--parent", "rsa-root", "--dn", "CN=Branch,O=X")
    soon(lambda: place.enrol("branch", "a.example").status == 200)
    (certificate,) = certs_only(place.enrol("branch", "b.example"))
    issued = place.directory / "retired.pem"
    issued.write_bytes(certificate.public_bytes(Encoding.PEM))
    branch = place.export("branch")
    place.do("retire", "branch")
    soon(lambda: place.enrol("branch", "c.example").status == 503)
    assert place.ocsp(branch, issued) == "good"
    assert place.crl("branch").is_signature_valid(
        x509.load_pem_x509_certificate(branch.read_bytes()).public_key()  # type: ignore[arg-type]
    )


def test_a_ceremonys_ca_is_served_without_its_root(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    run(
        *("opencert", "ca", "ceremony", "example", "--root-dn", "CN=R,O=X", "--dn", "CN=I,O=X"),
        *("--passphrase-file", secret, "--root-key-out", tmp_path / "root.key"),
        *("--transcript", tmp_path / "t.txt", "--state-dir", tmp_path / "state"),
    )
    with site(tmp_path, dn="") as running:
        held = Place(running.ca, tmp_path)
        (certificate,) = certs_only(held.enrol("example", "a.example"))
        assert certificate.issuer.rfc4514_string() in {"CN=I,O=X", "O=X,CN=I"}
        assert held.ocsp(held.export("example-root"), held.export("example")) == "good"
        assert (held.crl("example-root").next_update_utc or datetime.now(UTC)) > datetime.now(UTC) + timedelta(days=300)
        assert held.ca.faults() == []
