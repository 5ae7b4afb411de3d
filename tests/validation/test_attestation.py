"""device-attest-01: what a real TPM certifies, what Apple's and YubiKeys' statements look like, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opencertd.asn1 import der, other_names
from opencertd.model.devices import DeviceName
from opencertd.validation.attestation import AttestationQuestion, Attested, judge_attestation
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.tpm import BOUND, Tpm, TpmKey, software_tpm
from tests.validation.devices import (
    AIK,
    NOW,
    Ca,
    attestation,
    cbor,
    device_names,
    issue,
    make_ca,
    other,
    sha256,
)

__all__ = ["software_tpm"]

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
ROOT = make_ca("Maker Root")
MIDDLE = make_ca("Maker Devices", ROOT)
STRANGER = make_ca("Maker Root")  # of the same name
ROOTS = dict.fromkeys(("tpm", "apple", "step"), (ROOT.certificate,))


def question(serial: str, oid: str | None = None, *, hardware: bool = False) -> AttestationQuestion:
    return AttestationQuestion(DeviceName(serial, oid), hardware, TOKEN, AUTHORIZATION)


def judge(asked: AttestationQuestion, made: bytes, roots: Any = None, later: timedelta = timedelta(0)) -> Any:
    return judge_attestation(asked, made, ROOTS if roots is None else roots, NOW + later)


def refused(answer: Any, *words: str) -> None:
    assert isinstance(answer, FailedProof) and answer.kind is FailureKind.BAD_ATTESTATION, answer
    for word in words:
        assert word in answer.detail, answer.detail


def spki(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


# --- step ---


def step(
    key: Any = None, serial: int = 12345678, by: Ca = MIDDLE, says: str = AUTHORIZATION, **more: Any
) -> dict[str, Any]:
    """A statement as YubiKeys make it."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    leaf = issue(
        key.public_key(), "YubiKey PIV Attestation 9c", by, other("1.3.6.1.4.1.41482.3.7", der.integer(serial)), **more
    )
    match key:
        case ec.EllipticCurvePrivateKey():
            signature = key.sign(says.encode(), ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            signature = key.sign(says.encode(), padding.PKCS1v15(), hashes.SHA256())
        case _:
            signature = key.sign(says.encode())
    return {"sig": cbor(signature), "x5c": [leaf.public_bytes(Encoding.DER), by.der], "alg": -7}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
def test_a_yubikey_answers_with_the_key_itself(make: Any) -> None:
    key = make()
    assert judge(question("12345678"), attestation("step", step(key))) == Attested(
        spki(key.public_key()), frozenset({DeviceName("12345678")})
    )


def test_an_agent_of_step_names_its_device() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    extension = other("1.3.6.1.4.1.37476.9000.64.4", der.sequence(der.tlv(0x0C, b"laptop-17")))
    leaf = issue(key.public_key(), "", ROOT, extension)
    signature = cbor(key.sign(AUTHORIZATION.encode(), ec.ECDSA(hashes.SHA256())))
    made = attestation("step", {"sig": signature, "x5c": [leaf.public_bytes(Encoding.DER)]})
    assert isinstance(judge(question("laptop-17"), made), Attested)
    refused(judge(question("laptop-18"), made), "not of the device laptop-18")


def changed(**values: Any) -> bytes:
    """A good `step` statement with other values; None takes a key away."""
    statement = {**step(), **values}
    return attestation("step", {key: value for key, value in statement.items() if value is not None})


class TestRefusals:
    def test_of_another_challenge_or_account(self) -> None:
        refused(
            judge(question("12345678"), attestation("step", step(says=AUTHORIZATION[:-1] + "x"))), "signature is wrong"
        )
        other_account = replace(question("12345678"), key_authorization=f"{TOKEN}.other")
        refused(judge(other_account, attestation("step", step())), "signature is wrong")

    def test_of_another_device(self) -> None:
        made = attestation("step", step(serial=1))
        for asked in (question("12345678"), question("1", "1.2.3"), question("1", hardware=True), question("01")):
            refused(judge(asked, made), "not of the device")

    @pytest.mark.parametrize(
        ("made", "words"),
        [
            (b"", "ends too soon"),
            (b"{}", "refused"),
            (cbor([]), "no attestation object"),
            (cbor({"fmt": "step"}), "no attestation object"),
            (cbor({"fmt": 5, "attStmt": {}}), "the format '5' is not taken here; apple, step, tpm are"),
            (attestation("packed", {}), "the format 'packed'"),
            (attestation("none", {}), "the format 'none'"),
            (attestation("step", {}), "no x5c"),
            (changed(x5c=[]), "1 to 6 certificates"),
            (changed(x5c=["text"]), "1 to 6 certificates"),
            (changed(x5c=[b"text"]), "cannot be read"),
            (changed(x5c=[ROOT.der]), "is a CA's"),
            (changed(sig=None), "no sig"),
            (changed(sig=b""), "no sig"),
            (changed(sig=b"\x30\x06"), "refused"),
            (changed(sig=cbor("x")), "no CBOR byte string"),
            (changed(sig=cbor(b"x")), "signature is wrong"),
            (attestation("step", step()) + b"\x00", "octets follow"),
            (bytes(40000), "longer than"),
        ],
    )
    def test_of_what_is_malformed(self, made: bytes, words: str) -> None:
        refused(judge(question("12345678"), made), words)

    def test_of_a_format_without_roots_here(self) -> None:
        refused(judge(question("12345678"), attestation("step", step()), {"apple": (ROOT.certificate,)}), "'step'")

    def test_of_another_makers_chain(self) -> None:
        made = attestation("step", step())
        for roots in ((), (STRANGER.certificate,), (make_ca("other").certificate,)):
            refused(judge(question("12345678"), made, {"step": roots}), "does not lead to a root")
        leaf_alone = changed(x5c=step()["x5c"][:1])
        refused(judge(question("12345678"), leaf_alone), "does not lead to a root")

    def test_of_chains_that_their_own_certificates_forbid(self) -> None:
        short = make_ca("short", ROOT, length=0)
        below = make_ca("below", short)
        statement = step(by=below)
        statement["x5c"] = [*statement["x5c"], short.der]
        refused(judge(question("12345678"), attestation("step", statement)), "does not lead")
        key = ec.generate_private_key(ec.SECP256R1())
        fake = Ca(issue(key.public_key(), "no CA", ROOT), key)
        refused(judge(question("12345678"), attestation("step", step(by=fake))), "does not lead")
        weak_basic = (x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(True, *[False] * 8)
        weak = Ca(issue(key.public_key(), "signs no certificates", ROOT, weak_basic, (usage, True)), key)
        refused(judge(question("12345678"), attestation("step", step(by=weak))), "does not lead")

    def test_before_and_after_its_time(self) -> None:
        made = attestation("step", step())
        assert isinstance(judge(question("12345678"), made, later=timedelta(days=8)), Attested)
        for days in (-2, 10):
            refused(judge(question("12345678"), made, later=timedelta(days=days)), "not valid now")

    def test_of_critical_extensions_that_nobody_understands(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        strange = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
        leaf = issue(key.public_key(), "x", ROOT, strange)
        made = changed(x5c=[leaf.public_bytes(Encoding.DER)])
        refused(judge(question("12345678"), made), "critical extension 1.2.3.4")


# --- apple ---


def apple(says: str = TOKEN, **names: str) -> tuple[Any, bytes]:
    key = ec.generate_private_key(ec.SECP384R1())
    oids = {"serial": "9.1", "udid": "9.2"}
    extensions = [other(f"1.2.840.113635.100.8.{oids[kind]}", value.encode()) for kind, value in names.items()]
    leaf = issue(key.public_key(), "device", MIDDLE, *extensions, other("1.2.840.113635.100.8.11.1", sha256(says)))
    return key, attestation("apple", {"x5c": [leaf.public_bytes(Encoding.DER), MIDDLE.der]})


def test_an_apple_device_is_named_by_serial_number_and_udid() -> None:
    key, made = apple(serial="C02ZZ0", udid="00008110-0009")
    for asked in ("C02ZZ0", "00008110-0009"):
        found = judge(question(asked), made)
        assert isinstance(found, Attested) and found.spki_der == spki(key.public_key())
    refused(judge(question("c02zz0"), made), "not of the device")


def test_apple_must_have_signed_for_this_challenge() -> None:
    refused(judge(question("C02ZZ0"), apple("another token", serial="C02ZZ0")[1]), "nonce")
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = issue(key.public_key(), "x", ROOT, other("1.2.840.113635.100.8.9.1", b"C02ZZ0"))
    made = attestation("apple", {"x5c": [leaf.public_bytes(Encoding.DER)]})
    refused(judge(question("C02ZZ0"), made), "nonce")


# --- tpm ---

PERMANENT = other_names.encode_permanent_identifier(DeviceName("TPM-7", "2.23.133.5"))
MODULE = other_names.encode_hardware_module(DeviceName("chip 9", "1.3.6.1.4.1.9999.1"))
NAMES = device_names((other_names.PERMANENT_IDENTIFIER, PERMANENT), (other_names.HARDWARE_MODULE, MODULE))
FOR_AK = (x509.ExtendedKeyUsage([AIK]), False)


class Keys:
    """An attestation key with its certificate, and a key to attest."""

    def __init__(self, tpm: Tpm, kind: str, hash_: str, alg: int, subject: TpmKey | None = None) -> None:
        self.tpm = tpm
        self.alg = alg
        self.hash = hash_
        self.attester = tpm.key(kind, f"{BOUND}|restricted")
        self.subject = subject or tpm.key("ecc")
        self.certificate = self.certified(NAMES, FOR_AK)

    def certified(self, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        key: Any = load_pem_public_key(self.attester.pem)
        return issue(key, "", MIDDLE, *extensions).public_bytes(Encoding.DER)

    def statement(self, says: str = AUTHORIZATION, **changes: Any) -> dict[str, Any]:
        import hashlib

        info, signature = self.tpm.certify(self.subject, self.attester, hashlib.new(self.hash, says.encode()).digest())
        made = {
            "ver": "2.0",
            "alg": self.alg,
            "x5c": [self.certificate, MIDDLE.der],
            "sig": signature,
            "certInfo": info,
            "pubArea": self.subject.public,
        }
        return {**made, **changes}


@pytest.fixture(name="keys")
def fresh(software_tpm: Tpm) -> Keys:
    return Keys(software_tpm, "ecc:ecdsa-sha256:null", "sha256", -7)


KINDS = [
    ("ecc:ecdsa-sha256:null", "sha256", -7, "ecc"),
    ("ecc384:ecdsa-sha384:null", "sha384", -35, "ecc384"),
    ("rsa2048:rsassa-sha256:null", "sha256", -257, "rsa2048"),
    ("ecc:ecdsa-sha256:null", "sha256", -7, "rsa2048:rsapss-sha256:null"),
]


@pytest.mark.parametrize(("kind", "hash_", "alg", "subject"), KINDS)
def test_what_a_tpm_certifies_is_taken(software_tpm: Tpm, kind: str, hash_: str, alg: int, subject: str) -> None:
    made = Keys(software_tpm, kind, hash_, alg, software_tpm.key(subject))
    found = judge(question("TPM-7", "2.23.133.5"), attestation("tpm", made.statement()))
    key: Any = load_pem_public_key(made.subject.pem)  # as tpm2-tools tell it
    assert isinstance(found, Attested) and found.spki_der == spki(key)
    assert load_der_public_key(found.spki_der) == key


def test_a_tpm_is_known_as_a_module_too_and_only_by_whole_names(keys: Keys) -> None:
    made = attestation("tpm", keys.statement())
    assert isinstance(judge(question("chip 9", "1.3.6.1.4.1.9999.1", hardware=True), made), Attested)
    for asked in (
        question("TPM-7"),
        question("TPM-7", "2.23.133.6"),
        question("TPM-7", "2.23.133.5", hardware=True),
        question("chip 9", "1.3.6.1.4.1.9999.1"),
    ):
        refused(judge(asked, made), "not of the device")


ASKED = question("TPM-7", "2.23.133.5")


def test_a_tpm_must_have_certified_this_key_for_this_challenge(keys: Keys, software_tpm: Tpm) -> None:
    refused(judge(ASKED, attestation("tpm", keys.statement("another"))), "extraData")
    another = software_tpm.key("ecc")
    refused(judge(ASKED, attestation("tpm", keys.statement(pubArea=another.public))), "pubArea")
    own = Keys(software_tpm, "ecc:ecdsa-sha256:null", "sha256", -7)
    refused(judge(ASKED, attestation("tpm", keys.statement(x5c=[own.certificate, MIDDLE.der]))), "signature is wrong")


def test_a_key_that_can_leave_its_tpm_is_refused(keys: Keys, software_tpm: Tpm) -> None:
    loose = software_tpm.key("ecc", "userwithauth|sign|sensitivedataorigin")
    made = Keys(software_tpm, "ecc:ecdsa-sha256:null", "sha256", -7, loose)
    refused(judge(ASKED, attestation("tpm", made.statement())), "not bound to its TPM")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ver": "1.2"}, "version"),
        ({"alg": -65535}, "algorithm"),
        ({"alg": None}, "algorithm"),
        ({"alg": "ES256"}, "algorithm"),
        ({"sig": b"\x00"}, "ends too soon"),
        ({"certInfo": b"\xff"}, "signature is wrong"),
        ({"pubArea": b"\x00\x23"}, "ends too soon"),
        ({"pubArea": None}, "no pubArea"),
    ],
)
def test_tpm_statements_that_are_malformed(keys: Keys, changes: dict[str, Any], words: str) -> None:
    refused(judge(ASKED, attestation("tpm", keys.statement(**changes))), words)


def test_only_attestation_keys_attest(keys: Keys) -> None:
    for extensions in ((NAMES,), (NAMES, (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), False))):
        made = keys.statement(x5c=[keys.certified(*extensions), MIDDLE.der])
        refused(judge(ASKED, attestation("tpm", made)), "tcg-kp-AIKCertificate")
    made = keys.statement(x5c=[keys.certified(FOR_AK), MIDDLE.der])
    refused(judge(ASKED, attestation("tpm", made)), "not of the device")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_an_octet_passes_or_breaks(data: st.DataObject, keys: Keys) -> None:
    """Of a TPM's statement: whatever is flipped, cut or inserted, the answer is a refusal or the same key."""
    good = _GOOD.setdefault(keys.certificate, attestation("tpm", keys.statement()))
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    octet = bytes([data.draw(st.integers(0, 255))])
    made = good[:at] + {"flip": octet, "cut": b"", "insert": octet + good[at : at + 1]}[how] + good[at + 1 :]
    answer, right = judge(ASKED, made), judge(ASKED, good)
    assert isinstance(right, Attested)
    assert isinstance(answer, FailedProof) or answer.spki_der == right.spki_der


_GOOD: dict[bytes, bytes] = {}


@given(st.binary(max_size=300))
def test_garbage_is_refused_in_words(made: bytes) -> None:
    refused(judge(ASKED, made))
