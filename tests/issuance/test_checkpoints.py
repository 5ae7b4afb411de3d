"""Checkpoints hold by a key for nothing else, certified by the CA; OpenSSL reads them as this program does."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    encode_line,
    fault_of,
    parse_line,
    sign_checkpoint,
)
from opencertd.issuance.issuers import Issuers
from opencertd.model.requester import Proof
from tests.ca import NOW, hierarchy, make_ca, make_issuers, request, requester

ensure = pytest_twisted.ensureDeferred

CHECKPOINT = Checkpoint(7, bytes(range(32)), NOW, "0123456789abcdef")
DAEMON = requester(proof=Proof.DAEMON)
CA_CERTIFICATES = [issuer.certificate for issuer in make_issuers().all()]


def signed(
    checkpoint: Checkpoint = CHECKPOINT, profile: str = "audit-checkpoint", issuers: Issuers | None = None
) -> SignedCheckpoint:
    key = ec.generate_private_key(ec.SECP256R1())
    wish = request(key=key, profile=profile, names=(), subject=parse_dn("CN=Audit checkpoints"), requester=DAEMON)
    issued = run_now(make_ca(issuers=issuers).authority.issue(wish))
    return sign_checkpoint(checkpoint, x509.load_der_x509_certificate(issued.certificate_der), key)


def test_a_checkpoint_by_the_cas_key_for_checkpoints_is_good_and_survives_its_line() -> None:
    made = signed()
    line = encode_line(made)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse_line(line) == made
    assert fault_of(made, CA_CERTIFICATES) is None


@pytest.mark.parametrize("key_type", ["rsa-pss", "ed25519", "ml-dsa-65"])
def test_it_is_good_under_a_ca_of_any_kind(key_type: str) -> None:
    issuers = make_issuers(hierarchy(key_type))
    assert fault_of(signed(issuers=issuers), [issuer.certificate for issuer in issuers.all()]) is None


def test_openssl_verifies_the_signature_over_the_documented_lines(tmp_path: Path) -> None:
    made = signed()
    lines = ["opencertd audit checkpoint 1", "7", bytes(range(32)).hex(), "2026-06-01T12:00:00Z", "0123456789abcdef"]
    (tmp_path / "data").write_text("\n".join(lines) + "\n")
    (tmp_path / "signature").write_bytes(made.signature)
    key = x509.load_der_x509_certificate(made.certificate_der).public_key()
    (tmp_path / "key").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "data"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == b"Verified OK\n"


FORGERIES: dict[str, Callable[[SignedCheckpoint], SignedCheckpoint]] = {
    "sequence": lambda s: dataclasses.replace(s, checkpoint=dataclasses.replace(CHECKPOINT, sequence=8)),
    "hash": lambda s: dataclasses.replace(s, checkpoint=dataclasses.replace(CHECKPOINT, hash=bytes(32))),
    "time": lambda s: dataclasses.replace(s, checkpoint=dataclasses.replace(CHECKPOINT, at=NOW + timedelta(seconds=1))),
    "node": lambda s: dataclasses.replace(s, checkpoint=dataclasses.replace(CHECKPOINT, node="other")),
    "signature": lambda s: dataclasses.replace(s, signature=b"no signature"),
    "another's signature": lambda s: dataclasses.replace(s, signature=signed().signature),
    "no certificate": lambda s: dataclasses.replace(s, certificate_der=b"none"),
    "the CA's certificate": lambda s: dataclasses.replace(
        s, certificate_der=CA_CERTIFICATES[1].public_bytes(Encoding.DER)
    ),
    "a server's key": lambda _: signed(profile="default"),
    "before its certificate": lambda _: signed(dataclasses.replace(CHECKPOINT, at=NOW - timedelta(days=1))),
    "after its certificate": lambda _: signed(dataclasses.replace(CHECKPOINT, at=NOW + timedelta(days=366))),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_told(forgery: str) -> None:
    assert fault_of(FORGERIES[forgery](signed()), CA_CERTIFICATES)


def test_another_cas_checkpoint_is_worth_nothing_here() -> None:
    assert fault_of(signed(), [CA_CERTIFICATES[0]]) == "its certificate is not by this CA"


def test_clients_cannot_have_a_certificate_for_checkpoints() -> None:
    with pytest.raises(Refusal) as caught:
        run_now(make_ca().authority.issue(request(profile="audit-checkpoint")))
    assert caught.value.kind is RefusalKind.NOT_FOUND


@given(st.binary(max_size=60) | st.builds(lambda n: encode_line(signed_once())[:n], st.integers(0, 700)))
def test_what_is_no_line_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        parse_line(line)


_ONCE: list[SignedCheckpoint] = []


def signed_once() -> SignedCheckpoint:
    if not _ONCE:
        _ONCE.append(signed())
    return _ONCE[0]
