"""A whole daemon and a TPM: a key that never leaves it gets a certificate, and no other key does."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from opencertd.asn1 import der
from tests.interop.acme_client import AcmeClient, AcmeError, b64url
from tests.interop.acme_load import connection_to
from tests.interop.site import Site, site
from tests.tpm import BOUND, Tpm, TpmKey, software_tpm
from tests.validation.devices import AIK, Ca, attestation, device_names, issue, make_ca

__all__ = ["software_tpm"]

TODAY = datetime.now(UTC)
AROUND = {"begins": TODAY - timedelta(days=1), "ends": TODAY + timedelta(days=9)}
MAKER: Ca = make_ca("Our TPMs", **AROUND)
SERIAL = "TPM-7"
PERMANENT_IDENTIFIER = "1.3.6.1.5.5.7.8.3"
NAME = der.sequence(der.tlv(0x0C, SERIAL.encode()))  # RFC 4043 §2


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("fleet")
    roots = directory / "roots.pem"
    roots.write_bytes(MAKER.certificate.public_bytes(Encoding.PEM))
    with site(directory, workers=2, settings=f'[validation]\nattestation = {{ tpm = ["{roots}"] }}\n') as made:
        yield made


def attested(tpm: Tpm, key: TpmKey, says: str) -> bytes:
    """WebAuthn §8.3: what a TPM says of its key, by an attestation key that the maker's CA has certified."""
    attester = tpm.key("ecc:ecdsa-sha256:null", f"{BOUND}|restricted")
    public: Any = load_pem_public_key(attester.pem)
    purpose = (x509.ExtendedKeyUsage([AIK]), False)
    certificate = issue(public, "", MAKER, device_names((PERMANENT_IDENTIFIER, NAME)), purpose, **AROUND)
    info, signature = tpm.certify(key, attester, hashlib.sha256(says.encode()).digest())
    statement = {
        "ver": "2.0",
        "alg": -7,
        "x5c": [certificate.public_bytes(Encoding.DER)],
        "sig": signature,
        "certInfo": info,
        "pubArea": key.public,
    }
    return attestation("tpm", statement)


async def ready(fleet: Site, tpm: Tpm, key: TpmKey) -> tuple[AcmeClient, str, dict[str, Any]]:
    """A client, and its order for the device, which has attested the key."""
    client = AcmeClient(connection_to(fleet.ca))
    await client.register()
    wanted = {"identifiers": [{"type": "permanent-identifier", "value": SERIAL}]}
    answer = await client.post(client.directory["newOrder"], wanted)
    order = json.loads(answer.body)
    (challenge,) = (await client.fetch(order["authorizations"][0]))["challenges"]
    assert challenge["type"] == "device-attest-01"
    made = attested(tpm, key, f"{challenge['token']}.{client.thumbprint}")
    settled = json.loads((await client.post(challenge["url"], {"attObj": b64url(made)})).body)
    assert settled["status"] == "valid", settled
    return client, answer.headers["location"], order


def test_a_key_in_a_tpm_gets_a_certificate_and_no_other_key_does(fleet: Site, software_tpm: Tpm) -> None:
    async def play() -> None:
        key = software_tpm.key("rsa2048")  # of EC keys this provider makes requests that break RFC 5758 §3.2
        client, url, order = await ready(fleet, software_tpm, key)
        other = ec.generate_private_key(ec.SECP256R1())
        nobody = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        stranger = nobody.sign(other, hashes.SHA256()).public_bytes(Encoding.DER)
        with pytest.raises(AcmeError, match="attested") as caught:
            await client.finalize(url, order, stranger)
        assert caught.value.type == "badCSR"
        done = await client.finalize(url, order, software_tpm.request(key))
        found = x509.load_pem_x509_certificates(await client.download(done))[0]
        assert found.public_key() == load_pem_public_key(key.pem)
        (name,) = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert name == x509.OtherName(x509.ObjectIdentifier(PERMANENT_IDENTIFIER), NAME)

    asyncio.run(play())


def test_a_statement_for_another_account_is_refused_in_words(fleet: Site, software_tpm: Tpm) -> None:
    async def play() -> None:
        key = software_tpm.key("ecc")
        client = AcmeClient(connection_to(fleet.ca))
        await client.register()
        wanted = {"identifiers": [{"type": "permanent-identifier", "value": SERIAL}]}
        order = json.loads((await client.post(client.directory["newOrder"], wanted)).body)
        (challenge,) = (await client.fetch(order["authorizations"][0]))["challenges"]
        made = attested(software_tpm, key, f"{challenge['token']}.{'A' * 43}")
        settled = json.loads((await client.post(challenge["url"], {"attObj": b64url(made)})).body)
        assert settled["status"] == "invalid" and "extraData" in settled["error"]["detail"]
        assert settled["error"]["type"] == "urn:ietf:params:acme:error:badAttestationStatement"

    asyncio.run(play())
