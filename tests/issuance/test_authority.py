"""What the one door lets through, and what is left behind when something fails at any step."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.model.certificates import CertificateState, RevocationReason
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import RevocationRequest, Transaction
from opencertd.model.requester import NameGrant, Proof
from tests.ca import NOW, authorities, dns, make_ca, make_issuers, request, requester, rsa_key, spki_of


@pytest_twisted.ensureDeferred
async def test_a_certificate_has_what_the_profile_says_and_nothing_else() -> None:
    ca = make_ca()
    issued = await ca.authority.issue(request())
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    issuer = ca.issuers.by_name("ecdsa")
    assert issuer
    certificate.verify_directly_issued_by(issuer.certificate)
    by_oid = {extension.oid: extension for extension in certificate.extensions}
    assert set(by_oid) == {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
    assert by_oid[ExtensionOID.BASIC_CONSTRAINTS].value == x509.BasicConstraints(False, None)
    assert by_oid[ExtensionOID.BASIC_CONSTRAINTS].critical
    usage = by_oid[ExtensionOID.KEY_USAGE]
    assert usage.critical and usage.value.digital_signature and not usage.value.key_encipherment
    assert list(by_oid[ExtensionOID.EXTENDED_KEY_USAGE].value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert by_oid[ExtensionOID.AUTHORITY_KEY_IDENTIFIER].value.key_identifier == own
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=1)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=90, seconds=-1)
    point = by_oid[ExtensionOID.CRL_DISTRIBUTION_POINTS].value[0].full_name[0].value
    assert point == "http://ca.test/ca/ecdsa/crl"


@pytest_twisted.ensureDeferred
async def test_the_issuer_fits_the_key_unless_the_profile_names_one() -> None:
    ca = make_ca()
    for key, profile, expected in (
        (rsa_key(), "default", "rsa"),
        (None, "default", "ecdsa"),
        (rsa_key(), "ecdsa", "ecdsa"),
        (None, "rsa", "rsa"),
    ):
        issued = await ca.authority.issue(request(key=key, profile=profile))
        issuer = ca.issuers.by_id(issued.record.issuer_id)
        assert issuer and issuer.name == expected
        usage = x509.load_der_x509_certificate(issued.certificate_der).extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.value.key_encipherment is isinstance(key, rsa.RSAPrivateKey)
        assert issued.chain_der == (issued.certificate_der, issuer.certificate_der)


@pytest_twisted.ensureDeferred
async def test_serials_are_positive_unique_and_hold_128_random_bits() -> None:
    ca = make_ca()
    serials = {(await ca.authority.issue(request())).record.serial for _ in range(20)}
    assert len(serials) == 20
    assert all(serial.bit_length() == 129 for serial in serials)


def common_name(value: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, value)])


FEW = {"requester": requester(NameGrant(patterns=("a.test",))), "names": dns("a.test")}
"""Asked by somebody who may have one name."""

REFUSED: dict[str, tuple[dict[str, Any], RefusalKind]] = {
    "unknown profile": ({"profile": "nope"}, RefusalKind.NOT_FOUND),
    "the daemon's own profile": ({"profile": "daemon-tls"}, RefusalKind.NOT_FOUND),
    "the responder's profile": ({"profile": "ocsp-responder:ecdsa"}, RefusalKind.NOT_FOUND),
    "nobody": ({"subject": x509.Name([]), "names": ()}, RefusalKind.BAD_CSR),
    "name not granted": (
        {"requester": requester(NameGrant(names=frozenset(dns("device.test")))), "names": dns("device.test", "b.test")},
        RefusalKind.REJECTED_NAME,
    ),
    "common name not granted": (
        {"requester": requester(NameGrant(names=frozenset(dns("a.test")))), "names": dns("a.test")},
        RefusalKind.REJECTED_NAME,
    ),
    "no granted name at all": ({**FEW, "subject": parse_dn("O=Admins"), "names": ()}, RefusalKind.REJECTED_NAME),
    "a user id beside a granted name": (
        {**FEW, "subject": parse_dn("CN=a.test,UID=root")},
        RefusalKind.REJECTED_NAME,
    ),
    "a serial number beside a granted name": (
        {**FEW, "subject": parse_dn("CN=a.test,SERIALNUMBER=4711")},
        RefusalKind.REJECTED_NAME,
    ),
    "the CA's own name": (
        {"subject": parse_dn("CN=test ca ECDSA  Issuing CA,O=Testers,C=DE"), "names": ()},
        RefusalKind.REJECTED_NAME,
    ),
    "odd attribute": ({"subject": parse_dn("CN=a,2.5.4.65=pseudonym")}, RefusalKind.REJECTED_NAME),
    **{
        f"subject with {what}": ({"subject": common_name(value), "names": ()}, RefusalKind.REJECTED_NAME)
        for what, value in {
            "NUL": "a.test\0.b.test",
            "an escape": "a\x1b[31m",
            "a line break": "a\nb",
            "reversed text": "a\u202egro",
            "nothing to see": " ",
        }.items()
    },
    "33 attributes": ({"subject": parse_dn(",".join(["OU=a"] * 33))}, RefusalKind.REJECTED_NAME),
    **{
        f"common name that only ends as granted: {value}": (
            {
                "requester": requester(NameGrant(patterns=("*.example.com", "k.test"))),
                "subject": common_name(value),
                "names": (),
            },
            RefusalKind.REJECTED_NAME,
        )
        for value in ("other.org/x.example.com", "other.org x.example.com", "me@x.example.com", "\u212a.test")
    },
    "common name that only looks like a name": (
        {
            "subject": common_name("\u212a.test"),
            "names": dns("k.test"),
            "requester": requester(NameGrant(frozenset(dns("k.test")))),
        },
        RefusalKind.REJECTED_NAME,
    ),
    "two common names": ({"subject": parse_dn("CN=a,CN=b")}, RefusalKind.REJECTED_NAME),
    "101 names": ({"names": dns(*(f"n{n}.test" for n in range(101)))}, RefusalKind.REJECTED_NAME),
    "the CA's own key": ({"key": authorities()[1].key}, RefusalKind.BAD_PUBLIC_KEY),
    "weak key": ({"key": rsa.generate_private_key(65537, 1024)}, RefusalKind.BAD_PUBLIC_KEY),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_written(case: str) -> None:
    changes, kind = REFUSED[case]
    ca = make_ca()
    before = run_now(count(ca.store))
    with pytest.raises(Refusal) as caught:
        run_now(ca.authority.issue(request(**changes)))
    assert caught.value.kind is kind
    assert run_now(count(ca.store)) == before


async def count(store: Any) -> int:
    return len(await store.inventory(0, 1000))


NAME_VALUES = st.from_regex(r"[a-z0-9.*@:/ -]{0,30}", fullmatch=True)


@given(st.lists(st.builds(AltName, st.sampled_from(AltNameKind), NAME_VALUES), max_size=4), st.text(max_size=70))
def test_no_request_gets_a_name_it_was_not_granted(names: list[AltName], common_name: str) -> None:
    ca = CA
    granted = NameGrant(names=frozenset(dns("a.test")), patterns=("*.b.test",))
    try:
        subject = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]) if common_name else x509.Name([])
        )
    except ValueError:
        return
    try:
        issued = run_now(ca.authority.issue(request(subject=subject, names=tuple(names), requester=requester(granted))))
    except Refusal:
        return
    for name in issued.record.names:
        assert granted.covers(name)
    found = x509.load_der_x509_certificate(issued.certificate_der).subject
    for attribute in found:
        value = str(attribute.value).lower()
        assert value == "a.test" or value.endswith(".b.test")


CA = make_ca()


@pytest_twisted.ensureDeferred
async def test_never_past_the_issuer() -> None:
    ca = make_ca()
    issuer = ca.issuers.by_name("ecdsa")
    assert issuer
    end = issuer.certificate.not_valid_after_utc
    ca.clock.advance(end - NOW - timedelta(days=10))
    issued = await ca.authority.issue(request())
    assert x509.load_der_x509_certificate(issued.certificate_der).not_valid_after_utc == end


@pytest.mark.parametrize("step", [timedelta(days=365 * 11), timedelta(days=-2)])
def test_no_issuing_outside_the_issuer_s_validity(step: timedelta) -> None:
    ca = make_ca()
    ca.clock.advance(step)
    with pytest.raises(Refusal) as caught:
        run_now(ca.authority.issue(request()))
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert "clock" in caught.value.detail


class BrokenSigner:
    def __init__(self, signer: Any, answer: Any) -> None:
        self.public_key, self.algorithm_der, self.answer = signer.public_key, signer.algorithm_der, answer

    def sign(self, data: bytes) -> Deferred[bytes]:
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


def broken(answer: Any) -> Issuers:
    def with_broken(issuer: Issuer) -> Issuer:
        return dataclasses.replace(issuer, signer=BrokenSigner(issuer.signer, answer))

    return Issuers(tuple(with_broken(issuer) for issuer in make_issuers().all()))


@pytest.mark.parametrize("answer", [OSError("token gone"), b"\0" * 70, b""], ids=["raises", "wrong", "empty"])
def test_a_failing_or_faulty_signer_leaves_an_abandoned_intent_and_no_certificate(answer: Any) -> None:
    ca = make_ca(issuers=broken(answer))
    with pytest.raises(Refusal) as caught:
        run_now(ca.authority.issue(request(transaction=Transaction("t"))))
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert "token" not in caught.value.detail
    assert run_now(await_(ca.store.by_transaction("t"))) is None


async def await_(deferred: Deferred[Any]) -> Any:
    return await deferred


@pytest_twisted.ensureDeferred
async def test_one_certificate_per_transaction() -> None:
    ca = make_ca()
    asked = request(transaction=Transaction("order:1"))
    first, second = await ca.authority.issue(asked), await ca.authority.issue(asked)
    assert first.certificate_der == second.certificate_der
    windowed = dataclasses.replace(asked, transaction=Transaction("est:1", timedelta(seconds=60)))
    third, fourth = await ca.authority.issue(windowed), await ca.authority.issue(windowed)
    assert third.certificate_der == fourth.certificate_der != first.certificate_der
    ca.clock.advance(timedelta(seconds=61))
    assert (await ca.authority.issue(windowed)).certificate_der != third.certificate_der


def test_who_comes_second_waits_for_the_first() -> None:
    ca = make_ca()
    held: Deferred[bytes] = Deferred()
    real = ca.issuers.by_name("ecdsa")
    assert real

    class Slow(BrokenSigner):
        def sign(self, data: bytes) -> Deferred[bytes]:
            self.answer = data
            return held

    slow = Slow(real.signer, b"")
    slow_ca = make_ca(
        issuers=Issuers(
            tuple(dataclasses.replace(i, signer=slow) if i.name == "ecdsa" else i for i in make_issuers().all())
        )
    )
    asked = request(transaction=Transaction("t"))
    first = Deferred.fromCoroutine(slow_ca.authority.issue(asked))
    second = Deferred.fromCoroutine(slow_ca.authority.issue(asked))
    assert not first.called and not second.called
    real.signer.sign(slow.answer).addCallback(held.callback)
    slow_ca.reactor.advance(0.2)
    one, two = run_now(await_(first)), run_now(await_(second))
    assert one.certificate_der == two.certificate_der


def test_an_intent_of_a_dead_worker_is_abandoned_and_the_transaction_goes_on() -> None:
    never: Deferred[bytes] = Deferred()
    issuers = make_issuers()
    dead = Issuers(tuple(dataclasses.replace(i, signer=Hanging(i.signer, never)) for i in issuers.all()))
    dead_ca = make_ca(issuers=dead)
    asked = request(transaction=Transaction("order:1"))
    Deferred.fromCoroutine(dead_ca.authority.issue(asked))
    alive = make_ca(store=dead_ca.store, database=dead_ca.database)
    waiting = Deferred.fromCoroutine(alive.authority.issue(asked))
    alive.reactor.pump([0.1] * 60)
    with pytest.raises(Refusal) as caught:
        run_now(await_(waiting))
    assert caught.value.kind is RefusalKind.PENDING
    alive.clock.advance(timedelta(seconds=61))
    issued = run_now(alive.authority.issue(asked))
    assert issued.record.state is CertificateState.ISSUED


class Hanging(BrokenSigner):
    def sign(self, data: bytes) -> Deferred[bytes]:
        result: Deferred[bytes] = self.answer
        return result


@pytest_twisted.ensureDeferred
async def test_revocation_happens_once_and_tells_listeners() -> None:
    ca = make_ca()
    told = []
    ca.authority.on_status_changed.append(told.append)
    issued = await ca.authority.issue(request())
    wish = RevocationRequest(
        issued.record.issuer_id, issued.record.serial, RevocationReason.KEY_COMPROMISE, requester()
    )
    record = await ca.authority.revoke(wish)
    assert record.revocation and record.revocation.reason is RevocationReason.KEY_COMPROMISE
    assert [one.serial for one in told] == [issued.record.serial]
    for change, kind in (
        ({}, RefusalKind.ALREADY_REVOKED),
        ({"serial": 1}, RefusalKind.NOT_FOUND),
        ({"issuer_id": "0" * 32}, RefusalKind.NOT_FOUND),
        ({"reason": RevocationReason.REMOVE_FROM_CRL}, RefusalKind.BAD_REVOCATION_REASON),
    ):
        with pytest.raises(Refusal) as caught:
            await ca.authority.revoke(dataclasses.replace(wish, **change))
        assert caught.value.kind is kind
    assert len(told) == 1


@pytest_twisted.ensureDeferred
async def test_recognises_exactly_its_own_certificates() -> None:
    ca = make_ca()
    issued = await ca.authority.issue(request())
    record = await ca.authority.recognise(issued.certificate_der)
    assert record and record.id == issued.record.id
    other = await make_ca().authority.issue(request())
    for foreign in (other.certificate_der, b"", b"garbage", issued.certificate_der + b"\0"):
        assert await ca.authority.recognise(foreign) is None


@pytest_twisted.ensureDeferred
async def test_ca_certificates_are_in_the_inventory() -> None:
    ca = make_ca()
    subjects = [record.subject for record in await ca.store.inventory(0, 10)]
    assert len(subjects) == 4
    assert any("ECDSA Root" in subject for subject in subjects)


@pytest_twisted.ensureDeferred
async def test_only_the_daemon_has_the_daemon_s_profiles() -> None:
    ca = make_ca()
    daemon = requester(proof=Proof.DAEMON, id="daemon")
    issued = await ca.authority.issue(request(profile="ocsp-responder:rsa-root", names=(), requester=daemon))
    extensions = x509.load_der_x509_certificate(issued.certificate_der).extensions
    assert extensions.get_extension_for_class(x509.OCSPNoCheck)
    issuer = ca.issuers.by_id(issued.record.issuer_id)
    assert issuer and issuer.name == "rsa-root"
    assert spki_of(ec.generate_private_key(ec.SECP256R1()))
