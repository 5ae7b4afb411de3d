"""ML-KEM keys (RFC 9935) sign nothing, so no PKCS#10 request can bring one; the core certifies them all the same.

What it is asked by then is an `IssuanceRequest`, whose edge has proven possession in a way of its own.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import der
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.keys.kinds import scheme_of
from tests.ca import hierarchy, make_ca, make_issuers, request, requester, spki_der

MAKERS = {
    "ml-kem-768": (mlkem.MLKEM768PrivateKey, "2.16.840.1.101.3.4.4.2"),
    "ml-kem-1024": (mlkem.MLKEM1024PrivateKey, "2.16.840.1.101.3.4.4.3"),
}


def wish(key: Any, **changes: Any) -> Any:
    return dataclasses.replace(request(**changes), spki_der=spki_der(key.public_key()))


@pytest.mark.parametrize("issuer", ["ecdsa", "ml-dsa-44"])
@pytest.mark.parametrize("kind", MAKERS)
def test_who_holds_the_certificate_can_be_sent_a_secret(kind: str, issuer: str, tmp_path: Path) -> None:
    make, oid = MAKERS[kind]
    key = make.generate()
    ca = make_ca(issuers=make_issuers(hierarchy(issuer)))
    leaf = x509.load_der_x509_certificate(run_now(ca.authority.issue(wish(key))).certificate_der)
    (above,) = ca.issuers.issuing()
    leaf.verify_directly_issued_by(above.certificate)
    public: Any = leaf.public_key()
    secret, ciphertext = public.encapsulate()
    assert key.decapsulate(ciphertext) == secret
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_encipherment and not usage.value.digital_signature  # RFC 9935 §5
    file = tmp_path / "leaf.pem"
    file.write_bytes(leaf.public_bytes(Encoding.PEM))
    command = ["openssl", "x509", "-noout", "-text", "-in", str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "Key Encipherment" in text
    assert oid in text or kind.upper() in text  # OpenSSL before 3.5 has no name for it


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("profile", ["tls-client", "code-signing", "iot-device"])
def test_not_for_what_needs_signatures(kind: str, profile: str) -> None:
    operator = requester(roles=frozenset({"operator"}))
    with pytest.raises(Refusal) as caught:
        run_now(make_ca().authority.issue(wish(MAKERS[kind][0].generate(), profile=profile, requester=operator)))
    assert caught.value.kind in {RefusalKind.BAD_PUBLIC_KEY, RefusalKind.REJECTED_NAME}


@pytest.mark.parametrize("kind", MAKERS)
def test_no_pkcs10_request_can_bring_one(kind: str) -> None:
    """Whoever signed it, it was not that key."""
    key, signer = MAKERS[kind][0].generate(), ec.generate_private_key(ec.SECP256R1())
    info = der.sequence(der.integer(0), der.sequence(), spki_der(key.public_key()), der.tlv(0xA0, b""))
    scheme = scheme_of(signer.public_key())
    signed = der.sequence(info, scheme.algorithm_der, der.bit_string(scheme.sign(signer, info)))
    with pytest.raises(Refusal) as caught:
        parse_csr(signed)
    assert caught.value.kind is RefusalKind.BAD_CSR
