"""Trust in a CA that nothing vouches for: what a fingerprint confirms, what leads to it, and nothing else."""

from __future__ import annotations

import hashlib
from typing import NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.client.bootstrap import MOST_CERTIFICATES, fingerprint, introduce, parse_fingerprint
from opencertd.client.errors import ClientError
from tests.client import pki

ROOT, OTHER = pki.authority("Root"), pki.authority("Other Root")
ISSUING = pki.authority("Issuing", ROOT)
BELOW = pki.authority("Below", ISSUING)
NAMESAKE = pki.authority("Root")
SENT = [one.certificate for one in (BELOW, OTHER, ISSUING, ROOT)]


def sha(certificate: x509.Certificate, name: str = "sha256") -> bytes:
    return hashlib.new(name, certificate.public_bytes(Encoding.DER)).digest()


def nobody(_: x509.Certificate) -> NoReturn:
    raise AssertionError("nobody is there to be asked")


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_what_leads_to_the_confirmed_root_is_taken_and_the_rest_left_out(name: str) -> None:
    found = introduce(SENT, [sha(ROOT.certificate, name)], nobody)
    assert found.anchors == (ROOT.certificate,)
    assert set(found.others) == {ISSUING.certificate, BELOW.certificate}
    assert found.left_out == (OTHER.certificate,)


def test_several_may_be_confirmed_and_an_issuing_ca_too() -> None:
    both = introduce(SENT, [sha(ROOT.certificate), sha(OTHER.certificate)], nobody)
    assert len(both.anchors) == 2 and both.left_out == ()
    issuing = introduce(SENT, [sha(ISSUING.certificate)] * 2, nobody)
    assert (issuing.anchors, issuing.others) == ((ISSUING.certificate,), (BELOW.certificate,))
    assert set(issuing.left_out) == {ROOT.certificate, OTHER.certificate}


def test_a_fingerprint_that_none_has_ends_it_even_beside_one_that_fits() -> None:
    wrong = bytes([sha(ROOT.certificate)[0] ^ 1]) + sha(ROOT.certificate)[1:]
    for fingerprints in ([wrong], [sha(ROOT.certificate), wrong]):
        with pytest.raises(ClientError, match="this is not the CA that was meant, or somebody stands in between"):
            introduce(SENT, fingerprints, nobody)


def test_a_certificate_that_is_no_ca_does_not_become_an_anchor_beside_the_root() -> None:
    device = pki.leaf(ISSUING, "stands-in-between.example").certificate
    found = introduce([*SENT, device], [sha(ROOT.certificate)], nobody)
    assert device in found.left_out and set(found.others) == {ISSUING.certificate, BELOW.certificate}


def test_the_name_of_a_confirmed_ca_is_not_enough() -> None:
    """Neither for a root of its name nor for what that root issued."""
    forged = pki.authority("Issuing", NAMESAKE)
    leaf = pki.leaf(ROOT, "a.example")  # a certificate of the CA's that is no CA
    sold = pki.Pair(pki.certify(leaf, ISSUING.key.public_key(), pki.name("Sold"), []), ISSUING.key)
    sent = [*SENT, NAMESAKE.certificate, forged.certificate, sold.certificate]
    found = introduce(sent, [sha(ROOT.certificate)], nobody)
    assert {NAMESAKE.certificate, forged.certificate, sold.certificate} <= set(found.left_out)


def test_without_fingerprints_a_person_is_asked_about_each_root_and_nothing_else() -> None:
    asked: list[x509.Certificate] = []

    def confirm(certificate: x509.Certificate) -> bool:
        asked.append(certificate)
        return certificate == OTHER.certificate

    assert introduce(SENT, [], confirm).anchors == (OTHER.certificate,)
    assert asked == [OTHER.certificate, ROOT.certificate]
    with pytest.raises(ClientError, match="nothing is trusted"):
        introduce(SENT, [], lambda _: False)
    with pytest.raises(ClientError, match="nothing is trusted"):
        introduce([], [], nobody)


def test_an_answer_of_very_many_certificates_is_refused() -> None:
    with pytest.raises(ClientError, match="more than"):
        introduce([ROOT.certificate] * (MOST_CERTIFICATES + 1), [sha(ROOT.certificate)], nobody)


def test_fingerprints_as_people_have_them() -> None:
    value = sha(ROOT.certificate)
    plain = value.hex()
    for text in (plain, plain.upper(), value.hex(":"), fingerprint(ROOT.certificate), value.hex(" ", 2), f" {plain}\n"):
        assert parse_fingerprint(text) == value
    for text in ("", "abc", plain[2:], plain + "00", "zz" * 32, hashlib.sha1(b"").hexdigest(), "ä" * 64):
        with pytest.raises(ClientError, match="is no fingerprint"):
            parse_fingerprint(text)
