"""What name constraints allow, with OpenSSL as the judge, and what the core therefore refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.ca_certificates import CaTerms, ca_builder, valid_from
from opencertd.issuance.ceremony import NewAuthority, issuer_record
from opencertd.issuance.name_constraints import (
    build_constraints,
    check_name_constraints,
    limits_of,
    parse_subtree,
)
from opencertd.issuance.profiles import general_name
from opencertd.model.certificates import IssuerRole, IssuerState
from opencertd.model.names import AltName, AltNameKind
from tests.ca import NOW, TestCa, authorities, dns, make_ca, make_issuers, request

KEY = ec.generate_private_key(ec.SECP256R1())
YEAR = timedelta(days=365)


def authority(
    name: str,
    above: NewAuthority | None = None,
    permit: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    path_length: int | None = None,
    begin: timedelta = timedelta(0),
) -> NewAuthority:
    """A CA as one could be brought to us: nobody has kept it from contradicting its parents."""
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = build_constraints(map(parse_subtree, permit), map(parse_subtree, exclude))
    not_before, not_after = valid_from(NOW + begin, 5 * YEAR)
    terms = CaTerms(
        parse_dn(f"CN={name},O=Example,C=DE"), key.public_key(), not_before, not_after, path_length, constraints
    )
    signer = above or NewAuthority(issuer_record(name, IssuerRole.ROOT, _any()), key)
    certificate = ca_builder(
        terms,
        x509.random_serial_number(),
        issuer=_certificate(above).subject if above else None,
        issuer_key_identifier=_identifier(above) if above else None,
    ).sign(signer.key, hashes.SHA256())
    role = IssuerRole.ISSUING if above else IssuerRole.ROOT
    return NewAuthority(issuer_record(name, role, certificate, parent_id=above.record.id if above else None), key)


def _any() -> x509.Certificate:
    return _certificate(authorities()[0])


def _certificate(made: NewAuthority) -> x509.Certificate:
    return x509.load_der_x509_certificate(made.record.certificate_der)


def _identifier(made: NewAuthority) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(made.key.public_key()).digest


def ca_of(*made: NewAuthority, **changes: Any) -> TestCa:
    kept = [dataclasses.replace(one, record=dataclasses.replace(one.record, **changes)) for one in made[-1:]]
    return make_ca(issuers=make_issuers((*made[:-1], *kept)))


def names(*texts: str) -> tuple[AltName, ...]:
    return tuple(AltName(AltNameKind(kind), value) for kind, _, value in (text.partition(":") for text in texts))


CASES: tuple[tuple[tuple[str, ...], tuple[str, ...], str, tuple[str, ...], bool], ...] = (
    (("dns:example.com",), (), "", ("dns:www.example.com",), True),
    (("dns:example.com",), (), "", ("dns:example.com", "dns:*.a.example.com"), True),
    (("dns:example.com",), (), "", ("dns:www.example.com", "dns:www.example.org"), False),
    (("dns:example.com",), (), "", ("dns:badexample.com",), False),
    (("dns:EXAMPLE.com",), (), "", ("dns:www.example.com",), True),
    (("dns:example.com",), ("dns:secret.example.com",), "", ("dns:www.example.com",), True),
    (("dns:example.com",), ("dns:secret.example.com",), "", ("dns:x.secret.example.com",), False),
    (("dns:example.com",), (), "", ("ip:192.0.2.1",), True),
    (("ip:10.0.0.0/8",), (), "", ("ip:10.1.2.3", "dns:www.example.org"), True),
    (("ip:10.0.0.0/8",), (), "", ("ip:11.1.2.3",), False),
    (("ip:10.0.0.0/8",), (), "", ("ip:2001:db8::1",), False),
    ((), ("ip:2001:db8::/32",), "", ("ip:2001:db8::1",), False),
    ((), ("ip:2001:db8::/32",), "", ("ip:2001:db9::1",), True),
    (("email:example.com",), (), "", ("email:ann@example.com",), True),
    (("email:example.com",), (), "", ("email:ann@sub.example.com",), False),
    (("email:.example.com",), (), "", ("email:ann@sub.example.com",), True),
    (("email:ann@example.com",), (), "", ("email:bob@example.com",), False),
    (("uri:.example.com",), (), "", ("uri:https://www.example.com/x",), True),
    (("uri:.example.com",), (), "", ("uri:https://example.com/x",), False),
    (("uri:example.com",), (), "", ("uri:https://example.org/x",), False),
    ((), ("uri:example.com",), "", ("uri:https://example.com:8443/x",), False),
    (("dir:O=Example,C=DE",), (), "CN=ann,O=Example,C=DE", (), True),
    (("dir:O=Example,C=DE",), (), "CN=ann,O=Other,C=DE", (), False),
    ((), ("dir:OU=x,O=Example,C=DE",), "CN=ann,OU=x,O=Example,C=DE", (), False),
    (("dns:example.com",), (), "CN=www.example.org", (), False),
    (("dns:example.com",), (), "CN=ann", (), True),
    (("email:example.com",), (), "CN=ann,EMAIL=ann@example.org", (), False),
)


def leaf(above: NewAuthority, subject: x509.Name, alt_names: tuple[AltName, ...]) -> x509.Certificate:
    """A certificate with no regard to any constraint."""
    builder = (
        x509.CertificateBuilder()
        .serial_number(1)
        .issuer_name(_certificate(above).subject)
        .subject_name(subject)
        .public_key(KEY.public_key())
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR)
        .add_extension(x509.AuthorityKeyIdentifier(_identifier(above), None, None), critical=False)
    )
    if alt_names:
        general = x509.SubjectAlternativeName([general_name(name) for name in alt_names])
        builder = builder.add_extension(general, critical=not subject.rdns)
    return builder.sign(above.key, hashes.SHA256())


def openssl_accepts(directory: Path, certificate: x509.Certificate, *chain: NewAuthority) -> bool:
    def keep(name: str, *certificates: x509.Certificate) -> Path:
        path = directory / name
        path.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
        return path

    command = ["openssl", "verify", "-attime", str(int(NOW.timestamp()) + 60)]
    command += ["-CAfile", str(keep("root.pem", _certificate(chain[0])))]
    command += ["-untrusted", str(keep("above.pem", *map(_certificate, chain[1:])))] if chain[1:] else []
    command.append(str(keep("leaf.pem", certificate)))
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: hashlib.sha256(repr(case).encode()).hexdigest()[:6])
def test_the_rules_are_openssls(tmp_path: Path, case: Any) -> None:
    permit, exclude, subject_text, name_texts, allowed = case
    subject = parse_dn(subject_text) if subject_text else x509.Name([])
    root = authority("root", permit=permit, exclude=exclude)
    refused = None
    try:
        check_name_constraints(limits_of([_certificate(root)]), subject, names(*name_texts))
    except Refusal as refusal:
        refused = refusal
    assert (refused is None) is allowed, case
    assert openssl_accepts(tmp_path, leaf(root, subject, names(*name_texts)), root) is allowed, case


def test_a_wildcard_may_not_stand_for_an_excluded_host() -> None:
    """OpenSSL overlooks it; the holder of *.example.com would be taken for secret.example.com all the same."""
    root = authority("root", exclude=("dns:secret.example.com",))
    limits = limits_of([_certificate(root)])
    check_name_constraints(limits, x509.Name([]), dns("*.a.example.com", "www.example.com"))
    with pytest.raises(Refusal, match=r"excluded by dns:secret\.example\.com"):
        check_name_constraints(limits, x509.Name([]), dns("*.example.com"))


@pytest.mark.parametrize("text", ["example.com", "dns:", "dns:a b", "ip:10.0.0.1/8", "ip:x", "dir:nobody", "other:x"])
def test_a_subtree_that_is_none_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=":"):
        parse_subtree(text)


@pytest_twisted.ensureDeferred
async def test_the_core_refuses_a_name_outside_and_names_the_constraint() -> None:
    root = authority("test-root", exclude=("dns:secret.example.com",))
    office = authority("office", root, permit=("dns:example.com", "dir:O=Example,C=DE"))
    ca = ca_of(root, office)
    subject = parse_dn("CN=www.example.com,O=Example,C=DE")
    await ca.authority.issue(request(names=dns("www.example.com"), subject=subject))
    for asked, of, words in (
        (
            {"names": dns("www.example.org"), "subject": x509.Name([])},
            "CN=office",
            "permitted are only dns:example.com",
        ),
        ({"names": dns("secret.example.com"), "subject": x509.Name([])}, "CN=test-root", "excluded by dns:secret"),
        (
            {"names": dns("a.example.com"), "subject": parse_dn("CN=a.example.com")},
            "CN=office",
            "only dir:O=Example,C=DE",
        ),
    ):
        with pytest.raises(Refusal, match=words) as caught:
            await ca.authority.issue(request(**asked))
        assert caught.value.kind is RefusalKind.REJECTED_NAME
        assert of in caught.value.detail


@pytest_twisted.ensureDeferred
async def test_an_issuer_that_may_not_sign_says_why() -> None:
    root = authority("test-root")
    office = authority("office", root)
    later = authority("later", begin=timedelta(days=1))
    revoked_root = dataclasses.replace(root, record=dataclasses.replace(root.record, state=IssuerState.REVOKED))
    for made, changes, words in (
        ((root, office), {"key_reference": None}, "its key is not here"),
        ((root, later), {"role": IssuerRole.ISSUING}, "begins only on 2026-06-02"),
        ((revoked_root, office), {}, "the CA 'test-root' above it is revoked"),
        ((root, office), {"state": IssuerState.RETIRED}, "no issuer that signs"),
        ((root, office), {"state": IssuerState.REVOKED}, "no issuer that signs"),
    ):
        ca = ca_of(*made, **changes)
        with pytest.raises(Refusal, match=words) as caught:
            await ca.authority.issue(request())
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    ca = ca_of(root, office)
    ca.clock.advance(6 * YEAR)
    with pytest.raises(Refusal, match=r"expired, on 2031-"):
        await ca.authority.issue(request())
    ca.clock.advance(-12 * YEAR)
    with pytest.raises(Refusal, match="check the clock"):
        await ca.authority.issue(request())


@pytest_twisted.ensureDeferred
async def test_a_chain_with_more_cas_than_it_allows_issues_nothing(tmp_path: Path) -> None:
    root = authority("test-root", path_length=0)
    office = authority("office", root)
    assert not openssl_accepts(tmp_path, leaf(office, x509.Name([]), dns("device.test")), root, office)
    with pytest.raises(Refusal, match="pathLenConstraint") as caught:
        await ca_of(root, office).authority.issue(request())
    assert caught.value.kind is RefusalKind.UNAVAILABLE
