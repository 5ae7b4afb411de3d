"""Keys made by the daemon: they come over TLS, open with OpenSSL, and are in no file that the daemon has."""

from __future__ import annotations

import base64
import email
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from opencertd.asn1 import der
from opencertd.est.generation import ASYMMETRIC_DECRYPT_KEY, DECRYPT_KEY
from tests.est.test_serverkeygen import asking
from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import EST, PASSWORD, USER
from tests.interop.site import site
from tests.interop.test_opencert import by_password, loaded, server


def secret_of(key: Any) -> bytes:
    """What makes the key private, as octets."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.private_numbers().p.to_bytes(key.key_size // 16, "big")


def is_nowhere(ca: Daemon, key: Any) -> None:
    """Neither the database and its journal, nor any other file, nor the log holds the secret in any usual writing."""
    secret = secret_of(key)
    number = str(int.from_bytes(secret, "big")).encode()
    writings = [secret, secret.hex().encode(), secret.hex().upper().encode(), number]
    writings += [base64.b64encode(secret[start:])[:40] for start in range(3)]  # wherever base64 begins
    files = [path for path in ca.state.rglob("*") if path.is_file()] + [ca.log_file]
    assert any(path.suffix in {".db", ".sqlite", ".sqlite3"} for path in files), files
    for path in files:
        content = path.read_bytes()
        assert not any(writing in content for writing in writings), path


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_command_gets_a_key_that_the_daemon_forgets(ca: Daemon, tmp_path: Path, kind: str) -> None:
    key, certificate = tmp_path / "made.key", tmp_path / "made.pem"
    wish = ("--type", kind, "--subject", "CN=made.test", "--san", "dns:made.test")
    run(
        "opencert",
        "est-serverkeygen",
        *server(ca),
        *by_password(tmp_path),
        *wish,
        "--key-out",
        key,
        "--out",
        certificate,
    )
    assert (
        openssl("pkey", "-in", key, "-pubout").stdout == openssl("x509", "-in", certificate, "-noout", "-pubkey").stdout
    )
    is_nowhere(ca, load_pem_private_key(key.read_bytes(), None))


def only_key(opened: bytes) -> Any:
    """The key in a package that somebody signed."""
    signed = der.sequence(der.oid("1.2.840.113549.1.7.2"), der.explicit(0, opened))
    package = openssl("cms", "-verify", "-noverify", "-binary", "-inform", "DER", stdin=signed).stdout
    (only,) = der.children(package, der.read_only(package, der.SEQUENCE))
    return load_der_private_key(only.raw(package), None)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssl_opens_a_key_for_the_client_certificate(ca: Daemon, tmp_path: Path, kind: str) -> None:
    key, certificate = tmp_path / "own.key", tmp_path / "own.pem"
    run("opencert", "generate-keys", "--type", kind, "--out", key)
    wish = ("--subject", "CN=own.test", "--use-key", key, "--out", certificate)
    run("opencert", "est-enroll", *server(ca), *by_password(tmp_path), *wish)
    identifier = loaded(certificate).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    request = tmp_path / "request"
    request.write_bytes(asking((ASYMMETRIC_DECRYPT_KEY, der.octet_string(identifier)), dn="CN=own.test"))
    answer = run(
        *("curl", "-sS", "--fail-with-body", "-D", tmp_path / "head", "--cacert", ca.trust_anchors),
        *("--cert", certificate, "--key", key, "-H", "Content-Type: application/pkcs10"),
        *("--data-binary", f"@{request}", f"{ca.url}{EST}/serverkeygen"),
    ).stdout
    head = (tmp_path / "head").read_bytes().partition(b"\r\n")[2]
    parts: Any = email.message_from_bytes(head + answer).get_payload()
    (tmp_path / "part").write_bytes(parts[0].get_payload(decode=True))
    words = ("-binary", "-inform", "DER")
    opened = openssl("cms", "-decrypt", *words, "-in", tmp_path / "part", "-recip", certificate, "-inkey", key).stdout
    made = only_key(opened)
    (issued,) = x509.load_pem_x509_certificates(
        openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=parts[1].get_payload(decode=True)).stdout
    )
    assert made.public_key() == issued.public_key()
    is_nowhere(ca, made)


def test_openssl_opens_a_key_for_a_secret_that_both_know(tmp_path: Path) -> None:
    """The daemon has it from a file in its settings, under the name by which the request calls it."""
    secret, name = bytes(range(32)), b"\x0a\x1b"
    known = tmp_path / "decrypt-keys"
    known.touch(0o600)
    known.write_text(f"password:{USER} {name.hex()} {secret.hex()}\n")
    request = tmp_path / "request"
    request.write_bytes(asking((DECRYPT_KEY, der.octet_string(name)), dn="CN=secret.test"))
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site", settings=f'[est]\ndecrypt_keys = "{known}"\n') as running:
        ca = running.ca
        answer = run(
            *("curl", "-sS", "--fail-with-body", "-D", tmp_path / "head", "--cacert", ca.trust_anchors),
            *("-u", f"{USER}:{PASSWORD}", "-H", "Content-Type: application/pkcs10"),
            *("--data-binary", f"@{request}", f"{ca.url}{EST}/serverkeygen"),
        ).stdout
        head = (tmp_path / "head").read_bytes().partition(b"\r\n")[2]
        parts: Any = email.message_from_bytes(head + answer).get_payload()
        (tmp_path / "part").write_bytes(parts[0].get_payload(decode=True))
        words = ("-binary", "-inform", "DER", "-in", tmp_path / "part")
        opened = openssl("cms", "-decrypt", *words, "-secretkey", secret.hex(), "-secretkeyid", name.hex()).stdout
        is_nowhere(ca, only_key(opened))
    is_nowhere(ca, only_key(opened))  # nor is it put down at the end
