"""Whatever a CSR asks, in whatever shape: it is refused in words, or its certificate has what the profile says."""

from __future__ import annotations

import dataclasses
import functools

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opencertd.asn1 import der
from opencertd.asn1.dn import ATTRIBUTES
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal
from opencertd.first_start import run_now
from opencertd.issuance.enrolment import build_enrolment
from opencertd.issuance.profiles import Profile, key_usage
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import NameGrant
from tests.ca import make_ca, requester

RULES = """
[profiles.own]
certificate_policies = [{ oid = "1.3.6.1.4.1.99999.1" }]
extensions = [{ oid = "1.3.6.1.4.1.99999.2", hex = "0500" }]
names = ["dns"]
subject = "O=Testers"
subject_attributes = ["CN"]
subject_others = "drop"
[policy]
deny.dns = ["denied.test", ".denied.test"]
"""
CA = make_ca(rules=RULES)
PROFILES = sorted(name for name, profile in CA.authority.profiles.items() if profile.public)
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
GRANTED = NameGrant(patterns=("*.a.test", "a.test", "*.denied.test", "who@a.test", "10.0.0.1"))
OPERATOR = requester(GRANTED, roles=frozenset({"operator"}))

HOSTS = st.sampled_from(
    ["a.test", "x.a.test", "*.a.test", "bank.test", "x.denied.test", "*.denied.test", "", "a..test"]
)
TEXTS = st.one_of(HOSTS, st.sampled_from(["who@a.test", "ceo@bank.test", "10.0.0.1", "DE"]), st.text(max_size=70))
STRING_TAGS = st.sampled_from([0x0C, 0x13, 0x14, 0x16, 0x1E, 0x1C, 0x04, 0x30, 0x12])
OIDS = st.one_of(
    st.sampled_from([oid.dotted_string for oid in ATTRIBUTES.values()]),
    st.sampled_from(["2.5.4.65", "2.5.4.17", "1.2.840.113549.1.9.2", "1.3.6.1.4.1.311.60.2.1.3"]),
)
EXTENSION_OIDS = st.one_of(
    st.sampled_from(
        sorted(v.dotted_string for v in vars(ExtensionOID).values() if isinstance(v, x509.ObjectIdentifier))
    ),
    st.builds("1.3.6.1.4.1.{}".format, st.integers(0, 99999)),
    st.just("1.3.6.1.4.1.99999.2"),
)


@st.composite
def strings(draw: st.DrawFn) -> bytes:
    text, tag = draw(TEXTS), draw(STRING_TAGS)
    encoding = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x0C: "utf-8"}.get(tag, "latin-1")
    return der.tlv(tag, text.encode(encoding, errors="replace"))


ATTRIBUTE = st.builds(lambda oid, value: der.sequence(der.oid(oid), value), OIDS, strings())
SUBJECT = st.lists(st.lists(ATTRIBUTE, min_size=1, max_size=2), max_size=5).map(
    lambda rdns: der.sequence(*(der.tlv(der.SET, b"".join(sorted(rdn))) for rdn in rdns))
)
GENERAL_NAMES = st.lists(
    st.one_of(
        st.builds(lambda host: der.tlv(0x82, host.encode()), HOSTS),
        st.builds(lambda text: der.tlv(0x81, text.encode("utf-8")), TEXTS),
        st.builds(lambda data: der.tlv(0x87, data), st.sampled_from([b"\x0a\0\0\1", b"\x0a\0\0", bytes(16), bytes(8)])),
        st.builds(lambda text: der.tlv(0x86, text.encode("utf-8")), TEXTS),
        st.builds(lambda name: der.tlv(0xA4, name), SUBJECT),
        st.builds(lambda data: der.tlv(0xA0, data), st.binary(max_size=20)),
        st.builds(lambda data: der.tlv(0x88, data), st.binary(max_size=5)),
    ),
    max_size=6,
).map(lambda names: der.sequence(*names))
GREEDY = st.sampled_from(
    [
        ("2.5.29.19", der.sequence(der.boolean(True), der.integer(5))),
        ("2.5.29.15", bytes.fromhex("03020106")),
        ("2.5.29.37", der.sequence(der.oid("2.5.29.37.0"), der.oid("1.3.6.1.5.5.7.3.9"))),
        ("2.5.29.14", der.octet_string(b"mine")),
        ("2.5.29.30", der.sequence(der.tlv(0xA0, der.sequence(der.tlv(0x82, b"a.test"))))),
        ("1.3.6.1.5.5.7.48.1.5", der.null()),
        ("1.3.6.1.4.1.11129.2.4.3", der.null()),
        ("1.3.6.1.4.1.99999.2", der.boolean(True)),
    ]
)
EXTENSION = st.one_of(
    st.tuples(st.just("2.5.29.17"), GENERAL_NAMES),
    GREEDY,
    st.tuples(EXTENSION_OIDS, st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(der.octet_string))),
    st.tuples(EXTENSION_OIDS, st.integers(0, 9000).map(lambda size: der.octet_string(bytes(size)))),
)


def extension_der(oid: str, critical: bool, value: bytes) -> bytes:
    return der.sequence(der.oid(oid), *([der.boolean(True)] if critical else []), der.octet_string(value))


EXTENSIONS = st.lists(
    st.builds(lambda one, critical: extension_der(one[0], critical, one[1]), EXTENSION, st.booleans()), max_size=6
)


MINE = st.sampled_from(["a.test", "x.a.test", "*.a.test", "who@a.test", "10.0.0.1"])
MY_SUBJECT = st.builds(
    lambda name, tag, rest: der.sequence(
        der.tlv(der.SET, der.sequence(der.oid("2.5.4.3"), der.tlv(tag, name.encode()))), *rest
    ),
    MINE,
    st.sampled_from([0x0C, 0x13, 0x14, 0x16]),
    st.one_of(st.just([]), st.just([]), ATTRIBUTE.map(lambda attribute: [der.tlv(der.SET, attribute)])),
)
MY_NAMES = st.lists(
    st.sampled_from(
        [der.tlv(0x82, b"a.test"), der.tlv(0x82, b"X.a.test"), der.tlv(0x81, b"who@a.test"), der.tlv(0x87, b"\n\0\0\1")]
    ),
    min_size=1,
    max_size=2,
).map(lambda names: ("2.5.29.17", der.sequence(*names)))
MY_EXTENSIONS = st.lists(
    st.one_of(GREEDY, st.tuples(st.builds("1.3.6.1.4.1.{}".format, st.integers(0, 99)), st.binary(max_size=9000))),
    max_size=6,
    unique_by=lambda one: one[0],
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A PKCS#10 request with a good signature; half of them ask for names that are granted, and for more besides."""
    if draw(st.booleans()):
        asked = [*draw(MY_EXTENSIONS), *draw(st.one_of(MY_NAMES.map(lambda one: [one]), st.just([])))]
        extensions = [extension_der(oid, draw(st.booleans()), value) for oid, value in asked]
        subject = draw(st.one_of(MY_SUBJECT, st.just(der.sequence())))
    else:
        extensions, subject = draw(EXTENSIONS), draw(SUBJECT)
    wanted = der.sequence(*extensions)
    attributes = [der.sequence(der.oid("1.2.840.113549.1.9.14"), der.tlv(der.SET, wanted))]
    if draw(st.integers(0, 9)) == 0:
        attributes.append(draw(st.sampled_from([attributes[0], der.null(), draw(st.binary(max_size=30))])))
    info = der.sequence(der.integer(0), subject, SPKI, der.tlv(0xA0, b"".join(attributes)))
    signature = KEY.sign(info, ec.ECDSA(hashes.SHA256()))
    return der.sequence(info, der.sequence(der.oid("1.2.840.10045.4.3.2")), der.bit_string(signature))


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
    return frozenset(oids | {extension.oid for extension in rules.extensions})


def check(certificate: x509.Certificate, rules: Profile) -> None:
    found = {extension.oid: extension.value for extension in certificate.extensions}
    assert found.keys() - {ExtensionOID.SUBJECT_ALTERNATIVE_NAME} == base(rules.name)
    assert found[ExtensionOID.BASIC_CONSTRAINTS] == x509.BasicConstraints(rules.ca, rules.path_length)
    assert found[ExtensionOID.KEY_USAGE] == key_usage(rules, KEY.public_key())
    assert tuple(found.get(ExtensionOID.EXTENDED_KEY_USAGE, ())) == rules.extended_key_usages
    assert found[ExtensionOID.SUBJECT_KEY_IDENTIFIER] == x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
    for extension in rules.extensions:
        assert found[extension.oid].public_bytes() == extension.value.public_bytes()
    length = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert length < rules.validity
    allowed = rules.subject_attributes | (rules.subject.attributes() if rules.subject else frozenset())
    assert {attribute.oid for attribute in certificate.subject} <= allowed
    assert certificate.public_key() == KEY.public_key()


def values(certificate: x509.Certificate) -> list[str]:
    """Every value that a client could take for a name, in lower case."""
    named = [ATTRIBUTES["CN"], ATTRIBUTES["EMAIL"]]
    found = [str(a.value).lower() for oid in named for a in certificate.subject.get_attributes_for_oid(oid)]
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            found += [str(name.value).lower() for name in extension.value]
    return found


@settings(max_examples=1000, deadline=None)
@given(requests(), st.sampled_from(PROFILES), st.sampled_from(IssuingProtocol))
@example(b"", "default", IssuingProtocol.EST)
def test_no_field_that_the_profile_does_not_say(csr: bytes, profile: str, protocol: IssuingProtocol) -> None:
    who = dataclasses.replace(OPERATOR)
    try:
        wish = build_enrolment(
            parse_csr(csr), profile, who, protocol=protocol, client_certificate_may_enrol_any_name=False
        )
        issued = run_now(CA.authority.issue(dataclasses.replace(wish, transaction=None)))
    except Refusal as refusal:
        assert refusal.detail and refusal.kind.name != "INTERNAL", refusal
        return
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    check(certificate, CA.authority.profiles[profile])
    for value in values(certificate):
        assert value in {"a.test", "who@a.test", "10.0.0.1"} or value.endswith(".a.test"), value


@settings(max_examples=300, deadline=None)
@given(requests(), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_requests_are_refused_in_words(csr: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(csr)
    for place, value in damage:
        data[place % len(data)] = value
    if bytes(data) == csr:
        return
    try:
        parse_csr(bytes(data))
    except Refusal as refusal:
        assert refusal.detail
