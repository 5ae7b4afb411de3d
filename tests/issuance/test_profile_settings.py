"""What a table says is in the certificate, in OpenSSL's words too; what contradicts itself is refused by its key."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1.dn import canonical, format_dn, parse_dn
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import run_now
from opencertd.issuance.profiles import AUDIT_CHECKPOINT
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import NameGrant
from tests.ca import dns, make_ca, make_rules, request, requester, rsa_key

FULL = """
[profiles.web]
like = "tls-server"
protocols = ["est"]
issuers = ["ecdsa", "rsa"]
issuer_fits_key = false
issuer_by_key = { p-384 = "rsa" }
key_types = ["rsa", "p-384"]
rsa_min = 3072
validity = "30d"
validity_max = "60d"
validity_may_be_asked = true
backdate = "1h"
subject = "CN={dns},O=Testers"
subject_attributes = ["OU"]
subject_others = "drop"
names_max = 2
wildcards = false
key_usage = ["digitalSignature", "keyAgreement"]
extended_key_usage = ["serverAuth", "1.3.6.1.4.1.99999.7"]
certificate_policies = [{ oid = "1.3.6.1.4.1.99999.1", cps = "https://ca.test/cps" }, { oid = "1.3.6.1.4.1.99999.3" }]
must_staple = true
extensions = [{ oid = "1.3.6.1.4.1.99999.2", critical = true, hex = "0c:05:68:65:6c:6c:6f" }]
ocsp = ["http://web.test/ocsp"]
crl = []
"""


def web(**changes: Any) -> Any:
    fitting = {"profile": "web", "key": ec.generate_private_key(ec.SECP384R1()), "names": dns("a.test")}
    return request(**{**fitting, "subject": parse_dn("C=AU,O=Widgits,OU=Pumps"), **changes})


CA = make_ca(rules=FULL)


def shown(der: bytes) -> str:
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-text"]
    return subprocess.run(command, input=der, capture_output=True, check=True, timeout=60).stdout.decode()


def test_a_certificate_of_a_profile_of_ones_own() -> None:
    issued = run_now(CA.authority.issue(web(validity=timedelta(days=60))))
    text = shown(issued.certificate_der)
    for words in (
        "Digital Signature, Key Agreement",
        "TLS Web Server Authentication, 1.3.6.1.4.1.99999.7",
        "Policy: 1.3.6.1.4.1.99999.1",
        "CPS: https://ca.test/cps",
        "Policy: 1.3.6.1.4.1.99999.3",
        "status_request",
        "1.3.6.1.4.1.99999.2: critical",
        "OCSP - URI:http://web.test/ocsp",
        "CA Issuers - URI:http://ca.test/ca/rsa/certificate",
    ):
        assert words in text, words
    assert "CRL Distribution" not in text
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=60, seconds=-1)
    assert canonical(certificate.subject) == canonical(parse_dn("OU=Pumps,CN=a.test,O=Testers"))
    assert issued.record.subject == format_dn(certificate.subject)


def test_the_beginning_is_set_back_but_not_before_the_issuer() -> None:
    ca = make_ca(rules=FULL)
    begin = ca.issuers.all()[0].certificate.not_valid_before_utc
    ca.clock.advance(begin + timedelta(minutes=30) - ca.clock.now())
    for step, back in ((timedelta(0), timedelta(minutes=30)), (timedelta(days=1), timedelta(hours=1))):
        ca.clock.advance(step)
        made = x509.load_der_x509_certificate(run_now(ca.authority.issue(web())).certificate_der)
        assert ca.clock.now() - made.not_valid_before_utc == back


def test_the_extension_is_there_byte_by_byte() -> None:
    certificate = x509.load_der_x509_certificate(run_now(CA.authority.issue(web())).certificate_der)
    extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"))
    assert extension.critical and extension.value.public_bytes() == b"\x0c\x05hello"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"key": ec.generate_private_key(ec.SECP256R1())}, RefusalKind.BAD_PUBLIC_KEY, "p-384, rsa, not p-256"),
        ({"key": rsa_key(2048)}, RefusalKind.BAD_PUBLIC_KEY, "3072 to 8192"),
        ({"names": dns("a.test", "b.test", "c.test")}, RefusalKind.REJECTED_NAME, "2 is the most"),
        ({"names": dns("*.a.test")}, RefusalKind.REJECTED_NAME, "no wildcards"),
        ({"names": (AltName(AltNameKind.IP, "10.0.0.1"),)}, RefusalKind.REJECTED_NAME, "from dns"),
        ({"validity": timedelta(days=61)}, RefusalKind.UNAUTHORIZED, "the profile's most"),
        ({"validity": timedelta(minutes=59)}, RefusalKind.MALFORMED, "before it begins"),
        ({"protocol": IssuingProtocol.ACME}, RefusalKind.NOT_FOUND, "no profile"),
    ],
)
def test_refused(changes: dict[str, Any], kind: RefusalKind, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        run_now(CA.authority.issue(web(**changes)))
    assert caught.value.kind is kind and words in caught.value.detail


def test_issuers_by_kind_of_key() -> None:
    for key, expected in ((None, "rsa"), (rsa_key(3072), "ecdsa")):
        issued = run_now(CA.authority.issue(web(**({"key": key} if key else {}))))
        issuer = CA.issuers.by_id(issued.record.issuer_id)
        assert issuer and issuer.name == expected


def subject_of(rules: str, **changes: Any) -> x509.Name:
    ca = make_ca(rules=f"[profiles.default]\n{rules}")
    return x509.load_der_x509_certificate(run_now(ca.authority.issue(request(**changes))).certificate_der).subject


def test_subjects() -> None:
    fixed = 'subject = "O=Testers,C=DE"'
    assert subject_of(fixed) == parse_dn("CN=device.test,O=Testers,C=DE")
    assert subject_of(fixed, subject=parse_dn("CN=device.test,O=testers")) == parse_dn("CN=device.test,O=Testers,C=DE")
    with pytest.raises(Refusal, match="sets O"):
        subject_of(fixed, subject=parse_dn("CN=device.test,O=Others"))
    assert subject_of(fixed + '\nsubject_others = "drop"', subject=parse_dn("2.5.4.65=x,O=Others")) == parse_dn(
        "O=Testers,C=DE"
    )
    serial = 'subject = "CN=device {serialNumber}"'
    assert subject_of(serial, subject=parse_dn("SERIALNUMBER=17")).get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    with pytest.raises(Refusal, match="serialNumber, which is not asked"):
        subject_of(serial, subject=parse_dn("CN=device.test"))


def test_nothing_is_left_of_a_subject() -> None:
    with pytest.raises(Refusal, match="names nobody"):
        subject_of('subject_others = "drop"', subject=parse_dn("2.5.4.65=x"), names=())
    ca = make_ca(rules='[profiles.ca]\nlike = "sub-ca"\nnames = ["dns"]\nrequesters = []')
    with pytest.raises(Refusal, match="a CA needs a subject"):
        run_now(ca.authority.issue(request(profile="ca", subject=x509.Name([]))))


def test_a_template_gives_nobody_a_name_that_was_not_granted() -> None:
    granted = requester(NameGrant(names=frozenset(dns("a.test"))))
    rules = 'subject = "CN={serialNumber}"'
    with pytest.raises(Refusal, match="not granted"):
        subject_of(rules, subject=parse_dn("SERIALNUMBER=bank.test"), names=dns("a.test"), requester=granted)
    assert subject_of('subject = "CN={dns}"', subject=x509.Name([]), names=dns("a.test"), requester=granted)
    email = 'subject_attributes = ["emailAddress"]'
    with pytest.raises(Refusal, match="not granted"):
        subject_of(email, subject=parse_dn("EMAIL=ceo@bank.test"), names=dns("a.test"), requester=granted)


def test_a_subject_that_is_too_long() -> None:
    long = dns(".".join(["a" * 60] * 3))
    with pytest.raises(Refusal) as caught:
        subject_of('subject = "CN={dns}"', subject=x509.Name([]), names=long)
    assert caught.value.kind is RefusalKind.REJECTED_NAME


def test_settings_change_what_is_shipped_and_begin_with_what_they_name() -> None:
    rules = make_rules('[profiles.smime]\nvalidity = "10d"\n[profiles.b]\nlike = "a"\n[profiles.a]\nlike = "smime"')
    shipped = make_rules().profiles
    assert rules.profiles["b"].validity == timedelta(days=10)
    assert rules.profiles["b"].extended_key_usages == shipped["smime"].extended_key_usages
    assert {name: p for name, p in rules.profiles.items() if name not in "ab" and name != "smime"} == {
        name: p for name, p in shipped.items() if name != "smime"
    }


def test_a_responder_gets_no_urls_unless_they_are_its_own() -> None:
    rules = make_rules('[profiles.ocsp-responder]\ncrl = ["http://x.test/crl"]').profiles["ocsp-responder"]
    assert rules.published and (rules.ocsp, rules.ca_issuers, rules.crl) == ((), (), ("http://x.test/crl",))


EKU = "extended_key_usage"
CONTRADICTIONS: dict[str, tuple[str, str, str]] = {
    "unknown issuer": ('issuers = ["dsa"]', "issuers", "ecdsa, ecdsa-root, rsa, rsa-root"),
    "unknown issuer by key": ('issuer_by_key = { rsa = "dsa" }', "issuer_by_key.rsa", "no issuer"),
    "issuer for a key it does not take": (
        'key_types = ["p-256"]\nissuer_by_key = { rsa = "rsa" }',
        "issuer_by_key.rsa",
        "key_types",
    ),
    "sizes": ("rsa_min = 4096\nrsa_max = 3072", "rsa_min", "more than rsa_max"),
    "validity": ('validity = "91d"\nvalidity_max = "90d"', "validity", "validity_max"),
    "backdate": ('validity = "1h"\nbackdate = "1h"', "backdate", "at once"),
    "most without asking": ('validity_max = "91d"', "validity_max", "validity_may_be_asked"),
    "required but not allowed": ('names = ["dns"]\nnames_required = ["ip"]', "names_required", "ip"),
    "required but none": ('names_max = 0\nnames_required = ["ip"]', "names_max", "no room"),
    "nobody": ("names = []\nsubject_attributes = []", "names", "nobody"),
    "template": ('names = ["dns"]\nsubject = "CN={email}"', "subject", "{email}"),
    "address in the subject": ('subject = "CN={ip}"', "subject", "address"),
    "leaf that signs": ('key_usage = ["digitalSignature", "keyCertSign"]', "key_usage", "ca = true"),
    "path length": ("path_length = 0", "path_length", "ca = true"),
    "CA that does not sign": (
        'ca = true\nprotocols = ["est"]\nissuers = ["rsa-root"]',
        "key_usage",
        "keyCertSign",
    ),
    "CA below a CA that may have none": (
        'ca = true\npath_length = 0\nprotocols = ["est"]\nkey_usage = ["keyCertSign"]',
        "issuers",
        "pathLenConstraint",
    ),
    "CA by ACME": ('like = "sub-ca"\nprotocols = ["acme"]', "protocols", "host names"),
    "no usage": ("key_usage = []", "key_usage", "nothing"),
    "usage no key has": ('key_types = ["p-256"]\nkey_usage = ["keyEncipherment"]', "key_usage", "p-256"),
    "usage against purpose": (
        f'{EKU} = ["codeSigning"]\nkey_usage = ["contentCommitment"]',
        "key_usage",
        "codeSigning",
    ),
    "time stamps and more": (f'{EKU} = ["timeStamping", "codeSigning"]', EKU, "alone"),
    "time stamps not critical": (f'{EKU} = ["timeStamping"]', EKU, "critical"),
    "critical nothing": (f"{EKU} = []\n{EKU}_critical = true", f"{EKU}_critical", "no purpose"),
    "purpose twice": (f'{EKU} = ["serverAuth", "1.3.6.1.5.5.7.3.1"]', EKU, "twice"),
    "no-check": ("ocsp_no_check = true", "ocsp_no_check", "OCSPSigning"),
    "staple as a client": (f'{EKU} = ["clientAuth"]\nmust_staple = true', "must_staple", "serverAuth"),
    "staple what": ("ocsp = []\nmust_staple = true", "must_staple", "OCSP URL"),
    "extension of its own": ('extensions = [{ oid = "2.5.29.19", hex = "3000" }]', "extensions", "2.5.29.19"),
    "extension twice": (
        'extensions = [{ oid = "1.2.3", hex = "0500" }, { oid = "1.2.3", hex = "0500" }]',
        "extensions",
        "twice",
    ),
    "name constraints of a leaf": (
        'extensions = [{ oid = "2.5.29.30", critical = true, hex = "3000" }]',
        "extensions",
        "nameConstraints",
    ),
    "policy twice": ('certificate_policies = [{ oid = "1.2.3" }, { oid = "1.2.3" }]', "certificate_policies", "twice"),
    "purpose of the daemon": (f'{EKU} = ["{AUDIT_CHECKPOINT.dotted_string}"]', EKU, "daemon alone"),
    "extension that nobody could read": (
        'extensions = [{ oid = "2.5.29.54", hex = "0500" }]',
        "extensions",
        "what such an extension holds",
    ),
    "like nothing": ('like = "nothing"', "like", "tls-server"),
    "like the daemon": ('like = "daemon-tls"', "like", "no profile"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_refused_in_words_that_name_the_key(case: str) -> None:
    table, key, words = CONTRADICTIONS[case]
    with pytest.raises(StartError) as caught:
        make_rules(f"[profiles.web]\n{table}")
    assert f"'profiles.web.{key}'" in str(caught.value) and words in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("subject", ["SERIALNUMBER=a@b", "DC={dns},DC=a b", "EMAIL=é@a.test"])
def test_a_template_whose_fixed_values_fit_no_certificate(subject: str) -> None:
    with pytest.raises(ValueError, match=r"profiles\.web\.subject"):
        make_rules(f'[profiles.web]\nsubject = "{subject}"')


def test_profiles_that_begin_with_each_other() -> None:
    with pytest.raises(StartError, match="a → b → a"):
        make_rules('[profiles.a]\nlike = "b"\n[profiles.b]\nlike = "a"')


@pytest.mark.parametrize("name", ["root", "issuing", "csr", "cacerts", "daemon-tls", "A", "a/b", "x" * 64])
def test_names_that_profiles_cannot_have(name: str) -> None:
    with pytest.raises(StartError, match="cannot have this name"):
        make_rules(f'[profiles."{name}"]')


def test_name_constraints_of_a_sub_ca() -> None:
    constraints = x509.NameConstraints([x509.DNSName("a.test")], None).public_bytes().hex()
    ca = make_ca(
        rules=f'[profiles.sub-ca]\nextensions = [{{ oid = "2.5.29.30", critical = true, hex = "{constraints}" }}]'
    )
    operator = requester(roles=frozenset({"operator"}))
    asked = request(profile="sub-ca", names=(), subject=parse_dn("CN=Sub"), requester=operator)
    certificate = x509.load_der_x509_certificate(run_now(ca.authority.issue(asked)).certificate_der)
    found = certificate.extensions.get_extension_for_oid(ExtensionOID.NAME_CONSTRAINTS)
    assert found.critical and found.value == x509.NameConstraints([x509.DNSName("a.test")], None)


def test_the_manual_s_example_makes_sense() -> None:
    manual = Path(__file__).parents[2] / "docs" / "operating.md"
    (example,) = re.findall(
        r"```toml\n(.*?)```", manual.read_text().partition("## Profiles and policies")[2], re.DOTALL
    )[:1]
    rules = make_rules(example)
    assert rules.profiles["pumps"].protocols == {IssuingProtocol.EST}
    assert rules.policies.authority.why_not(AltNameKind.DNS, "ca.example.com")
