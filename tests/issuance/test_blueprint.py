"""A certificate made from a blueprint is, byte for byte, the one that `cryptography` puts together from the profile."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opencertd.asn1 import dn, signed
from opencertd.asn1.tbs import read_tbs
from opencertd.errors import Refusal
from opencertd.issuance.blueprint import Blueprint, Blueprints
from opencertd.issuance.lint import Expectation, lint
from opencertd.issuance.policy import check_key_type
from opencertd.issuance.profiles import build
from opencertd.issuance.specimen import SpecimenKeys
from opencertd.keys.kinds import KINDS, SubjectKey
from opencertd.model.certificates import IssuerRole
from opencertd.model.crl_parts import Partition
from opencertd.model.names import AltName, AltNameKind, parse_alt_name
from tests.ca import NOW, PUBLICATION, dns, hierarchy, make_issuers, make_rules, rsa_key, spki_der

ISSUERS = make_issuers(hierarchy("ecdsa", "rsa", "rsa-pss", "ed25519", "ml-dsa-44"))
RICH = """
[profiles.rich]
certificate_policies = [{ oid = "1.3.6.1.4.1.99999.1", cps = "http://ca.test/cps" }, { oid = "1.3.6.1.4.1.99999.9" }]
extensions = [{ oid = "1.3.6.1.4.1.99999.2", hex = "0500", critical = true }]
must_staple = true
[profiles.own-urls]
key_usage = ["digitalSignature"]
ocsp = ["http://other.test/ocsp"]
"""
RULES = make_rules(RICH, ISSUERS)
SPECIMENS = SpecimenKeys()
BLUEPRINTS = Blueprints(PUBLICATION, SPECIMENS)


@functools.cache
def key_of(kind: str) -> SubjectKey:
    if kind == "rsa":
        return rsa_key().public_key()
    if kind.startswith("ml-kem"):
        made = mlkem.MLKEM768PrivateKey if kind == "ml-kem-768" else mlkem.MLKEM1024PrivateKey
        return made.generate().public_key()
    return KINDS[kind].make().public_key()


def names_of(kind: AltNameKind, texts: list[str]) -> st.SearchStrategy[AltName]:
    return st.sampled_from(texts).map(lambda text: parse_alt_name(kind, text))


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=60)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(lambda labels: AltName(AltNameKind.DNS, ".".join([*labels, "test"])))
NAMES = st.lists(
    st.one_of(
        HOST,
        names_of(AltNameKind.DNS, ["*.a.test", "a.test"]),
        names_of(AltNameKind.IP, ["10.0.0.1", "2001:db8::1", "::ffff:1.2.3.4"]),
        names_of(AltNameKind.EMAIL, ["who@a.test"]),
        names_of(AltNameKind.URI, ["urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "https://a.test/x?y=%20"]),
    ),
    max_size=40,
).map(tuple)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, exclude_categories=("C",)), min_size=1, max_size=16)
ATTRIBUTE = st.one_of(
    st.builds(
        x509.NameAttribute,
        st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME]),
        PRINTABLE,
    ),
    st.sampled_from(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "0815"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "test"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "who@a.test"),
        ]
    ),
)
RDN = st.lists(ATTRIBUTE, min_size=1, max_size=2, unique_by=lambda one: one.oid).map(x509.RelativeDistinguishedName)
SUBJECT = st.lists(RDN, max_size=4).map(x509.Name)
MOMENT = st.datetimes(datetime(2026, 6, 1, 13), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
SERIAL = st.integers(1 << 128, (1 << 129) - 1)


def draft_and_reference(
    profile_name: str, issuer_name: str, key: SubjectKey, subject: x509.Name, names: tuple[AltName, ...], **more: object
) -> tuple[bytes, bytes]:
    """To-be-signed bytes of one certificate, made from the blueprint and made by `cryptography`."""
    profile, issuer = RULES.profiles[profile_name], ISSUERS.by_name(issuer_name)
    assert issuer is not None
    given = {"subject": subject, "names": names, "serial": 1 << 128, "now": NOW, **more}
    drafted = BLUEPRINTS.of(profile, issuer, key).draft(spki_der=spki_der(key), **given)  # type: ignore[arg-type]
    builder = build(
        profile,
        issuer,
        key=key,
        subject=dn.normal(subject),
        names=names,
        serial=given["serial"],  # type: ignore[arg-type]
        validity=(drafted.not_before, drafted.not_after),
        publication=profile.publication(PUBLICATION),
    )
    return drafted.tbs_der, signed.split(SPECIMENS.sign(builder, issuer.signer))[0]


@settings(max_examples=600, deadline=None)
@given(
    profile=st.sampled_from(sorted(RULES.profiles)),
    issuer=st.sampled_from([issuer.name for issuer in ISSUERS.all()]),
    kind=st.sampled_from(sorted(KINDS)),
    subject=SUBJECT,
    names=NAMES,
    serial=SERIAL,
    now=MOMENT,
)
def test_it_is_the_same_to_the_last_byte(
    profile: str,
    issuer: str,
    kind: str,
    subject: x509.Name,
    names: tuple[AltName, ...],
    serial: int,
    now: datetime,
) -> None:
    key = key_of(kind)
    try:
        check_key_type(key, RULES.profiles[profile])
    except Refusal:
        assume(False)
    drafted, reference = draft_and_reference(profile, issuer, key, subject, names, serial=serial, now=now)
    assert drafted == reference


@pytest.mark.parametrize("profile", ["default", "rich", "sub-ca"])
def test_a_key_of_another_length(profile: str) -> None:
    key = rsa_key(3072).public_key()
    issuer = ISSUERS.issuing()[-1].name
    drafted, reference = draft_and_reference(profile, issuer, key, dn.parse_dn("CN=a.test"), dns("a.test"))
    assert drafted == reference


def test_the_last_certificate_before_2050_and_the_first_after() -> None:
    issuer = ISSUERS.all()[0]
    late = replace(issuer, certificate=_LateIssuer(issuer.certificate))  # type: ignore[arg-type]
    blueprint = BLUEPRINTS.of(RULES.profiles["default"], late, key_of("p-256"))
    for now, tag in ((datetime(2049, 6, 1, tzinfo=UTC), b"\x17\x0d4908"), (datetime(2049, 11, 1, tzinfo=UTC), b"\x18")):
        drafted = blueprint.draft(
            spki_der=spki_der(key_of("p-256")), subject=x509.Name([]), names=dns("a.test"), serial=5, now=now
        )
        assert tag in drafted.tbs_der
        certificate = x509.load_der_x509_certificate(SPECIMENS.complete(drafted.tbs_der, issuer.signer))
        assert certificate.not_valid_after_utc == drafted.not_after


class _LateIssuer:
    """The certificate of an issuer that lasts long."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self._certificate = certificate
        self.not_valid_after_utc = datetime(2060, 1, 1, tzinfo=UTC)

    def __getattr__(self, name: str) -> object:
        return getattr(self._certificate, name)


def test_the_issuers_name_is_that_of_its_certificate_byte_for_byte() -> None:
    for issuer in ISSUERS.all():
        own = read_tbs(signed.split(issuer.certificate_der)[0]).subject_der
        blueprint = BLUEPRINTS.of(RULES.profiles["default"], issuer, key_of("p-256"))
        drafted = blueprint.draft(
            spki_der=spki_der(key_of("p-256")), subject=x509.Name([]), names=dns("a.test"), serial=5, now=NOW
        )
        assert read_tbs(drafted.tbs_der).issuer_der == own


@settings(max_examples=60, deadline=None)
@given(serial=SERIAL, issuer=st.sampled_from([issuer.name for issuer in ISSUERS.all()]), apart=st.booleans())
def test_certificates_name_the_crl_of_their_serial(serial: int, issuer: str, apart: bool) -> None:
    spread = replace(PUBLICATION, crl=("http://a.test/{issuer}/crl/{part}",), partition=Partition(64, apart))
    profile, key, found = RULES.profiles["default"], key_of("p-256"), ISSUERS.by_name(issuer)
    assert found is not None
    subject, names = dn.parse_dn("CN=a.test"), dns("a.test")
    drafted = (
        Blueprints(spread, SPECIMENS)
        .of(profile, found, key)
        .draft(spki_der=spki_der(key), subject=subject, names=names, serial=serial, now=NOW)
    )
    theirs = build(
        profile,
        found,
        key=key,
        subject=subject,
        names=names,
        serial=serial,
        validity=(drafted.not_before, drafted.not_after),
        publication=spread,
    )
    assert drafted.tbs_der == signed.split(SPECIMENS.sign(theirs, found.signer))[0]
    certificate = x509.load_der_x509_certificate(SPECIMENS.complete(drafted.tbs_der, found.signer))
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    shard = (serial & 0xFFFF) * 64 >> 16
    end = "/users" if apart else ""
    expected = end if found.role is IssuerRole.ROOT else f"/64-{shard}"
    assert [uri.value for uri in point.full_name or ()] == [f"http://a.test/{issuer}/crl{expected}"]


def test_a_profile_or_issuer_that_was_replaced_has_a_blueprint_of_its_own() -> None:
    profile, issuer, key = RULES.profiles["default"], ISSUERS.all()[0], key_of("p-256")
    first = BLUEPRINTS.of(profile, issuer, key)
    assert BLUEPRINTS.of(profile, issuer, key_of("p-384")) is first  # of the same family
    assert BLUEPRINTS.of(profile, issuer, key_of("rsa")) is not first
    stapled = BLUEPRINTS.of(replace(profile, must_staple=True), issuer, key)
    assert stapled.third != first.third and stapled.rules.critical != first.rules.critical
    assert BLUEPRINTS.of(profile, replace(issuer), key) is not first
    for _ in range(600):  # and what nobody asks for any more is let go of
        BLUEPRINTS.of(replace(profile), issuer, key)
    assert len(BLUEPRINTS._made) < 600


def specimen(blueprint: Blueprint, **changes: object) -> bytes:
    asked = {
        "spki_der": spki_der(key_of("p-256")),
        "subject": dn.parse_dn("CN=a.test"),
        "names": dns("a.test"),
        "serial": 1 << 128,
        "now": NOW,
        **changes,
    }
    return SPECIMENS.complete(blueprint.draft(**asked).tbs_der, blueprint.issuer.signer)  # type: ignore[arg-type]


def blueprint_of(profile: str = "rich", issuer: str = "ecdsa", kind: str = "p-256", **changes: object) -> Blueprint:
    found = ISSUERS.by_name(issuer) or ISSUERS.all()[0]
    return Blueprints(PUBLICATION, SPECIMENS).of(replace(RULES.profiles[profile], **changes), found, key_of(kind))


def findings(specimen_der: bytes, **changes: object) -> str:
    asked = {
        "spki_der": spki_der(key_of("p-256")),
        "subject": dn.parse_dn("CN=a.test"),
        "names": dns("a.test"),
        "serial": 1 << 128,
        **changes,
    }
    return "; ".join(lint(specimen_der, Expectation(blueprint_of().rules, **asked)))  # type: ignore[arg-type]


def test_lint_finds_nothing_in_what_is_right() -> None:
    assert findings(specimen(blueprint_of())) == ""


WRONG = {
    "the serial number": lambda: specimen(blueprint_of(), serial=(1 << 128) + 1),
    "the subject is not the one asked": lambda: specimen(blueprint_of(), subject=dn.parse_dn("CN=b.test")),
    "the public key is not the one proven": lambda: specimen(blueprint_of(), spki_der=spki_der(key_of("p-384"))),
    "subjectAltName is not what was granted": lambda: specimen(blueprint_of(), names=dns("a.test", "b.test")),
    "2.5.29.17 is missing": lambda: specimen(blueprint_of(), names=()),
    "the wrong criticality": lambda: specimen(blueprint_of(extended_key_usage_critical=True)),
    "extKeyUsage is not the profile's": lambda: specimen(blueprint_of(extended_key_usages=())),
    "keyUsage is not the profile's": lambda: specimen(blueprint_of(key_usage=frozenset({"keyAgreement"}))),
    "basicConstraints does not say that it is no CA": lambda: specimen(blueprint_of(ca=True)),
    "certificatePolicies is not the profile's": lambda: specimen(blueprint_of(certificate_policies=())),
    "1.3.6.1.5.5.7.1.24 is missing": lambda: specimen(blueprint_of(must_staple=False)),
    "1.3.6.1.5.5.7.48.1.5 is not the profile's": lambda: specimen(blueprint_of(ocsp_no_check=True)),
    "1.3.6.1.5.5.7.1.1 is missing": lambda: specimen(blueprint_of(published=False)),
    "1.3.6.1.4.1.99999.2 has another value": lambda: specimen(blueprint_of()).replace(
        b"\x04\x02\x05\0", b"\x04\x02\1\0"
    ),
    "longer than the profile allows": lambda: specimen(blueprint_of(validity=timedelta(days=91))),
    "it begins before its issuer": lambda: specimen(
        _of_another_time(timedelta(days=-30)), now=NOW - timedelta(days=20)
    ),
    "the issuer is not the issuing CA's subject": lambda: specimen(blueprint_of(issuer="ecdsa-root")),
    "authorityKeyIdentifier is not the issuer's": lambda: specimen(blueprint_of(issuer="ecdsa-root")),
    "the signature algorithm is not the issuer's": lambda: specimen(blueprint_of(issuer="rsa")),
    "it is not well-formed": lambda: specimen(blueprint_of())[:-1],
}


def _of_another_time(step: timedelta) -> Blueprint:
    blueprint = blueprint_of()
    certificate = _LateIssuer(blueprint.issuer.certificate)
    certificate.not_valid_before_utc = blueprint.issuer.certificate.not_valid_before_utc + step  # type: ignore[attr-defined]
    return replace(blueprint, issuer=replace(blueprint.issuer, certificate=certificate))  # type: ignore[arg-type]


@pytest.mark.parametrize("words", WRONG)
def test_lint_finds_what_is_wrong(words: str) -> None:
    assert words in findings(WRONG[words]())


def test_a_specimen_can_be_read_by_others_and_bears_the_issuers_algorithm() -> None:
    for issuer in ISSUERS.all():
        made = specimen(BLUEPRINTS.of(RULES.profiles["default"], issuer, key_of("p-256")))
        certificate = x509.load_der_x509_certificate(made)
        assert certificate.public_bytes(Encoding.DER) == made
        assert signed.split(made)[1] == issuer.signer.algorithm_der
