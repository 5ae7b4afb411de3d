"""CAs that people bring: made by easy-rsa and by `openssl ca` themselves, with a past of every kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.clients import openssl, run

PASSPHRASE = "correct horse"


@dataclass
class OldCa:
    """`certificates`: files by a word for each; `revoked`: the words of those that are, with the reason's name."""

    directory: Path
    certificate: Path
    certificates: dict[str, Path] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)


def easy_rsa(place: Path) -> OldCa:
    """A CA of easy-rsa 3, its key encrypted, with clients, servers and revoked ones."""
    pki = place / "pki"
    environment = {
        "EASYRSA_BATCH": "1",
        "EASYRSA_PKI": str(pki),
        "EASYRSA_PASSIN": f"pass:{PASSPHRASE}",
        "EASYRSA_PASSOUT": f"pass:{PASSPHRASE}",
    }

    def easyrsa(*words: str, **more: str) -> None:
        run("easyrsa", *words, env={**environment, **more}, cwd=place)

    easyrsa("init-pki")
    easyrsa("build-ca", EASYRSA_REQ_CN="Old office CA")
    old = OldCa(pki, pki / "ca.crt")
    for word in ("server", "client", "stolen", "replaced", "held"):
        kind = "build-server-full" if word == "server" else "build-client-full"
        easyrsa(kind, f"{word}.example", "nopass")
        kept = place / f"{word}.crt"
        kept.write_bytes((pki / "issued" / f"{word}.example.crt").read_bytes())
        (place / f"{word}.key").write_bytes((pki / "private" / f"{word}.example.key").read_bytes())
        old.certificates[word] = kept
    old.revoked = {"stolen": "keyCompromise", "replaced": "superseded", "held": "certificateHold"}
    for word, reason in old.revoked.items():
        easyrsa("revoke", f"{word}.example", reason)
    easyrsa("gen-crl")
    return old


_CONFIG = """
[ca]
default_ca = here
[here]
dir = {directory}
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 900
default_crl_days = 30
unique_subject = yes
policy = any
x509_extensions = leaf
[any]
organizationName = optional
commonName = supplied
[leaf]
subjectAltName = DNS:ignored.example
"""

_REVOCATIONS = {
    "compromised": ("-crl_compromise", "20240102030405Z"),
    "ca-compromised": ("-crl_CA_compromise", "20240102030405Z"),
    "on-hold": ("-crl_hold", "holdInstructionReject"),
    "for-no-reason": (),
    "moved": ("-crl_reason", "affiliationChanged"),
}


def openssl_ca(place: Path, crl_number: str = "1F") -> OldCa:
    """A CA of `openssl ca`: serials from 01 on, one certificate expired and one expired and revoked."""
    directory = place / "demoCA"
    for made in (directory, directory / "newcerts", directory / "private"):
        made.mkdir()
    config = place / "ca.cnf"
    config.write_text(_CONFIG.format(directory=directory))
    (directory / "index.txt").write_text("")
    (directory / "serial").write_text("01\n")
    (directory / "crlnumber").write_text(f"{crl_number}\n")
    certificate, key = directory / "cacert.pem", directory / "private" / "cakey.pem"
    _new_root(certificate, key)
    old = OldCa(directory, certificate)
    for word in ("good", *_REVOCATIONS, "expired", "expired-and-revoked"):
        old.certificates[word] = _issue(place, config, word)
    reasons = {"expired-and-revoked": ("-crl_reason", "cessationOfOperation"), **_REVOCATIONS}
    for word, options in reasons.items():
        openssl("ca", "-config", config, "-revoke", old.certificates[word], *options)
    openssl("ca", "-config", config, "-updatedb")
    openssl("ca", "-config", config, "-gencrl", "-out", directory / "crl.pem")
    old.revoked = {word: (options[1] if options[:1] == ("-crl_reason",) else "") for word, options in reasons.items()}
    return old


def _new_root(certificate: Path, key: Path) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-keyout", key)
    about = ("-subj", "/O=Example/CN=Old root", "-days", "3650", "-set_serial", "0x1234567890")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *curve, *about, *usage, "-out", certificate)


def _issue(place: Path, config: Path, word: str) -> Path:
    key, csr, certificate = place / f"{word}.key", place / f"{word}.csr", place / f"{word}.crt"
    subject = f"/O=Bücher, Söhne/CN={word}.example"
    openssl("req", "-new", "-utf8", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", subject, "-out", csr)
    dates = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z") if word.startswith("expired") else ()
    openssl("ca", "-batch", "-utf8", "-config", config, "-in", csr, "-out", certificate, "-notext", *dates)
    return certificate
