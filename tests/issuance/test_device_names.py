"""Permanent identifiers and hardware modules in certificates: as OpenSSL writes them, and who may have them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from opencertd.asn1 import other_names
from opencertd.asn1.dn import parse_dn
from opencertd.asn1.pkcs10 import names_of_certificate, parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.name_constraints import check_name_constraints, limits_of
from opencertd.issuance.pkilint_child import linter
from opencertd.model.names import AltName, AltNameKind, parse_alt_name
from opencertd.model.requester import NameGrant, Proof
from tests.ca import make_ca, make_csr, request, requester
from tests.validation.devices import issue
from tests.validation.devices import make_ca as make_maker

RULES = """
[profiles.fleet]
names = ["permanent-identifier", "hardware-module"]
subject = "CN={permanent-identifier}"
[profiles.fleet.policy]
allow.permanent_identifier = ["C02*", "SN-1/1.2.3.4"]
deny.permanent_identifier = ["C02STOLEN*"]
[profiles.hosts]
names = ["dns"]
[profiles.hosts.policy]
allow.permanent_identifier = ["C02*"]
deny.permanent_identifier = ["*"]
"""
CA = make_ca(rules=RULES)
LINT = linter()


def pid(text: str) -> AltName:
    return parse_alt_name(AltNameKind.PERMANENT_IDENTIFIER, text)


def module(text: str) -> AltName:
    return parse_alt_name(AltNameKind.HARDWARE_MODULE, text)


def issued(**changes: Any) -> bytes:
    return run_now(CA.authority.issue(request(**changes))).certificate_der


def refused(kind: RefusalKind, words: str, **changes: Any) -> None:
    with pytest.raises(Refusal) as caught:
        issued(**changes)
    assert caught.value.kind is kind and words in caught.value.detail, caught.value.detail


OPENSSL = """
[req]
distinguished_name = nobody
x509_extensions = names
prompt = no
[nobody]
O = x
[names]
subjectAltName = critical,@listed
[listed]
otherName.1 = 1.3.6.1.5.5.7.8.3;SEQ:plain
otherName.2 = 1.3.6.1.5.5.7.8.3;SEQ:assigned
otherName.3 = 1.3.6.1.5.5.7.8.4;SEQ:module
[plain]
value = UTF8:C02ABC
[assigned]
value = FORMAT:UTF8,UTF8:Gerät 7
assigner = OID:1.2.3.4
[module]
type = OID:1.3.6.1.4.1.9999.1
serial = FORMAT:ASCII,OCT:chip 9
"""


def test_openssl_writes_the_names_so_too_and_pkilint_takes_them(tmp_path: Path) -> None:
    names = (pid("C02ABC"), pid("Gerät 7/1.2.3.4"), module("chip 9/1.3.6.1.4.1.9999.1"))
    made = issued(names=names, subject=x509.Name([]))
    (tmp_path / "c").write_text(OPENSSL)
    options = ("-newkey", "ed25519", "-nodes", "-keyout", tmp_path / "k", "-outform", "DER", "-out", tmp_path / "o")
    subprocess.run(
        ["openssl", "req", "-x509", "-config", tmp_path / "c", *options], capture_output=True, timeout=30, check=True
    )
    found, theirs = x509.load_der_x509_certificate(made), x509.load_der_x509_certificate((tmp_path / "o").read_bytes())
    ours, others = (each.extensions.get_extension_for_class(x509.SubjectAlternativeName) for each in (found, theirs))
    assert ours.value.public_bytes() == others.value.public_bytes() and ours.critical and others.critical
    assert names_of_certificate(found) == names
    assert LINT(made) == []


def test_a_request_is_read_as_it_was_made() -> None:
    names = (pid("C02ABC"), module("9/1.2.3"))
    csr = make_csr(names=tuple(other_names.general_name(name) for name in names))
    assert parse_csr(csr).names == names


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("1.3.6.1.5.5.7.8.3", b"\x30\x00"),  # no identifier: the subject's serial number would be meant
        ("1.3.6.1.5.5.7.8.3", b"\x30\x05\x0c\x03a/b"),
        ("1.3.6.1.5.5.7.8.3", b"\x30\x07\x0c\x05a/1.2"),  # would read as one assigned by 1.2
        ("1.3.6.1.5.5.7.8.3", b"\x0c\x01a"),
        ("1.3.6.1.5.5.7.8.4", b"\x30\x06\x06\x01\x2a\x04\x01\xff"),
        ("1.3.6.1.4.1.311.20.2.3", b"\x0c\x01a"),  # a user principal name
    ],
)
def test_other_names_that_no_identifier_spells_are_refused(oid: str, value: bytes) -> None:
    csr = make_csr(names=(x509.OtherName(x509.ObjectIdentifier(oid), value),))
    with pytest.raises(Refusal) as caught:
        parse_csr(csr)
    assert caught.value.kind is RefusalKind.BAD_CSR and "hardware modules" in caught.value.detail


def test_profiles_and_rules_say_which_devices() -> None:
    made = x509.load_der_x509_certificate(issued(profile="fleet", names=(pid("C02ABC"),), subject=x509.Name([])))
    assert made.subject == parse_dn("CN=C02ABC")
    assert issued(profile="fleet", names=(pid("SN-1/1.2.3.4"),), subject=x509.Name([]))
    rejected = RefusalKind.REJECTED_NAME
    for name, words in (
        ("SN-1", "not covered by the permanent-identifier rules"),
        ("c02ABC", "not covered"),
        ("C02STOLEN9", "denied by the permanent-identifier rule"),
    ):
        refused(rejected, words, profile="fleet", names=(pid(name),), subject=x509.Name([]))
    refused(rejected, "has no permanent-identifier names", profile="hosts", names=(pid("C02ABC"),))


def test_rules_for_devices_leave_common_names_alone() -> None:
    host = AltName(AltNameKind.DNS, "www.example.com")
    assert issued(profile="hosts", names=(host,), subject=parse_dn("CN=www.example.com"))


@pytest.mark.parametrize("rule", ["a*b", "*x", "x/y", ""])
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(Exception, match="permanent_identifier"):
        make_ca(rules=f'[profiles.x.policy]\nallow.permanent_identifier = ["{rule}"]')


def test_a_certificate_of_the_device_does_not_vouch_for_another_key() -> None:
    names = (pid("C02ABC"),)
    holder = requester(NameGrant(names=frozenset(names)), proof=Proof.TLS_CERTIFICATE)
    refused(RefusalKind.REJECTED_NAME, "another key", names=names, subject=x509.Name([]), requester=holder)
    granted = requester(NameGrant(names=frozenset(names)), proof=Proof.PASSWORD)
    assert issued(names=names, subject=x509.Name([]), requester=granted)


def test_a_devices_name_is_a_common_name_unless_it_looks_like_an_address() -> None:
    def asked(name: str) -> dict[str, Any]:
        names = (pid(name),)
        who = requester(NameGrant(names=frozenset(names)), proof=Proof.PASSWORD)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return {"names": names, "requester": who, "subject": subject}

    assert issued(**asked("C02ABC"))
    for name in ("www.example.com", "10.0.0.1", "a@b.example", "urn:x"):
        refused(RefusalKind.REJECTED_NAME, "not granted", **asked(name))


@pytest.mark.parametrize("side", ["permitted", "excluded"])
def test_a_ca_that_is_limited_in_device_names_certifies_none(side: str) -> None:
    base = other_names.general_name(pid("C02ABC"))
    limits = x509.NameConstraints([base] if side == "permitted" else None, [base] if side == "excluded" else None)
    key = ec.generate_private_key(ec.SECP256R1())
    constrained = issue(key.public_key(), "Limited", make_maker("Root"), (limits, True))
    chain = limits_of([constrained])
    with pytest.raises(Refusal, match="may not certify"):
        check_name_constraints(chain, x509.Name([]), (pid("C02ABC"),))
    check_name_constraints(chain, x509.Name([]), (module("9/1.2.3"), AltName(AltNameKind.DNS, "a.test")))
