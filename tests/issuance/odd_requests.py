"""CSRs that nobody sane would send: every kind of name, attribute and extension, in every size and encoding."""

from __future__ import annotations

import functools
import ipaddress
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID
from cryptography.x509.oid import SubjectInformationAccessOID as Sia
from hypothesis import strategies as st

from opencertd.asn1 import der, pem
from opencertd.asn1.dn import ATTRIBUTES
from opencertd.keys.kinds import PrivateKey, scheme_of
from tests.ca import rsa_key

KEYS: dict[str, PrivateKey] = {
    "p-256": ec.generate_private_key(ec.SECP256R1()),
    "p-384": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate(),
    "rsa": rsa_key(),
}

HOSTS = st.sampled_from(
    ["a.test", "x.a.test", "*.a.test", "bank.test", "x.denied.test", "*.denied.test", "", "a..test", "ä.a.test"]
)
MAILBOXES = st.sampled_from(
    [
        "who@a.test",
        "ceo@bank.test",
        "a,b@a.test",
        "<a@a.test>",
        "(a)b@a.test",
        '"a b"@a.test',
        ".a@a.test",
        "a@a@a.test",
    ]
)
URIS = st.sampled_from(["urn:xx:y", "http://a.test/%zz", "http://a.test/<>", "https://a.test:x/", "x:", "http://[::1/"])
TEXTS = st.one_of(
    HOSTS, MAILBOXES, URIS, st.sampled_from(["10.0.0.1", "DE", "D@", "é", "x" * 65]), st.text(max_size=300)
)
STRING_TAGS = st.sampled_from([0x0C, 0x0C, 0x13, 0x13, 0x14, 0x16, 0x1E, 0x1C, 0x03, 0x04, 0x30, 0x12, 0x02, 0x1A])
OTHER_ATTRIBUTES = [
    "2.5.4.65",
    "2.5.4.17",
    "2.5.4.45",
    "2.5.4.46",
    "1.2.840.113549.1.9.2",
    "1.3.6.1.4.1.311.60.2.1.3",
    "1.2.3",
]
"""pseudonym, postalCode, x500UniqueIdentifier, dnQualifier, unstructuredName, jurisdictionCountryName."""
OIDS = st.one_of(
    st.sampled_from([oid.dotted_string for oid in ATTRIBUTES.values()]),
    st.sampled_from(OTHER_ATTRIBUTES),
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


def _kinds() -> list[tuple[str, bytes]]:
    """A well-formed value of every kind of extension, each of which would give its holder more than a profile does."""
    host, key = x509.DNSName("a.test"), KEYS["p-256"].public_key()
    purposes = [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.OCSP_SIGNING]
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("http://evil.test/")], None, None, None)
    all_bits = dict.fromkeys(x509.KeyUsage.__init__.__annotations__.keys() - {"return"}, True)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    any_policy = x509.ObjectIdentifier("2.5.29.32.0")
    values: list[x509.ExtensionType] = [
        x509.BasicConstraints(True, 5),
        x509.BasicConstraints(True, None),
        x509.KeyUsage(**all_bits),
        x509.ExtendedKeyUsage(purposes),
        x509.SubjectKeyIdentifier(b"mine"),
        x509.AuthorityKeyIdentifier(b"mine", [x509.DirectoryName(x509.Name([]))], 1),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key),
        x509.IssuerAlternativeName([host]),
        x509.NameConstraints([host], [x509.IPAddress(_network())]),
        x509.PolicyConstraints(0, 0),
        x509.InhibitAnyPolicy(0),
        x509.CertificatePolicies([x509.PolicyInformation(any_policy, ["http://evil.test/"])]),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
        x509.OCSPNoCheck(),
        x509.PrecertPoison(),
        x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, host)]),
        x509.SubjectInformationAccess([x509.AccessDescription(Sia.CA_REPOSITORY, host)]),
        x509.CRLDistributionPoints([point]),
        x509.FreshestCRL([point]),
        x509.IssuingDistributionPoint(point.full_name, None, False, False, None, False, False),
        x509.CRLNumber(1),
        x509.DeltaCRLIndicator(1),
        x509.MSCertificateTemplate(x509.ObjectIdentifier("1.2.3"), 1, 1),
        x509.PrivateKeyUsagePeriod(moment, None),
    ]
    raw = {
        "1.3.36.8.3.3": "3000",  # admissions
        "2.5.29.9": "300f300d06082b0601050507090431013000",  # subjectDirectoryAttributes
        "2.5.29.33": "300a300806022a0306022a04",  # policyMappings
        "1.3.6.1.4.1.11129.2.4.2": "04020000",  # the two lists of SCTs
        "1.3.6.1.4.1.11129.2.4.5": "04020000",
        "2.16.840.1.113730.1.1": "03020007",  # nsCertType
        "1.3.6.1.4.1.311.20.2": "1e08005300750062004300",  # Microsoft's template name
        "1.3.6.1.4.1.99999.2": "0101ff",  # what a profile fixes otherwise
    }
    known = [(value.oid.dotted_string, value.public_bytes()) for value in values]
    return known + [(oid, bytes.fromhex(value)) for oid, value in raw.items()]


def _network() -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network("10.0.0.0/8")


KINDS = _kinds()
GREEDY = st.sampled_from(KINDS)


@st.composite
def loosened(draw: st.DrawFn, data: bytes) -> bytes:
    """The element in an encoding that BER knows and DER does not, or with something after its end."""
    content = der.read_tlv(data).content(data)
    size = len(content)
    return draw(
        st.sampled_from(
            [
                data[:1] + b"\x83" + size.to_bytes(3, "big") + content,
                data[:1] + b"\x84" + size.to_bytes(4, "big") + content,
                data[:1] + b"\x80" + content + b"\0\0",
                data[:1] + b"\x88" + b"\xff" * 8 + content,
                data + b"\x05\0",
                data[:-1],
            ]
        )
    )


EXTENSION = st.one_of(
    st.tuples(st.just("2.5.29.17"), GENERAL_NAMES),
    GREEDY,
    st.tuples(EXTENSION_OIDS, st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(der.octet_string))),
    st.tuples(EXTENSION_OIDS, st.integers(0, 70000).map(lambda size: der.octet_string(bytes(size)))),
    st.tuples(EXTENSION_OIDS, GREEDY.map(lambda one: one[1])),
    GREEDY.flatmap(lambda one: loosened(one[1]).map(lambda value: (one[0], value))),
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
    st.one_of(
        st.sampled_from(
            [
                der.tlv(0x82, b"a.test"),
                der.tlv(0x82, b"X.a.test"),
                der.tlv(0x81, b"who@a.test"),
                der.tlv(0x87, b"\n\0\0\1"),
            ]
        ),
        st.builds(lambda text: der.tlv(0x81, text.encode()), MAILBOXES),
        st.builds(lambda text: der.tlv(0x86, text.encode()), URIS),
    ),
    min_size=1,
    max_size=2,
).map(lambda names: ("2.5.29.17", der.sequence(*names)))
MY_EXTENSIONS = st.lists(
    st.one_of(GREEDY, st.tuples(st.builds("1.3.6.1.4.1.{}".format, st.integers(0, 99)), st.binary(max_size=9000))),
    max_size=6,
    unique_by=lambda one: one[0],
)


CHOOSY = st.sampled_from(["2.5.4.5", "2.5.4.6", "2.5.4.46", "0.9.2342.19200300.100.1.25", "1.2.840.113549.1.9.1"])
"""Attributes whose values are not any text: serialNumber, countryName, dnQualifier, domainComponent, emailAddress."""
MY_ATTRIBUTES = st.lists(
    st.builds(
        lambda oid, tag, text: der.sequence(der.oid(oid), der.tlv(tag, text.encode())),
        st.one_of(OIDS, CHOOSY),
        st.sampled_from([0x0C, 0x13, 0x16]),
        st.one_of(MINE, TEXTS),
    ),
    max_size=3,
)
REQUEST_ATTRIBUTES = ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14")
"""extensionRequest, and what Microsoft had before it."""


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, PrivateKey]:
    """A PKCS#10 request with a good signature, and its key.

    Most ask for names that are granted, and for more besides; the others for anything.
    """
    if draw(st.integers(0, 3)):
        asked = [*draw(MY_EXTENSIONS), *draw(st.one_of(MY_NAMES.map(lambda one: [one]), st.just([])))]
        extensions = [extension_der(oid, draw(st.booleans()), value) for oid, value in asked]
        subject = draw(st.one_of(MY_SUBJECT, MY_ATTRIBUTES.map(_rdns), st.just(der.sequence())))
    else:
        extensions, subject = draw(EXTENSIONS), draw(SUBJECT)
    wanted = der.sequence(*extensions)
    kind = REQUEST_ATTRIBUTES[draw(st.integers(0, 9)) == 0]
    attributes = [der.sequence(der.oid(kind), der.tlv(der.SET, wanted))]
    if draw(st.integers(0, 9)) == 0:
        attributes.append(draw(st.sampled_from([attributes[0], der.null(), draw(st.binary(max_size=30))])))
    key = KEYS[draw(st.sampled_from(["p-256"] * 6 + sorted(KEYS)))]
    return encoded(draw, subject, attributes, key), key


def encoded(draw: st.DrawFn, subject: bytes, attributes: list[bytes], key: PrivateKey) -> bytes:
    """Signed; now and then as PEM, or in an encoding that is not DER."""
    info = der.sequence(der.integer(0), subject, _spki(key), der.tlv(0xA0, b"".join(attributes)))
    form = draw(st.integers(0, 19))
    if form == 0:
        info = draw(loosened(info))
    scheme = scheme_of(key.public_key())
    request = der.sequence(info, scheme.algorithm_der, der.bit_string(scheme.sign(key, info)))
    if form == 1:
        return draw(loosened(request))
    return pem.encode_pem(pem.CERTIFICATE_REQUEST, request) if form == 2 else request


def _rdns(attributes: list[bytes]) -> bytes:
    return der.sequence(*(der.tlv(der.SET, attribute) for attribute in attributes))


@functools.cache
def _spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
