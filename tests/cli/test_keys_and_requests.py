"""generate-keys and create-csr make what openssl accepts, keep keys private and never overwrite by accident."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from opencertd.cli.files import OutputFile
from opencertd.errors import StartError
from tests.cli.shell import mode, opencert, openssl


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Private-Key: (256 bit"),
        (("--curve", "p-384"), "Private-Key: (384 bit"),
        (("--type", "ec", "--curve", "P-521"), "Private-Key: (521 bit"),
        (("--type", "RSA", "--size", "2048"), "Private-Key: (2048 bit"),
        (("--size", "2048"), "Private-Key: (2048 bit"),
        (("--type", "rsa"), "Private-Key: (3072 bit"),
        (("--type", "ed25519"), "ED25519 Private-Key"),
        (("--type", "ED448"), "ED448 Private-Key"),
    ],
)
def test_openssl_reads_the_keys(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "p.pem"
    assert opencert("generate-keys", *options, "--out", key, "--public-out", public).exit_code == 0
    said = openssl("pkey", "-in", key, "-check", "-noout", "-text")
    assert "Key is valid" in said and words in said
    assert openssl("pkey", "-in", key, "-pubout") == public.read_text()


@pytest.mark.parametrize("level", [44, 65, 87])
def test_ml_dsa_keys_and_requests(tmp_path: Path, level: int) -> None:
    """Judged by the OpenSSL 4 inside `cryptography`: Debian 12's does not know ML-DSA."""
    key, public, request = tmp_path / "k.pem", tmp_path / "p.pem", tmp_path / "r.pem"
    made = opencert("generate-keys", "--type", f"ml-dsa-{level}", "--out", key, "--public-out", public)
    assert f"ML-DSA-{level} key written" in made.stderr
    assert opencert("create-csr", "--key", key, "--san", "a.example", "--out", request).exit_code == 0
    csr = x509.load_pem_x509_csr(request.read_bytes())
    assert csr.is_signature_valid
    assert csr.public_key() == load_pem_private_key(key.read_bytes(), None).public_key()
    assert csr.public_key() == load_pem_public_key(public.read_bytes())


def test_a_key_is_private_from_its_first_byte_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int]] = []
    really_open = os.open

    def watching(path: str | Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_CREAT:
            opened.append((str(path), mode))
            assert flags & os.O_EXCL
        return really_open(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", watching)
    before = os.umask(0)
    try:
        opencert("generate-keys", "--out", tmp_path / "k.pem")
    finally:
        os.umask(before)
    assert [mode for path, mode in opened if path.startswith(str(tmp_path))] == [0o600]
    assert mode(tmp_path / "k.pem") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["k.pem"]


def test_a_passphrase_encrypts_and_is_needed_again(tmp_path: Path) -> None:
    key, secret, wrong = tmp_path / "k.pem", tmp_path / "secret", tmp_path / "wrong"
    secret.write_text("grün ist die Heide\nsecond line\n")
    wrong.write_text("rot\n")
    opencert("generate-keys", "--out", key, "--passphrase-file", secret)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()
    openssl("pkey", "-in", key, "-passin", f"file:{secret}", "-check", "-noout")
    ask = ("create-csr", "--key", key, "--san", "a.example", "--out", "-")
    assert opencert(*ask, "--passphrase-file", secret).exit_code == 0
    for extra, words in (
        ((), "is encrypted"),
        (("--passphrase-file", wrong), "wrong passphrase"),
        (("--passphrase-file", tmp_path / "none"), "cannot read"),
    ):
        refused = opencert(*ask, *extra)
        assert (refused.exit_code, words in refused.stderr) == (1, True)


def test_existing_files_stay_without_force(tmp_path: Path) -> None:
    key, request = tmp_path / "k.pem", tmp_path / "r.pem"
    opencert("generate-keys", "--out", key)
    first = key.read_bytes()
    refused = opencert("generate-keys", "--out", key)
    assert (refused.exit_code, key.read_bytes()) == (1, first)
    assert "exists already: use --force" in refused.stderr
    assert opencert("generate-keys", "--out", key, "--force").exit_code == 0
    assert key.read_bytes() != first
    assert mode(key) == 0o600
    request.write_text("mine")
    assert opencert("create-csr", "--key", key, "--san", "a.example", "--out", request).exit_code == 1
    assert request.read_text() == "mine"


def test_a_private_key_is_never_replaced_by_something_else(tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    opencert("generate-keys", "--out", key)
    first = key.read_bytes()
    refused = opencert("create-csr", "--key", key, "--san", "a.example", "--out", key, "--force")
    assert "holds a private key" in refused.stderr
    assert key.read_bytes() == first
    assert opencert("generate-keys", "--out", tmp_path / "n", "--public-out", tmp_path / "n").exit_code == 2


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "k.pem"
    with pytest.raises(StartError, match="exists"), OutputFile(str(target), private=True) as file:
        target.write_text("somebody else's")
        file.commit(b"ours")
    assert target.read_text() == "somebody else's"
    assert [path.name for path in tmp_path.iterdir()] == ["k.pem"]


def test_nothing_is_left_when_the_work_between_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), OutputFile(str(tmp_path / "k.pem"), private=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_force_follows_a_link_and_replaces_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "real.pem").write_text("old")
    (tmp_path / "link.pem").symlink_to("real.pem")
    with OutputFile(str(tmp_path / "link.pem"), force=True) as file:
        file.commit(b"new")
    assert (tmp_path / "link.pem").is_symlink()
    assert (tmp_path / "real.pem").read_text() == "new"


@pytest.mark.parametrize("out", ["", ".", "no/such/directory/k.pem", "/dev/full"])
def test_places_where_nothing_can_be_written(tmp_path: Path, out: str) -> None:
    refused = opencert("generate-keys", "--out", tmp_path / out if not out.startswith("/") else out, "--force")
    assert refused.exit_code == 1


def test_openssl_verifies_the_request_and_reads_its_names(tmp_path: Path) -> None:
    for kind in ("ec", "rsa", "ed25519", "ed448"):
        key, request = tmp_path / f"{kind}.key", tmp_path / f"{kind}.csr"
        opencert("generate-keys", "--type", kind, "--out", key)
        names = ("dns:WWW.example.com", "DNS:*.example.com", "ip:192.0.2.1", "::1", "email:a@example.com", "urn://x/y")
        sans = [word for name in names for word in ("--san", name)]
        subject = "CN=Ärger\\, mit Komma,O=Example"
        assert opencert("create-csr", "--key", key, "--subject", subject, *sans, "--out", request).exit_code == 0
        said = openssl("req", "-in", request, "-verify", "-noout", "-text", "-nameopt", "RFC2253,utf8,-esc_msb")
        assert "verify OK" in said
        assert "Subject: CN=Ärger\\, mit Komma,O=Example" in said
        assert (
            "DNS:www.example.com, DNS:*.example.com, IP Address:192.0.2.1, IP Address:0:0:0:0:0:0:0:1, "
            "email:a@example.com, URI:urn://x/y" in said
        )


def test_names_without_subject_are_critical_and_a_bare_subject_is_a_common_name(tmp_path: Path) -> None:
    key = tmp_path / "k"
    opencert("generate-keys", "--out", key)

    def ask(*options: str) -> x509.CertificateSigningRequest:
        made = opencert("create-csr", "--key", key, *options, "--out", "-")
        return x509.load_pem_x509_csr(made.stdout_bytes)

    nameless = ask("--san", "a.example", "--san", "dns:A.example")
    found = nameless.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (found.critical, len(list(found.value))) == (True, 1)
    assert ask("--subject", "Alice").subject.rfc4514_string() == "CN=Alice"
    assert not ask("--subject", "CN=Alice", "--san", "a.example").extensions[0].critical


def test_keys_come_from_standard_input_and_from_files_with_certificates(tmp_path: Path) -> None:
    made = opencert("generate-keys", "--out", "-")
    assert load_pem_private_key(made.stdout_bytes, None)
    asked = opencert("create-csr", "--key", "-", "--san", "a.example", "--out", "-", stdin=made.stdout_bytes)
    assert "verify OK" in openssl("req", "-verify", "-noout", stdin=asked.stdout_bytes)


@pytest.mark.parametrize(
    "words",
    [
        ("generate-keys",),
        ("generate-keys", "--type", "ec", "--size", "2048", "--out", "-"),
        ("generate-keys", "--type", "rsa", "--curve", "P-256", "--out", "-"),
        ("generate-keys", "--size", "1024", "--out", "-"),
        ("generate-keys", "--type", "dsa", "--out", "-"),
        ("generate-keys", "--type", "ml-dsa-65", "--size", "2048", "--out", "-"),
        ("generate-keys", "--type", "ed25519", "--curve", "P-256", "--out", "-"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_exits_2(words: tuple[str, ...]) -> None:
    assert opencert(*words).exit_code == 2


def test_wrong_names_are_usage_errors_with_the_reason(tmp_path: Path) -> None:
    key = tmp_path / "k"
    opencert("generate-keys", "--out", key)
    for options, words in (
        (("--san", "dns:a_b.example"), "is not a DNS name"),
        (("--san", "ip:300.1.1.1"), "is not an IP address"),
        (("--subject", "CN=a,WHAT=b"), "'WHAT' is not a known attribute"),
        (("--subject", "CN=" + "a" * 65), "CN"),
        ((), "nothing to ask for"),
    ):
        refused = opencert("create-csr", "--key", key, *options, "--out", "-")
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.stderr


def test_every_command_explains_itself() -> None:
    for command in ("generate-keys", "create-csr", "print-cert", "est-enroll", "est-reenroll"):
        said = opencert(command, "--help").stdout
        assert f"opencert {command} " in said.partition("Examples:")[2]
    assert "user" in opencert("--help").stdout
