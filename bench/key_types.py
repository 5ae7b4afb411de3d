"""What each key type costs: octets of what is sent around, microseconds of what is computed.

One thread, no network; certificates are issued by the real core (checks, lint, signature, its verification) over an
SQLite database in memory. `python -m bench.key_types` prints the table alone.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from twisted.internet.defer import Deferred

from bench.markdown import markdown
from opencertd.asn1 import ocsp as ocsp_asn1
from opencertd.asn1.ocsp import CertStatus
from opencertd.first_start import run_now
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.key_types import parse_key_type
from opencertd.keys.kinds import PrivateKey, scheme_by_algorithm
from tests.ca import NOW, TestCa, hierarchy, make_ca, make_csr, make_issuers, request, spki_der

TYPES = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "rsa-pss-3072")
TYPES = (*TYPES, "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")

COLUMNS = (
    ("CA and subject key", "name", "<18"),
    ("public key", "public_key", ">10,"),
    ("signature", "signature", ">9,"),
    ("CSR", "csr", ">7,"),
    ("certificate", "certificate", ">11,"),
    ("OCSP answer", "ocsp_answer", ">11,"),
    ("make a key, ms", "make_ms", ">14,.1f"),
    ("sign, µs", "sign_us", ">8,.0f"),
    ("verify, µs", "verify_us", ">10,.0f"),
    ("issue, ms", "issue_ms", ">9,.2f"),
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """One key type; times are the best of five rounds, the mean for making a key.

    Octets of DER: `public_key` (SubjectPublicKeyInfo), `signature` (bare), `csr`, `certificate` (a leaf with one name
    and URLs), `ocsp_answer` (with its responder's certificate).
    """

    name: str
    public_key: int
    signature: int
    csr: int
    certificate: int
    ocsp_answer: int
    make_ms: float
    sign_us: float
    verify_us: float
    issue_ms: float


def measure(seconds: float, types: Sequence[str] = TYPES) -> Iterator[Cost]:
    """The cost of each type, spending about so many seconds on each number."""
    for name in types:
        authorities = hierarchy(name)
        yield _cost(name, authorities[-1].key, make_ca(issuers=make_issuers(authorities)), seconds)


def _cost(name: str, key: PrivateKey, ca: TestCa, seconds: float) -> Cost:
    (issuer,) = ca.issuers.issuing()
    scheme = scheme_by_algorithm(issuer.signer.public_key, issuer.signer.algorithm_der)
    subject_key = parse_key_type(name).issuing.make()
    leaf = _issue(ca, subject_key)
    signature = scheme.sign(key, leaf)
    public = key.public_key()
    return Cost(
        name=name,
        public_key=len(spki_der(public)),
        signature=len(signature),
        csr=len(make_csr(subject_key)),
        certificate=len(leaf),
        ocsp_answer=len(_answer(ca, issuer, leaf)),
        make_ms=statistics.fmean(_rounds(parse_key_type(name).issuing.make, seconds)) * 1e3,
        sign_us=min(_rounds(lambda: scheme.sign(key, leaf), seconds)) * 1e6,
        verify_us=min(_rounds(lambda: scheme.verifies(public, signature, leaf), seconds)) * 1e6,
        issue_ms=min(_rounds(lambda: _issue(ca, subject_key), seconds)) * 1e3,
    )


def _issue(ca: TestCa, key: PrivateKey) -> bytes:
    return run_now(ca.authority.issue(request(key=key))).certificate_der


def _answer(ca: TestCa, issuer: Issuer, leaf_der: bytes) -> bytes:
    """By a responder whose certificate is as large as the leaf: it has the same kind of key and of issuer."""
    leaf = x509.load_der_x509_certificate(leaf_der)
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer.certificate, hashes.SHA1()).build()
    (cert_id,) = ocsp_asn1.parse_request(asked.public_bytes(Encoding.DER)).cert_ids
    single = ocsp_asn1.encode_single_response(cert_id.der, CertStatus.GOOD.value, NOW, NOW + timedelta(hours=1))
    data = ocsp_asn1.encode_response_data(ocsp_asn1.responder_id(leaf_der), NOW, [single], None)
    signature = run_now(_signature(issuer.signer.sign(data)))
    return ocsp_asn1.encode_response(data, issuer.signer.algorithm_der, signature, ocsp_asn1.encode_certs(leaf_der))


async def _signature(signing: Deferred[bytes]) -> bytes:
    return await signing


def _rounds(deed: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of one deed in each of five rounds, which take about `seconds` together."""
    began = time.perf_counter()
    deed()
    once = time.perf_counter() - began
    count = max(1, int(seconds / 5 / once))
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(count):
            deed()
        rounds.append((time.perf_counter() - began) / count)
    return rounds


if __name__ == "__main__":
    print(markdown(COLUMNS, measure(1.0)))
