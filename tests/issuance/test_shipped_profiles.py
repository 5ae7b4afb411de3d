"""Each shipped profile's certificate is fit for its purpose, unfit for others, and clean, in others' judgement."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.coherence import contradiction
from opencertd.keys.signer import PrivateKey
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import IssuingProtocol
from tests.ca import NOW, PUBLICATION, dns, make_ca, make_issuers, request, requester, rsa_key
from tests.issuance.judges import accepted, findings, keep

OPERATOR = requester(roles=frozenset({"operator"}), id="operator")
CA = make_ca()
PROFILES = sorted(name for name, profile in CA.authority.profiles.items() if profile.public)
KEYS = ("ec", "rsa")

USAGES: dict[str, tuple[set[str], list[str]]] = {
    "default": ({"digital_signature"}, ["serverAuth", "clientAuth"]),
    "ecdsa": ({"digital_signature"}, ["serverAuth", "clientAuth"]),
    "rsa": ({"digital_signature"}, ["serverAuth", "clientAuth"]),
    "tls-server": ({"digital_signature"}, ["serverAuth"]),
    "tls-server-client": ({"digital_signature"}, ["serverAuth", "clientAuth"]),
    "short-lived": ({"digital_signature"}, ["serverAuth", "clientAuth"]),
    "tls-client": ({"digital_signature"}, ["clientAuth"]),
    "iot-device": ({"digital_signature"}, ["clientAuth"]),
    "smime": ({"digital_signature"}, ["emailProtection"]),
    "code-signing": ({"digital_signature"}, ["codeSigning"]),
    "document-signing": ({"digital_signature", "content_commitment"}, ["1.3.6.1.5.5.7.3.36"]),
    "time-stamping": ({"digital_signature"}, ["timeStamping"]),
    "ocsp-responder": ({"digital_signature"}, ["OCSPSigning"]),
    "sub-ca": ({"key_cert_sign", "crl_sign"}, []),
    "registration-authority": ({"digital_signature"}, ["clientAuth", "1.3.6.1.5.5.7.3.28"]),
}
ENCIPHER = {"default", "ecdsa", "rsa", "tls-server", "tls-server-client", "short-lived", "smime"}

PURPOSES = {
    "sslserver": {"default", "ecdsa", "rsa", "tls-server", "tls-server-client", "short-lived"},
    "sslclient": {
        *("default", "ecdsa", "rsa", "tls-client", "tls-server-client", "short-lived", "iot-device"),
        "registration-authority",
    },
    "smimesign": {"smime"},
    "timestampsign": {"time-stamping"},
    "crlsign": {"sub-ca"},
}


@functools.cache
def private_key(kind: str) -> PrivateKey:
    return rsa_key() if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def wish(profile: str, kind: str = "ec", **changes: Any) -> Any:
    """A request that fits the profile."""
    rules = CA.authority.profiles[profile]
    names, subject = dns("host.example.com"), "CN=host.example.com"
    if AltNameKind.EMAIL in rules.names_required:
        names, subject = (AltName(AltNameKind.EMAIL, "a@example.com"),), "CN=a@example.com"
    elif not rules.name_kinds:
        names, subject = (), f"CN={profile} of Testers,O=Testers,C=DE"
    fitting = {"key": private_key(kind), "profile": profile, "requester": OPERATOR, "names": names}
    return request(**{**fitting, "subject": parse_dn(subject), **changes})


@functools.cache
def issued(profile: str, kind: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(run_now(CA.authority.issue(wish(profile, kind))).certificate_der)


def test_there_are_those_that_the_manual_names() -> None:
    assert set(PROFILES) == set(USAGES)


@pytest.mark.parametrize("profile", PROFILES)
def test_each_makes_sense(profile: str) -> None:
    records = tuple(issuer.record for issuer in make_issuers().all())
    assert contradiction(CA.authority.profiles[profile], records, PUBLICATION) is None


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("profile", PROFILES)
def test_usages(profile: str, kind: str) -> None:
    certificate = issued(profile, kind)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    bits = {
        bit
        for bit in vars(x509.KeyUsage)
        if not bit.startswith("_") and isinstance(getattr(x509.KeyUsage, bit), property)
    }
    bits -= {"encipher_only", "decipher_only"}
    wanted, purposes = USAGES[profile]
    wanted = wanted | ({"key_encipherment"} if kind == "rsa" and profile in ENCIPHER else set())
    assert {bit for bit in bits if getattr(usage, bit)} == wanted
    found = [e.value for e in certificate.extensions if e.oid == ExtensionOID.EXTENDED_KEY_USAGE]
    named = [oid._name if oid._name != "Unknown OID" else oid.dotted_string for usages in found for oid in usages]
    assert named == purposes
    is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (is_ca.ca, is_ca.path_length) == ((True, 0) if profile == "sub-ca" else (False, None))


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("profile", PROFILES)
def test_openssl_accepts_it_for_its_purposes_and_no_others(profile: str, kind: str, tmp_path: Path) -> None:
    certificate = issued(profile, kind)
    assert accepted(certificate, CA.issuers, "any", tmp_path)
    for purpose, profiles in PURPOSES.items():
        if profile == "sub-ca" and purpose != "crlsign":
            continue  # OpenSSL lets a CA that has no purposes be anything
        fits = profile in profiles
        assert accepted(certificate, CA.issuers, purpose, tmp_path) is fits, (purpose, fits)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("profile", PROFILES)
def test_pkilint_finds_nothing(profile: str, kind: str, tmp_path: Path) -> None:
    assert findings("lint_pkix_cert", issued(profile, kind), tmp_path) == set()


PUBLIC = """
[profiles.web]
like = "tls-server"
certificate_policies = [{ oid = "2.23.140.1.2.1" }]
ocsp = ["http://ca.example.com/ocsp"]
ca_issuer = ["http://ca.example.com/ca.cer"]
crl = ["http://ca.example.com/ca.crl"]
[profiles.mail]
like = "smime"
certificate_policies = [{ oid = "2.23.140.1.5.1.2" }]
ocsp = ["http://ca.example.com/ocsp"]
ca_issuer = ["http://ca.example.com/ca.cer"]
crl = ["http://ca.example.com/ca.crl"]
"""

FORUM = {
    # What the Forum advises and RFC 5280 leaves open; clients in private nets still read common names, need key
    # transport, and look for keys by identifier.
    "web": {
        "cabf.serverauth.dv.common_name_attribute_present",
        "cabf.serverauth.subscriber.subject_key_identifier_extension_present",
        "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
    },
    "mail": set(),
}
FORUM_LINTERS = {
    "web": ("lint_cabf_serverauth_cert", "-t", "DV-FINAL-CERTIFICATE"),
    "mail": ("lint_cabf_smime_cert", "-t", "MAILBOX-MULTIPURPOSE"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("profile", FORUM)
def test_the_forum_s_linters_find_only_what_a_private_ca_does_otherwise(
    profile: str, kind: str, tmp_path: Path
) -> None:
    ca = make_ca(rules=PUBLIC)
    like = {"web": "tls-server", "mail": "smime"}[profile]
    asked = dataclasses.replace(wish(like, kind), profile=profile)
    certificate = x509.load_der_x509_certificate(run_now(ca.authority.issue(asked)).certificate_der)
    linter, *options = FORUM_LINTERS[profile]
    assert findings(linter, certificate, tmp_path, *options) <= FORUM[profile]


def refused(**changes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        run_now(CA.authority.issue(wish(**changes)))
    return caught.value


FOR_OPERATORS = {"sub-ca", "ocsp-responder", "code-signing", "document-signing", "time-stamping"}


@pytest.mark.parametrize("profile", sorted(FOR_OPERATORS | {"registration-authority"}))
def test_what_others_trust_is_for_operators(profile: str) -> None:
    refusal = refused(profile=profile, requester=requester())
    assert refusal.kind is RefusalKind.UNAUTHORIZED and profile in refusal.detail


NOT_OVER = {
    IssuingProtocol.ACME: FOR_OPERATORS | {"registration-authority", "smime"},
    IssuingProtocol.EST: {"sub-ca", "registration-authority"},
    IssuingProtocol.CA_API: {"registration-authority"},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("protocol", IssuingProtocol)
def test_protocols(protocol: IssuingProtocol, profile: str) -> None:
    if profile in NOT_OVER[protocol]:
        assert refused(profile=profile, protocol=protocol).kind is RefusalKind.NOT_FOUND
    else:
        run_now(CA.authority.issue(wish(profile, protocol=protocol)))


@pytest.mark.parametrize("profile", ["tls-server", "tls-server-client", "short-lived", "smime"])
def test_a_name_of_the_kind_must_be_there(profile: str) -> None:
    assert refused(profile=profile, names=()).kind is RefusalKind.BAD_CSR


@pytest.mark.parametrize("profile", ["smime", "tls-server"])
def test_names_of_other_kinds_are_refused(profile: str) -> None:
    names = (AltName(AltNameKind.URI, "urn:x:y"), *wish(profile).names)
    refusal = refused(profile=profile, names=names)
    assert refusal.kind is RefusalKind.REJECTED_NAME and refusal.names[0].kind is RefusalKind.UNSUPPORTED_NAME


def test_the_length_of_a_short_life_may_be_asked() -> None:
    for asked, got in ((None, 1), (timedelta(days=7), 7), (timedelta(days=3), 3)):
        record = run_now(CA.authority.issue(wish("short-lived", validity=asked))).record
        assert record.not_after - record.not_before == timedelta(days=got, seconds=-1)
    assert refused(profile="short-lived", validity=timedelta(days=8)).kind is RefusalKind.UNAUTHORIZED
    assert refused(profile="short-lived", validity=timedelta(0)).kind is RefusalKind.MALFORMED
    assert refused(profile="tls-server", validity=timedelta(days=1)).kind is RefusalKind.UNAUTHORIZED


@pytest.mark.parametrize("is_ca", [False, True])
def test_a_sub_ca_signs_what_openssl_accepts_but_no_ca_below_it(is_ca: bool, tmp_path: Path) -> None:
    sub_ca = issued("sub-ca", "ec")
    root = CA.issuers.by_name("ecdsa-root")
    assert root is not None
    sub_ca.verify_directly_issued_by(root.certificate)
    signer, key = private_key("ec"), ec.generate_private_key(ec.SECP256R1())
    below = (
        x509.CertificateBuilder()
        .subject_name(parse_dn("CN=below"))
        .issuer_name(sub_ca.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(parse_dn("CN=leaf"))
        .issuer_name(below.subject)
        .public_key(signer.public_key())
        .serial_number(2)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    anchors = keep(tmp_path / "roots.pem", root.certificate)
    chain = keep(tmp_path / "chain.pem", sub_ca, below)
    last = keep(tmp_path / "last.pem", leaf if is_ca else below)
    options = ["-attime", str(int(NOW.timestamp())), "-CAfile", anchors, "-untrusted", chain]
    done = subprocess.run(["openssl", "verify", *options, last], check=False, capture_output=True, timeout=60)
    assert (done.returncode == 0) is not is_ca
    assert not is_ca or b"path length" in done.stderr
