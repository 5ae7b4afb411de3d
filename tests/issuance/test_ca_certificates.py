"""CA certificates under issuers of ours: what they say, who accepts them, and what is left when signing fails."""

from __future__ import annotations

import dataclasses
import ipaddress
import secrets
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from twisted.internet.defer import Deferred, fail, succeed

from opencertd.asn1.dn import parse_dn
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import at_once, run_now
from opencertd.issuance.ca_certificates import CaSigning, CaTerms, cross_terms, valid_from
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import CertificatePolicy
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.model.certificates import CertificateState
from opencertd.model.requester import Proof
from opencertd.store.audit import SqlAuditStore
from tests.ca import NOW, PUBLICATION, TestCa, hierarchy, make_ca, make_issuers, request, requester
from tests.issuance.judges import findings

OPERATOR = requester(proof=Proof.OPERATOR, id="alice", label="alice")
YEAR = timedelta(days=365)
CONSTRAINTS = x509.NameConstraints(
    permitted_subtrees=[x509.DNSName("example.com"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))],
    excluded_subtrees=[x509.RFC822Name("secret.example.com")],
)


def terms(**changes: Any) -> CaTerms:
    begin, end = valid_from(NOW, 5 * YEAR)
    given = {
        "subject": parse_dn("CN=Sub CA,O=Testers"),
        "public_key": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "not_before": begin,
        "not_after": end,
    }
    return CaTerms(**given | changes)


def signing(ca: TestCa) -> CaSigning:
    return CaSigning(ca.store, clock=ca.clock, random=secrets.token_bytes, owner="node/cli", publication=PUBLICATION)


def issuer_of(ca: TestCa, name: str) -> Issuer:
    issuer = ca.issuers.by_name(name)
    assert issuer
    return issuer


async def signed(ca: TestCa, issuer: str, wanted: CaTerms) -> x509.Certificate:
    record = await signing(ca).sign(wanted, issuer_of(ca, issuer), by=OPERATOR, recorded_as="issuing")
    assert record.state is CertificateState.ISSUED and record.certificate_der
    return x509.load_der_x509_certificate(record.certificate_der)


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True, timeout=60)


def pem_file(path: Path, *certificates: x509.Certificate) -> str:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return str(path)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("above", ["ecdsa-root", "rsa-root"])
async def test_openssl_and_pkilint_accept_a_sub_ca_with_all_that_it_can_have(tmp_path: Path, above: str) -> None:
    ca = make_ca()
    wanted = terms(
        path_length=1,
        name_constraints=CONSTRAINTS,
        policies=(CertificatePolicy(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), "https://ca.test/cps"),),
    )
    certificate = await signed(ca, above, wanted)
    sub = pem_file(tmp_path / "sub.pem", certificate)
    root = pem_file(tmp_path / "root.pem", issuer_of(ca, above).certificate)
    verify = ["verify", "-x509_strict", "-purpose", "any", "-attime", str(int(NOW.timestamp())), "-CAfile", root, sub]
    assert openssl(*verify).returncode == 0
    text = openssl("x509", "-in", sub, "-noout", "-text").stdout
    for words in (
        "CA:TRUE, pathlen:1",
        "Certificate Sign, CRL Sign",
        "DNS:example.com",
        "IP:10.0.0.0/255.0.0.0",
        "email:secret.example.com",
        "1.3.6.1.4.1.55555.1",
        f"OCSP - URI:{PUBLICATION.ocsp[0]}",
        f"URI:http://ca.test/ca/{above}/certificate",
        f"URI:http://ca.test/ca/{above}/crl",
    ):
        assert words in text, text
    assert findings("lint_pkix_cert", certificate, tmp_path) == set()
    critical = {extension.oid for extension in certificate.extensions if extension.critical}
    assert critical == {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS}


@pytest_twisted.ensureDeferred
async def test_the_inventory_and_the_audit_chain_know_it() -> None:
    ca = make_ca()
    certificate = await signed(ca, "ecdsa-root", terms())
    (record,) = await ca.store.by_serial(certificate.serial_number, issuer_of(ca, "ecdsa-root").id)
    assert (record.subject, record.profile, record.requester) == ("CN=Sub CA,O=Testers", "issuing", "operator:alice")
    entries = await SqlAuditStore(ca.database, ca.clock).page(None, 100)
    assert [(e.deed, e.who) for e in entries][-1] == ("issue", "alice")


@pytest_twisted.ensureDeferred
async def test_it_ends_with_its_issuer_at_the_latest_and_has_no_more_below_it_than_the_chain_allows() -> None:
    ca = make_ca()
    root = issuer_of(ca, "ecdsa-root").certificate
    begin, end = valid_from(NOW, 50 * YEAR)
    certificate = await signed(ca, "ecdsa-root", terms(not_before=begin - YEAR, not_after=end))
    assert certificate.not_valid_after_utc == root.not_valid_after_utc
    assert certificate.not_valid_before_utc == root.not_valid_before_utc
    with pytest.raises(Refusal, match="no CA below it") as caught:
        await signed(ca, "ecdsa", terms())
    assert caught.value.kind is RefusalKind.UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_an_issuer_whose_certificate_is_not_valid_signs_no_ca() -> None:
    ca = make_ca()
    for moved in (-YEAR, 30 * YEAR):
        ca.clock = FixedClock(NOW + moved)
        with pytest.raises(Refusal, match="not valid now") as caught:
            await signed(ca, "ecdsa-root", terms())
        assert caught.value.kind is RefusalKind.UNAVAILABLE


@pytest_twisted.ensureDeferred
async def test_a_cross_certificate_has_the_name_the_key_and_the_limits_of_the_first(tmp_path: Path) -> None:
    ca = make_ca()
    first = issuer_of(ca, "ecdsa").certificate
    begin, end = valid_from(NOW, YEAR)
    cross = await signed(ca, "rsa-root", cross_terms(first, begin, end))
    assert cross.subject.public_bytes() == first.subject.public_bytes()
    assert cross.public_key() == first.public_key()
    for kind in (x509.SubjectKeyIdentifier, x509.BasicConstraints, x509.KeyUsage):
        assert cross.extensions.get_extension_for_class(kind).value == (
            first.extensions.get_extension_for_class(kind).value
        )
    issued = await ca.authority.issue(request())
    leaf = pem_file(tmp_path / "leaf.pem", x509.load_der_x509_certificate(issued.certificate_der))
    other_root = pem_file(tmp_path / "root.pem", issuer_of(ca, "rsa-root").certificate)
    at = ["-attime", str(int(NOW.timestamp())), "-CAfile", other_root]
    assert openssl("verify", *at, "-untrusted", pem_file(tmp_path / "x.pem", cross), leaf).returncode == 0
    assert openssl("verify", *at, "-untrusted", pem_file(tmp_path / "x.pem", first), leaf).returncode != 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("key_type", ["ecdsa-p384", "rsa-pss-2048", "ed25519", "ml-dsa-44"])
async def test_a_root_of_any_kind_signs_itself(key_type: str) -> None:
    made = hierarchy(key_type)[0]
    key = made.key
    ca = make_ca()
    signer = make_issuers((made,)).all()[0].signer
    der = await signing(ca).self_sign(terms(subject=parse_dn("CN=Root"), public_key=key.public_key()), signer)
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(certificate)
    oids = {extension.oid for extension in certificate.extensions}
    assert ExtensionOID.AUTHORITY_KEY_IDENTIFIER not in oids
    assert ExtensionOID.CRL_DISTRIBUTION_POINTS not in oids


class Broken:
    """A signer that does as it is told."""

    def __init__(self, like: Signer, sign: Any) -> None:
        self.public_key, self.algorithm_der, self._sign = like.public_key, like.algorithm_der, sign

    def sign(self, data: bytes) -> Deferred[bytes]:
        answer: Deferred[bytes] = self._sign(data)
        return answer


@pytest_twisted.ensureDeferred
async def test_what_was_not_signed_well_is_abandoned_and_nobody_sees_it() -> None:
    ca = make_ca()
    root = issuer_of(ca, "ecdsa-root")
    broken = {
        "cannot sign": lambda _: fail(OSError("gone")),
        "signs wrongly": lambda _: succeed(b"nonsense"),
        "token is away": lambda _: fail(Refusal(RefusalKind.UNAVAILABLE, "its token is away")),
    }
    before = await ca.store.inventory(0, 100)
    for words, sign in broken.items():
        signer: Any = Broken(root.signer, sign)
        with pytest.raises(Refusal, match=words) as caught:
            away = dataclasses.replace(root, signer=signer)
            await signing(ca).sign(terms(), away, by=OPERATOR, recorded_as="issuing")
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert await ca.store.inventory(0, 100) == before
    assert await ca.store.abandon_intents(owner=None, before=None) == 0


def test_software_keys_need_no_reactor() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca()
    der = run_now(signing(ca).self_sign(terms(public_key=key.public_key()), SoftwareSigner(key, at_once)))
    assert x509.load_der_x509_certificate(der).public_key() == key.public_key()
