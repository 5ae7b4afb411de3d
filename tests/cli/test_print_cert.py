"""print-cert shows what is in a certificate, whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from opencertd.asn1.cms import encode_certs_only
from opencertd.cli import certificate as module
from opencertd.cli.describe import describe, title
from tests.cli.shell import opencert, openssl
from tests.client import pki

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def rich_certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP384R1())
    uri = x509.UniformResourceIdentifier
    access = [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri("http://ca.example/ca/ocsp")),
        x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri("http://ca.example/ca/certificate")),
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(pki.name("www.example.com"))
        .issuer_name(pki.name("Some CA"))
        .public_key(key.public_key())
        .serial_number(0xABCDEF)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("www.example.com"), pki.alt_name("::1"), x509.RFC822Name("a@example.com")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
        .add_extension(x509.AuthorityInformationAccess(access), critical=False)
        .add_extension(
            x509.CRLDistributionPoints([x509.DistributionPoint([uri("http://ca.example/ca/crl")], None, None, None)]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier(b"\x01\x02"), critical=False)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True)
        .sign(key, hashes.SHA256())
    )


def test_every_part_has_its_row() -> None:
    rows = {row.label: row.values for row in describe(rich_certificate(), NOW)}
    del rows["SHA-256"]
    assert rows == {
        "Subject": ("CN=www.example.com",),
        "Issuer": ("CN=Some CA",),
        "Serial": ("abcdef",),
        "Valid from": ("2026-04-30 12:00:00 UTC",),
        "Valid until": ("2026-05-31 12:00:00 UTC (30 days left)",),
        "Key": ("EC P-384",),
        "Signature": ("ecdsa-with-SHA256",),
        "Names": ("dns:www.example.com", "ip:::1", "email:a@example.com"),
        "CA": ("no",),
        "Purpose": ("TLS server",),
        "Key usage": ("digital signature, key encipherment",),
        "OCSP": ("uri:http://ca.example/ca/ocsp",),
        "CA certificate": ("uri:http://ca.example/ca/certificate",),
        "CRL": ("uri:http://ca.example/ca/crl",),
        "Subject key id": ("01:02",),
        "Extension": ("1.2.3.4, critical",),
    }


def test_a_certificate_without_subject_is_called_by_its_first_name() -> None:
    root = pki.authority("Root")
    names = [pki.alt_name("192.0.2.1"), pki.alt_name("a.example")]
    assert title(pki.certify(root, root.key.public_key(), x509.Name([]), names)) == "ip:192.0.2.1"
    assert title(rich_certificate()) == "CN=www.example.com"


def test_time_is_told_from_now() -> None:
    certificate = rich_certificate()

    def until(now: datetime) -> str:
        return next(row.values[0] for row in describe(certificate, now) if row.label == "Valid until")

    assert until(NOW + timedelta(days=32)).endswith("(EXPIRED 2 days ago)")
    assert until(NOW - timedelta(days=2)).endswith("(NOT VALID YET)")
    assert until(NOW + timedelta(days=29, hours=22)).endswith("(2 hours left)")
    assert until(NOW + timedelta(days=29, hours=23, minutes=59, seconds=30)).endswith("(less than a minute left)")


def test_chains_der_and_pkcs7_are_read_and_the_fingerprint_is_openssls(tmp_path: Path) -> None:
    root = pki.authority("Root")
    leaf = pki.leaf(root, "www.example.com")
    (tmp_path / "chain.pem").write_bytes(b"# a comment\n" + leaf.pem + leaf.key_pem + root.pem)
    (tmp_path / "leaf.der").write_bytes(leaf.der)
    (tmp_path / "both.p7b").write_bytes(encode_certs_only([leaf.der, root.der]))
    (tmp_path / "both.p7").write_text(openssl("crl2pkcs7", "-nocrl", "-certfile", tmp_path / "chain.pem"))
    for file, count in (("chain.pem", 2), ("leaf.der", 1), ("both.p7b", 2), ("both.p7", 2)):
        shown = opencert("print-cert", tmp_path / file).stdout
        assert shown.count("\nSubject: ") == count
        fingerprint = openssl("x509", "-noout", "-fingerprint", "-sha256", stdin=leaf.pem).partition("=")[2].strip()
        assert f"SHA-256: {fingerprint}" in shown
    assert "standard input (2 of 2)" in opencert("print-cert", "-", stdin=leaf.pem + root.pem).stdout
    assert "\x1b" not in opencert("print-cert", "--plain", tmp_path / "leaf.der").stdout


def test_a_terminal_gets_a_table(tmp_path: Path, monkeypatch: object, capsys: object) -> None:
    module._print_table("a [red]file", describe(rich_certificate(), NOW))
    said = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "a [red]file" in said
    assert "CN=www.example.com" in said and "─" in said


def test_a_hostile_certificate_cannot_steer_the_terminal_or_break_the_command(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    evil = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "\x1b[2J\nSubject: trusted")])
    built = (
        x509.CertificateBuilder()
        .subject_name(evil)
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x03\x82"), critical=False)
        .sign(key, None)
    )
    rows = {row.label: row.values for row in describe(built, NOW)}
    assert rows["Subject"] == ("CN=?[2J?Subject: trusted",)
    assert rows["Issuer"] == ("(empty)",)
    assert rows["Key"] == ("Ed25519",)
    assert rows["Extensions"][0].startswith("cannot be read: ")


def test_files_without_certificates_are_one_line(tmp_path: Path) -> None:
    leaf = pki.leaf(pki.authority("Root"), "a.example")
    for name, content in (
        ("empty", b""),
        ("key.pem", leaf.key_pem),
        ("cut.pem", leaf.pem[:200]),
        ("cut.der", leaf.der[:200]),
        ("bad64.pem", b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        ("junk.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("zeros", bytes(5000)),
    ):
        (tmp_path / name).write_bytes(content)
        refused = opencert("print-cert", tmp_path / name)
        assert (refused.exit_code, name in refused.stderr) == (1, True), (name, refused.output)
    assert opencert("print-cert", tmp_path / "missing").exit_code == 1
    assert opencert("print-cert", tmp_path).exit_code == 1
    assert opencert("print-cert").exit_code == 2
