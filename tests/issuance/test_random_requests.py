"""Whatever a CSR asks, in whatever shape: it is refused in words, or its certificate has what the profile says."""

from __future__ import annotations

import dataclasses
import functools

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.asn1.dn import ATTRIBUTES
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal
from opencertd.first_start import run_now
from opencertd.issuance.enrolment import build_enrolment
from opencertd.issuance.pkilint_child import linter
from opencertd.issuance.profiles import Profile, key_usage
from opencertd.keys.kinds import PrivateKey
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import ANY_NAME, NameGrant, Requester
from tests.ca import make_ca, requester
from tests.issuance.odd_requests import KINDS, OTHER_ATTRIBUTES, requests

RULES = f"""
[profiles.own]
certificate_policies = [{{ oid = "1.3.6.1.4.1.99999.1" }}]
extensions = [{{ oid = "1.3.6.1.4.1.99999.2", hex = "0500" }}]
names = ["dns"]
subject = "O=Testers"
subject_attributes = ["CN"]
subject_others = "drop"
must_staple = true
[profiles.wide]
subject_attributes = {sorted(ATTRIBUTES) + OTHER_ATTRIBUTES}
subject = "2.5.4.11={{CN}}"
[policy]
deny.dns = ["denied.test", ".denied.test"]
"""
CA = make_ca(rules=RULES)
LINT = linter()
OTHERS_WISHES = {"pkix.invalid_uri_syntax", "pkix.name_domain_components_invalid_domain_name"}
"""What pkilint faults and RFCs allow: URNs and other URIs without a host, and domain components of one label."""
PROFILES = sorted(name for name, profile in CA.authority.profiles.items() if profile.public)
GRANTED = NameGrant(patterns=("*.a.test", "a.test", "*.denied.test", "who@a.test", "10.0.0.1"))
OPERATOR = requester(GRANTED, roles=frozenset({"operator"}))
MASTER = requester(ANY_NAME, roles=frozenset({"operator"}))


def test_every_kind_of_extension_is_asked_for() -> None:
    known = {value.dotted_string for value in vars(ExtensionOID).values() if isinstance(value, x509.ObjectIdentifier)}
    assert known - {oid for oid, _ in KINDS} == {ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string}


@functools.cache
def base(profile: str) -> frozenset[x509.ObjectIdentifier]:
    """The extensions that certificates of a profile have, but for subjectAltName."""
    rules = CA.authority.profiles[profile]
    oids = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
    oids |= {ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
    oids |= {ExtensionOID.EXTENDED_KEY_USAGE} if rules.extended_key_usages else set()
    oids |= (
        {ExtensionOID.AUTHORITY_INFORMATION_ACCESS, ExtensionOID.CRL_DISTRIBUTION_POINTS} if rules.published else set()
    )
    oids |= {ExtensionOID.OCSP_NO_CHECK} if rules.ocsp_no_check else set()
    oids |= {ExtensionOID.CERTIFICATE_POLICIES} if rules.certificate_policies else set()
    oids |= {ExtensionOID.TLS_FEATURE} if rules.must_staple else set()
    return frozenset(oids | {extension.oid for extension in rules.extensions})


def check(certificate: x509.Certificate, rules: Profile, key: PrivateKey) -> None:
    found = {extension.oid: extension.value for extension in certificate.extensions}
    assert found.keys() - {ExtensionOID.SUBJECT_ALTERNATIVE_NAME} == base(rules.name)
    assert found[ExtensionOID.BASIC_CONSTRAINTS] == x509.BasicConstraints(rules.ca, rules.path_length)
    assert found[ExtensionOID.KEY_USAGE] == key_usage(rules, key.public_key())
    assert tuple(found.get(ExtensionOID.EXTENDED_KEY_USAGE, ())) == rules.extended_key_usages
    assert found[ExtensionOID.SUBJECT_KEY_IDENTIFIER] == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    for extension in rules.extensions:
        assert found[extension.oid].public_bytes() == extension.value.public_bytes()
    length = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert length < rules.validity
    allowed = rules.subject_attributes | (rules.subject.attributes() if rules.subject else frozenset())
    assert {attribute.oid for attribute in certificate.subject} <= allowed
    assert certificate.public_key() == key.public_key()


def values(certificate: x509.Certificate) -> list[str]:
    """Every value that a client could take for a name, in lower case."""
    named = [ATTRIBUTES["CN"], ATTRIBUTES["EMAIL"]]
    found = [str(a.value).lower() for oid in named for a in certificate.subject.get_attributes_for_oid(oid)]
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            found += [str(name.value).lower() for name in extension.value]
    return found


@settings(max_examples=1000, deadline=None)
@given(
    requests(),
    st.sampled_from(PROFILES),
    st.sampled_from(IssuingProtocol),
    st.sampled_from([OPERATOR, OPERATOR, MASTER]),
)
def test_no_field_that_the_profile_does_not_say(
    csr: tuple[bytes, PrivateKey], profile: str, protocol: IssuingProtocol, who: Requester
) -> None:
    try:
        wish = build_enrolment(
            parse_csr(csr[0]), profile, who, protocol=protocol, client_certificate_may_enrol_any_name=False
        )
        issued = run_now(CA.authority.issue(dataclasses.replace(wish, transaction=None)))
    except Refusal as refusal:
        assert refusal.detail and refusal.kind.name != "INTERNAL", refusal
        return
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    check(certificate, CA.authority.profiles[profile], csr[1])
    assert {words.partition(":")[0] for _, words in LINT(issued.certificate_der)} <= OTHERS_WISHES
    for value in values(certificate):
        if who is OPERATOR:
            assert value in {"a.test", "who@a.test", "10.0.0.1"} or value.endswith(".a.test"), value
        assert not value.endswith("denied.test"), value


@settings(max_examples=300, deadline=None)
@given(requests(), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_requests_are_refused_in_words(csr: tuple[bytes, PrivateKey], damage: list[tuple[int, int]]) -> None:
    data = bytearray(csr[0])
    for place, value in damage:
        data[place % len(data)] = value
    if bytes(data) == csr[0]:
        return
    try:
        parse_csr(bytes(data))
    except Refusal as refusal:
        assert refusal.detail
