"""A profile says how its issuers sign; OpenSSL reads and verifies what they signed."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import signed
from opencertd.errors import StartError
from opencertd.first_start import run_now
from opencertd.issuance.issuers import Issuers
from opencertd.keys.kinds import SIGNATURE_ALGORITHMS, scheme_of
from opencertd.model.certificates import IssuerState
from tests.ca import TestCa, hierarchy, make_ca, make_issuers, make_rules, request, rsa_key
from tests.issuance.judges import accepted

WORDS = {
    "rsa-sha256": "sha256WithRSAEncryption",
    "rsa-sha384": "sha384WithRSAEncryption",
    "rsa-sha512": "sha512WithRSAEncryption",
    "rsa-pss-sha256": "rsassaPss sha256 mgf1 with sha256 0x20",
    "rsa-pss-sha384": "rsassaPss sha384 mgf1 with sha384 0x30",
    "rsa-pss-sha512": "rsassaPss sha512 mgf1 with sha512 0x40",
    "ecdsa-sha256": "ecdsa-with-SHA256",
    "ecdsa-sha384": "ecdsa-with-SHA384",
    "ecdsa-sha512": "ecdsa-with-SHA512",
}
"""What OpenSSL calls each; of the others there is one a key."""


def algorithm_of(certificate: x509.Certificate) -> str:
    """The signature algorithm as OpenSSL shows it, with hash, mask and salt of PSS."""
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-text"]
    shown = subprocess.run(command, input=der(certificate), capture_output=True, check=True, timeout=60).stdout.decode()
    (found,) = re.findall(r"^ {8}Signature Algorithm: (.*?)\n {8}(?=Issuer)", shown, re.MULTILINE | re.DOTALL)
    bare = re.sub(r"(Hash Algorithm|Mask Algorithm|Salt Length): |\(.*?\)|Trailer Field:.*", "", found)
    return " ".join(bare.split())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def issued(ca: TestCa, **changes: object) -> x509.Certificate:
    return x509.load_der_x509_certificate(run_now(ca.authority.issue(request(**changes))).certificate_der)


@pytest.mark.parametrize("word", WORDS)
def test_openssl_reads_and_verifies(word: str, tmp_path: Path) -> None:
    issuer = word.partition("-")[0]
    ca = make_ca(rules=f'[profiles.own]\nlike = "{issuer}"\nsignature_algorithm = "{word}"')
    for key in (rsa_key(), ec.generate_private_key(ec.SECP256R1())):
        certificate = issued(ca, profile="own", key=key)
        assert algorithm_of(certificate) == WORDS[word]
        assert accepted(certificate, ca.issuers, "sslserver", tmp_path)
    usual = issued(ca, profile=issuer)  # and nobody else's certificates change
    assert algorithm_of(usual) == WORDS[f"{issuer}-sha256"]


@pytest.mark.parametrize("kind", ["rsa-pss", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "ml-dsa-44"])
def test_every_key_has_its_own(kind: str) -> None:
    issuers = make_issuers(hierarchy(kind))
    issuer = issuers.issuing()[0]
    key = issuer.signer.public_key
    for word, name in SIGNATURE_ALGORITHMS.items():
        rules = f'[profiles.default]\nsignature_algorithm = ["{word}"]'
        try:
            scheme = scheme_of(key, name)
        except ValueError:
            with pytest.raises(StartError, match="signature_algorithm"):
                make_rules(rules, issuers)
            continue
        certificate = issued(make_ca(issuers=issuers, rules=rules))
        assert signed.split(der(certificate))[1] == scheme.algorithm_der
        certificate.verify_directly_issued_by(issuer.certificate)


def test_of_several_each_issuer_takes_the_first_that_its_key_has(tmp_path: Path) -> None:
    words = '["ecdsa-sha512", "rsa-pss-sha384", "ecdsa-sha256"]'
    ca = make_ca(rules=f"[profiles.default]\nsignature_algorithm = {words}")
    assert algorithm_of(issued(ca)) == WORDS["ecdsa-sha512"]
    assert algorithm_of(issued(ca, key=rsa_key())) == WORDS["rsa-pss-sha384"]
    again = issued(ca)
    assert accepted(again, ca.issuers, "sslserver", tmp_path)


def test_what_is_made_once_for_a_profile_is_made_once() -> None:
    """Blueprints are kept by the identity of their issuer."""
    ca = make_ca(rules='[profiles.default]\nsignature_algorithm = ["ecdsa-sha512", "rsa-sha512"]')
    for _ in range(3):
        issued(ca)
    assert len(ca.authority._preparation._blueprints._made) == 1


WRONG = {
    "another family's": ('issuers = ["ecdsa"]', '"rsa-sha256"', "'ecdsa' has a key of EC P-256: it signs by ecdsa-"),
    "one issuer has none": ("", '"ecdsa-sha256"', "'rsa' has a key of RSA 3072: it signs by rsa-sha256, rsa-pss"),
    "one that nobody uses": ('issuers = ["rsa"]', '["rsa-sha256", "ed25519"]', "no issuer .* signs by ed25519"),
    "that of an issuer by key": (
        'issuers = ["ecdsa"]\nissuer_by_key = { rsa = "rsa" }',
        '"ecdsa-sha256"',
        "'rsa' has a key of RSA",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_does_not_fit_the_issuers_stops_the_start_and_names_the_key(how: str) -> None:
    issuers, words, says = WRONG[how]
    with pytest.raises(StartError, match=rf"'profiles\.own\.signature_algorithm': .*{says}"):
        make_rules(f"[profiles.own]\n{issuers}\nsignature_algorithm = {words}")


@pytest.mark.parametrize("word", ['"rsa"', '"rsa-sha1"', "[]", '"md5"', "3"])
def test_no_other_words(word: str) -> None:
    with pytest.raises(ValueError, match="signature_algorithm"):
        make_rules(f"[profiles.own]\nsignature_algorithm = {word}")


def test_a_successor_counts_and_who_signs_no_more_does_not() -> None:
    """A rollover to another kind of key is refused in words while a profile wants what that key cannot do."""
    first = make_issuers()
    old = first.by_name("ecdsa")
    (new,) = (issuer for issuer in make_issuers(hierarchy("ed25519")).all() if issuer.name == "ed25519")
    assert old is not None
    successor = dataclasses.replace(new, record=dataclasses.replace(new.record, predecessor_id=old.id))
    rules = '[profiles.own]\nissuers = ["ecdsa"]\nsignature_algorithm = '
    both = Issuers((*first.all(), successor))
    make_rules(f'{rules}["ecdsa-sha384", "ed25519"]', both)
    with pytest.raises(StartError, match="'ed25519' has a key of Ed25519"):
        make_rules(f'{rules}"ecdsa-sha384"', both)
    retired = dataclasses.replace(old, record=dataclasses.replace(old.record, state=IssuerState.RETIRED))
    others = tuple(issuer for issuer in first.all() if issuer is not old)
    make_rules(f'{rules}"ed25519"', Issuers((*others, retired, successor)))
