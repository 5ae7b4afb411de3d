"""Private keys are read as people keep them, written 0600 from the first byte, and whole or not at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from opencertd.errors import StartError
from opencertd.keys.files import (
    make_private_directory,
    open_shared,
    read_passphrase,
    read_private_key,
    write_private_key,
    write_secret,
)
from tests.ca import rsa_key

KEY = ec.generate_private_key(ec.SECP256R1())
FORMS = {
    "PKCS#8 PEM": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "PKCS#8 DER": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "SEC 1 PEM": KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "SEC 1 DER": KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("passphrase", [None, b"not needed"])
def test_unencrypted_forms(form: str, passphrase: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(FORMS[form])
    assert read_private_key(path, passphrase).private_numbers() == KEY.private_numbers()


def test_openssl_ecparam_output_with_its_parameters_block(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey"], check=True, capture_output=True).stdout
    )
    assert b"EC PARAMETERS" in path.read_bytes()
    assert read_private_key(path, None).key_size == 256


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_forms(form: PrivateFormat, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(rsa_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
    assert read_private_key(path, b"secret").private_numbers() == rsa_key().private_numbers()
    with pytest.raises(StartError, match="wrong passphrase"):
        read_private_key(path, b"guess")
    with pytest.raises(StartError, match="encrypted"):
        read_private_key(path, None)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_said(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(StartError, match="no private key"):
        read_private_key(path, None)


def test_written_keys_are_private_and_openssl_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    old = os.umask(0)
    try:
        write_private_key(path, KEY, b"secret")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]
    subprocess.run(["openssl", "pkey", "-in", path, "-passin", "pass:secret", "-noout"], check=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_secret(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_passphrases(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"first line\nsecond\n")
    assert read_passphrase(path) == b"first line"
    assert read_passphrase(None) is None
    for content in (b"", b"\nx"):
        path.write_bytes(content)
        with pytest.raises(StartError, match="is empty"):
            read_passphrase(path)


@pytest.mark.parametrize("passphrase", [None, b"another"])
def test_a_new_key_is_never_kept_under_another_passphrase_than_those_beside_it(
    passphrase: bytes | None, tmp_path: Path
) -> None:
    write_private_key(tmp_path / "first.pem", KEY, b"secret")
    with pytest.raises(StartError, match="passphrase"):
        write_private_key(tmp_path / "second.pem", KEY, passphrase)
    assert not (tmp_path / "second.pem").exists()
    write_private_key(tmp_path / "second.pem", KEY, b"secret")


def test_keys_that_were_in_clear_may_be_joined_by_encrypted_ones(tmp_path: Path) -> None:
    write_private_key(tmp_path / "first.pem", KEY, None)
    write_private_key(tmp_path / "second.pem", KEY, b"secret")


def _write(path: Path) -> None:
    write_secret(path, b"x")


def _key(path: Path) -> None:
    write_private_key(path, KEY, None)


def _lock(path: Path) -> None:
    os.close(open_shared(path))


@pytest.mark.parametrize("make", [_write, _key, _lock, make_private_directory])
def test_what_root_makes_belongs_to_the_owner_of_the_directory(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int, int]] = []

    def fchown(descriptor: int, user: int, group: int) -> None:
        given.append((os.fstat(descriptor).st_ino, user, group))

    real = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        found = list(real(path, **how))
        return os.stat_result([*found[:4], 12345, 54321, *found[6:]] if path == tmp_path else found)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.fchown", fchown)
    monkeypatch.setattr(Path, "stat", stat)
    make(tmp_path / "new")
    assert given == [(os.stat(tmp_path / "new").st_ino, 12345, 54321)]  # noqa: PTH116  (Path.stat is replaced)


def test_a_lock_is_never_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        open_shared(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()
