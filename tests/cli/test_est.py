"""est-enroll, est-reenroll and est-server-certificates against a fake server with real TLS, as processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from opencertd.asn1.csr_attributes import RSA, CsrAttributes, WantedExtension, WantedKey
from opencertd.cli.est_wishes import lines
from tests.cli.shell import mode, opencert, opencert_process, openssl
from tests.client import pki
from tests.client.fake_est import PASSWORD, USER, WISHES, FakeEst, listening

ROOT = pki.authority("TLS Root")
SERVER = pki.leaf(ROOT, "localhost", "127.0.0.1")
PICTURE = ("--san", "www.example.com", "--subject", "CN=www.example.com,O=Example")


class Here:
    """A directory, a listening fake, and the options that name them."""

    def __init__(self, directory: Path, fake: FakeEst, port: int) -> None:
        self.directory = directory
        self.fake = fake
        self.port = port
        (directory / "anchors.pem").write_bytes(ROOT.pem)
        (directory / "password").write_text(f"{PASSWORD}\n")

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def server(self, label: str = "", host: str = "localhost") -> list[str | Path]:
        url = f"https://{host}:{self.port}" + (f"/.well-known/est/{label}" if label else "")
        return ["--server", url, "--trust-anchors", self / "anchors.pem"]

    @property
    def user(self) -> list[str | Path]:
        return ["--user", USER, "--password-file", self / "password"]

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()} - {"anchors.pem", "password"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    fake = FakeEst()
    with listening(fake, SERVER) as port:
        yield Here(tmp_path, fake, port)


@pytest.fixture
def mutual(tmp_path: Path) -> Iterator[Here]:
    """The same, demanding a client certificate that the fake's CA issued."""
    fake = FakeEst()
    with listening(fake, SERVER, clients=(fake.root, fake.issuing)) as port:
        yield Here(tmp_path, fake, port)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest_twisted.ensureDeferred
async def test_enrols_with_a_password_and_a_new_key(here: Here) -> None:
    words = ["est-enroll", *here.server(), *here.user, *PICTURE, "--new-key", here / "k", "--out", here / "c"]
    status, out, err = await opencert_process(*words)
    assert (status, out) == (0, ""), err
    assert err.startswith("certificate for CN=www.example.com,O=Example written to ")
    assert mode(here / "k") == 0o600
    assert openssl("pkey", "-in", here / "k", "-pubout") == openssl("x509", "-in", here / "c", "-noout", "-pubkey")
    assert (here / "c").read_bytes().count(b"BEGIN CERTIFICATE") == 1
    before = (here / "k").read_bytes()
    status, _, err = await opencert_process(*words)
    assert (status, "exists already" in err) == (1, True)
    assert (here / "k").read_bytes() == before


@pytest_twisted.ensureDeferred
async def test_enrols_for_a_request_and_writes_what_a_tls_server_needs(here: Here) -> None:
    opencert("generate-keys", "--type", "rsa", "--out", here / "k")
    opencert("create-csr", "--key", here / "k", "--san", "www.example.com", "--out", here / "r")
    words = ("--csr", here / "r", "--out", here / "c", "--with-chain")
    status, _, err = await opencert_process("est-enroll", *here.server("rsa"), *here.user, *words)
    assert status == 0, err
    leaf, issuing = x509.load_pem_x509_certificates((here / "c").read_bytes())
    assert issuing == here.fake.issuing.certificate
    leaf.verify_directly_issued_by(issuing)
    assert here.fake.seen[-1][1] == "/.well-known/est/rsa/simpleenroll"


@pytest_twisted.ensureDeferred
async def test_renews_in_place_by_mutual_tls(mutual: Here) -> None:
    old = pki.leaf(mutual.fake.issuing, "www.example.com", "192.0.2.7")
    (mutual / "c").write_bytes(old.pem)
    (mutual / "k").write_bytes(old.key_pem)
    own = ("--cert", mutual / "c", "--key", mutual / "k")
    status, _, err = await opencert_process("est-reenroll", *mutual.server(), *own, "--out", mutual / "c", "--force")
    assert status == 0, err
    new = certificate(mutual / "c")
    assert new.serial_number != old.certificate.serial_number
    assert (new.subject, new.public_key()) == (old.certificate.subject, old.key.public_key())
    assert names(new) == names(old.certificate)
    assert err.startswith("certificate for CN=www.example.com written to ")
    assert mutual.fake.seen[-1][1].endswith("/simplereenroll")
    assert mutual.names() == {"c", "k"}


@pytest_twisted.ensureDeferred
async def test_renews_with_a_new_key_of_the_same_kind(mutual: Here) -> None:
    key = rsa.generate_private_key(65537, 2048)
    issued = pki.certify(mutual.fake.issuing, key.public_key(), pki.name("a.example"), [pki.alt_name("a.example")])
    both = pki.Pair(issued, key)  # type: ignore[arg-type]
    (mutual / "both").write_bytes(both.pem + both.key_pem)
    words = ("--cert", mutual / "both", "--rekey", mutual / "k2", "--out", mutual / "c2")
    status, _, err = await opencert_process("est-reenroll", *mutual.server(), *words)
    assert status == 0, err
    assert mode(mutual / "k2") == 0o600
    assert certificate(mutual / "c2").public_key() != key.public_key()
    assert "2048 bit" in openssl("pkey", "-in", mutual / "k2", "-noout", "-text")


def names(of: x509.Certificate) -> list[Any]:
    return list(of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


@pytest_twisted.ensureDeferred
async def test_the_ca_certificates_can_be_piped(here: Here) -> None:
    status, out, _ = await opencert_process("est-server-certificates", *here.server(), "--out", "-")
    assert status == 0
    found = x509.load_pem_x509_certificates(out.encode())
    assert set(found) == {here.fake.root.certificate, here.fake.issuing.certificate}


@pytest_twisted.ensureDeferred
async def test_waits_for_a_ca_that_decides_later(here: Here) -> None:
    here.fake.pending = 2
    words = (*here.user, *PICTURE, "--new-key", here / "k", "--out", here / "c")
    status, _, err = await opencert_process("est-enroll", *here.server(), *words)
    assert status == 0
    assert err.count("the CA decides later; asking again in 1 seconds\n") == 2


@pytest_twisted.ensureDeferred
async def test_a_key_whose_request_is_pending_is_kept_for_the_next_try(here: Here) -> None:
    here.fake.pending, here.fake.retry_after = 1, "3600"
    ask = ("est-enroll", *here.server(), *here.user, *PICTURE, "--out", here / "c")
    status, _, err = await opencert_process(*ask, "--new-key", here / "k")
    assert status == 1
    assert f"ask again in 3600 seconds; the new key is kept in {here / 'k'}" in err
    assert here.names() == {"k"}
    status, _, err = await opencert_process(*ask, "--use-key", here / "k")
    assert status == 0, err


@pytest_twisted.ensureDeferred
async def test_so_is_the_new_key_of_a_renewal(mutual: Here) -> None:
    old = pki.leaf(mutual.fake.issuing, "www.example.com")
    (mutual / "both").write_bytes(old.pem + old.key_pem)
    own = ("--cert", mutual / "both")
    mutual.fake.pending, mutual.fake.retry_after = 1, "3600"
    ask = ("est-reenroll", *mutual.server(), *own, "--out", mutual / "c2")
    status, _, err = await opencert_process(*ask, "--rekey", mutual / "k2")
    assert status == 1 and f"so ask with --use-key {mutual / 'k2'}" in err
    status, _, err = await opencert_process(*ask, "--use-key", mutual / "k2")
    assert status == 0, err
    status, _, err = await opencert_process(*ask, "--use-key", mutual / "k2", "--rekey", mutual / "k3")
    assert status == 2 and "one or the other" in err


Words = Callable[[Here], list[str | Path]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (lambda h: [*h.server()], "the server wants a password or another client certificate"),
        (lambda h: [*h.server("forbidden"), *h.user], "the server refused (HTTP 403): Not allowed"),
        (lambda h: [*h.server("html"), *h.user], "holds no certificates that can be read"),
        (lambda h: [*h.server("huge"), *h.user], "its answer is larger than"),
        (lambda h: [*h.server("slow"), *h.user, "--timeout", "1"], "it did not answer within 1 seconds"),
        (lambda h: [*h.server(), "--user", USER, "--password-file", h / "anchors.pem"], "does not accept this user"),
        (lambda h: [*h.server(), "--user", USER, "--password-file", h / "none"], "none: No such file"),
        (lambda h: ["--server", f"https://localhost:{h.port}"], "is not trusted: "),
        (lambda h: [*h.server()[:3], h / "password"], "password holds no certificate"),
        (lambda h: ["--server", "http://localhost", *h.server()[2:]], "must begin with https://"),
        (lambda h: ["--server", "https://localhost:1", *h.server()[2:]], "nothing listens there"),
        (lambda h: [*h.server(), "--cert", h / "anchors.pem"], "no private key"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_failure_is_one_line_and_leaves_no_file(here: Here, words: Words, said: str) -> None:
    more = (*PICTURE, "--new-key", here / "k", "--out", here / "c")
    status, out, err = await opencert_process("est-enroll", *words(here), *more)
    assert (status, out) == (1, ""), err
    assert said in err
    assert here.names() == set()


@pytest_twisted.ensureDeferred
async def test_what_can_not_be_written_is_known_before_anything_is_asked(here: Here) -> None:
    ask = ("est-enroll", *here.server(), *here.user, *PICTURE)
    status, _, err = await opencert_process(*ask, "--new-key", here / "k", "--out", here / "no" / "c")
    assert (status, "cannot write" in err) == (1, True)
    assert here.fake.seen == []
    assert here.names() == set()


def test_a_key_that_belongs_to_another_certificate_is_refused(tmp_path: Path) -> None:
    one, other = pki.leaf(ROOT, "a.example"), pki.leaf(ROOT, "b.example")
    (tmp_path / "c").write_bytes(one.pem)
    (tmp_path / "k").write_bytes(other.key_pem)
    words = ("--cert", tmp_path / "c", "--key", tmp_path / "k", "--out", tmp_path / "n")
    refused = opencert("est-reenroll", "--server", "https://localhost:1", *words)
    assert (refused.exit_code, "does not belong to the first certificate" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--san", "a.example"),
        ("--csr", "r", "--new-key", "k"),
        ("--csr", "r", "--san", "a.example"),
        ("--use-key", "k", "--type", "rsa"),
        ("--new-key", "same", "--san", "a.example", "--out", "same"),
        ("--new-key", "k"),
        ("--new-key", "k", "--san", "a.example", "--key", "k"),
        ("--new-key", "k", "--san", "a.example", "--password-file", "p"),
        ("--new-key", "k", "--san", "a.example", "--user", "alice"),
    ],
)
def test_contradictions_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in words else ("--out", "c")
    assert opencert("est-enroll", "--server", "https://localhost:1", *words, *out).exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_csrattrs_are_said_in_words_and_written_as_they_came(here: Here) -> None:
    status, out, err = await opencert_process("est-csrattrs", *here.server("wishes"))
    assert (status, err) == (0, "")
    assert out == (
        "key: EC P-384\n"
        "challenge password: from the TLS session (RFC 7030 section 3.5)\n"
        "attribute: 1.2.840.10045.4.3.3\n"
    )
    status, out, err = await opencert_process("est-csrattrs", *here.server("wishes"), "--out", here / "w")
    assert (status, out, err) == (0, "", "")
    assert (here / "w").read_bytes() == bytes.fromhex(WISHES)
    status, out, err = await opencert_process("est-csrattrs", *here.server("nothing"))
    assert (status, out, err) == (0, "", "the CA wants nothing in particular in a request\n")


def test_every_wish_is_one_line() -> None:
    wanted = CsrAttributes(
        key=WantedKey(RSA, bits=3072),
        extensions=(
            WantedExtension("2.5.29.37", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]).public_bytes()),
            WantedExtension("2.5.29.17"),
            WantedExtension("1.2.3", bytes(1000)),
            WantedExtension("2.5.29.37", b"rubbish"),
        ),
    )
    assert lines(wanted) == (
        "key: RSA 3072",
        "purposes: TLS server",
        "subject alternative name: yours to fill in",
        f"extension 1.2.3: {'00' * 40}… (1000 octets)",
        "purposes: 72756262697368",
    )


@pytest_twisted.ensureDeferred
async def test_a_key_from_the_server_goes_into_its_own_file(here: Here) -> None:
    words = ["est-serverkeygen", *here.server("keygen"), *PICTURE, "--key-out", here / "k", "--out", here / "c"]
    status, out, err = await opencert_process(*words, "--with-chain")
    assert (status, out) == (0, ""), err
    assert err.startswith("EC P-256 key for CN=www.example.com,O=Example written to ")
    assert mode(here / "k") == 0o600
    assert openssl("pkey", "-in", here / "k", "-pubout") == openssl("x509", "-in", here / "c", "-noout", "-pubkey")
    assert (here / "c").read_bytes().count(b"BEGIN CERTIFICATE") == 2
    before = (here / "k").read_bytes()
    status, _, err = await opencert_process(*words)
    assert (status, "exists already" in err, (here / "k").read_bytes()) == (1, True, before)
    assert [path.rpartition("/")[2] for _, path, _ in here.fake.seen] == ["cacerts", "csrattrs", "serverkeygen"]


@pytest_twisted.ensureDeferred
async def test_no_file_is_left_when_the_server_makes_no_key(here: Here) -> None:
    words = ["est-serverkeygen", *here.server("otherpair"), *PICTURE, "--key-out", here / "k", "--out", here / "c"]
    status, _, err = await opencert_process(*words)
    assert status == 1 and "do not belong together" in err
    assert here.names() == set()
