"""What a certificate entitles its holder to ask for; the rules apart from any protocol."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.dn import parse_dn
from opencertd.asn1.pkcs10 import CertificationRequest, parse_csr
from opencertd.asn1.transfer import decode_transfer
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.enrolment import build_enrolment, build_renewal, client_profile
from opencertd.issuance.own_names import check_own_names, check_same_names
from opencertd.issuance.shipped import shipped_profiles
from opencertd.model.names import parse_dns_name
from opencertd.model.request import IssuanceRequest, IssuingProtocol
from opencertd.model.requester import ANY_NAME, Proof, Requester
from tests.est.rig import START, USER, holder, new_csr, some_key

HOSTS = ("a.test", "b.test", "c.test", "*.d.test")


def certificate(dn: str, *names: str, others: tuple[x509.GeneralName, ...] = ()) -> x509.Certificate:
    subject = parse_dn(dn) if dn else x509.Name([])
    builder = x509.CertificateBuilder(subject, subject, some_key().public_key(), 1, START, START + timedelta(1))
    general = [x509.DNSName(name) for name in names] + list(others)
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(some_key(), hashes.SHA256())


def csr(dn: str, *names: str) -> CertificationRequest:
    return parse_csr(new_csr(dn, *names))


def refusal_of(check: object, asked: CertificationRequest, held: x509.Certificate) -> Refusal | None:
    try:
        check(asked, held)  # type: ignore[operator]
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.REJECTED_NAME
        return refusal
    return None


@given(st.sets(st.sampled_from(HOSTS)), st.lists(st.sampled_from(HOSTS), unique=True))
def test_own_names_are_a_subset_and_same_names_are_equal(held: set[str], asked: list[str]) -> None:
    mine, wish = certificate("CN=x", *sorted(held)), csr("CN=x", *asked)
    assert (refusal_of(check_own_names, wish, mine) is None) == (set(asked) <= held)
    assert (refusal_of(check_same_names, wish, mine) is None) == (set(asked) == held)


@pytest.mark.parametrize(
    ("held", "asked", "own", "same"),
    [
        ("CN=Pump 7,O=Ex", "CN=Pump 7,O=Ex", True, True),
        ("CN=Pump 7,O=Ex", "CN=pump  7,O=EX", True, True),
        ("CN=Pump 7,O=Ex", "", True, False),
        ("CN=Pump 7,O=Ex", "CN=Pump 7", False, False),
        ("CN=Pump 7,O=Ex", "O=Ex,CN=Pump 7", False, False),
        ("CN=Pump 7", "CN=Pump 7,O=Ex", False, False),
        ("CN=Pump 7", "O=Pump 7", False, False),
        ("", "", True, True),
        ("", "CN=a.test", False, False),
    ],
)
def test_subjects(held: str, asked: str, own: bool, same: bool) -> None:
    mine, wish = certificate(held, "a.test"), csr(asked, "a.test")
    assert (refusal_of(check_own_names, wish, mine) is None) == own
    assert (refusal_of(check_same_names, wish, mine) is None) == same


def test_a_name_of_another_kind_is_another_name() -> None:
    mine = certificate("CN=x", others=(x509.RFC822Name("a.test@a.test"), x509.UniformResourceIdentifier("a:test")))
    assert refusal_of(check_own_names, csr("CN=x", "a.test"), mine)


def test_refusals_name_what_is_wrong_and_what_to_do() -> None:
    refusal = refusal_of(check_own_names, csr("CN=y", "a.test", "bank.test"), certificate("CN=x", "a.test"))
    assert refusal is not None
    assert all(word in refusal.detail for word in ("bank.test", "CN=y", "CN=x", "password", "operator"))
    assert [name.name for name in refusal.names] == ["bank.test"]
    many = csr("CN=x", *(f"n{number}.test" for number in range(50)))
    refusal = refusal_of(check_own_names, many, certificate("CN=x"))
    assert refusal is not None and "and 45 more" in refusal.detail and len(refusal.detail) < 1000


def enrolment(wish: CertificationRequest, profile: str, who: Requester, any_name: bool = False) -> IssuanceRequest:
    return build_enrolment(
        wish, profile, who, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=any_name
    )


def test_an_enrolment_asks_exactly_what_the_csr_asks() -> None:
    wish = csr("CN=a.test", "a.test", "b.test")
    request = build_enrolment(
        wish, "rsa", USER, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=False
    )
    assert (request.subject, request.names, request.spki_der) == (wish.subject, wish.names, wish.spki_der)
    assert (request.profile, request.requester) == ("rsa", USER)


def test_a_client_certificate_gets_a_grant_for_what_was_compared_only() -> None:
    who = holder(certificate("CN=Pump 7", "a.test", "b.test"))
    request = build_renewal(csr("CN=Pump 7", "a.test", "b.test"), "default", who, protocol=IssuingProtocol.EST)
    grant = request.requester.grant
    assert grant.covers(parse_dns_name("b.test")) and not grant.covers(parse_dns_name("c.test"))
    assert not grant.patterns
    wide = build_enrolment(
        csr("CN=q"), "default", who, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=True
    )
    assert wide.requester.grant == ANY_NAME


def test_a_renewal_needs_a_client_certificate() -> None:
    for who in (USER, Requester(Proof.TLS_CERTIFICATE, "x", "x", ANY_NAME)):
        with pytest.raises(Refusal) as refused:
            build_renewal(csr("CN=x"), "default", who, protocol=IssuingProtocol.EST)
        assert refused.value.kind is RefusalKind.UNAUTHENTICATED


def test_transactions_differ_by_requester_profile_and_request() -> None:
    wish = csr("CN=a")
    other = Requester(Proof.BEARER_TOKEN, USER.id, USER.label, ANY_NAME)
    keys = {
        request.transaction.key
        for request in (
            build_enrolment(
                wish, "default", USER, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=False
            ),
            build_enrolment(
                wish, "rsa", USER, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=False
            ),
            build_enrolment(
                wish, "default", other, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=False
            ),
            build_enrolment(
                csr("CN=b"), "default", USER, protocol=IssuingProtocol.EST, client_certificate_may_enrol_any_name=False
            ),
        )
        if request.transaction
    }
    assert len(keys) == 4


@pytest.mark.parametrize("name", ["daemon-tls", "ocsp-responder:rsa", "nothing", ""])
def test_profiles_that_clients_cannot_name(name: str) -> None:
    profiles = shipped_profiles(("rsa",), ("rsa",))
    assert client_profile(profiles, None, IssuingProtocol.EST) == "default"
    assert client_profile(profiles, "rsa", IssuingProtocol.EST) == "rsa"
    with pytest.raises(Refusal) as refused:
        client_profile(profiles, name, IssuingProtocol.EST)
    assert refused.value.kind is RefusalKind.NOT_FOUND


@given(st.binary(min_size=1, max_size=100))
def test_transfer_gives_the_der_back(content: bytes) -> None:
    body = b"\x30" + content
    for form in (body, base64.b64encode(body), base64.encodebytes(body), base64.b64encode(body).rstrip(b"=")):
        assert decode_transfer(form) == body
