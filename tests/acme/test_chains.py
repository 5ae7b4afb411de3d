"""A certificate is offered under each chain it can be verified by (RFC 8555 §7.4.2): openssl says which that is."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1.dn import parse_dn
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.model.certificates import CrossCertificate, CrossKind, IssuerRole
from tests.acme.rig import START, Client, Rig, issuers
from tests.acme.signing import ec_key

OTHER = ec_key()
OTHER_NAME = parse_dn("CN=Another CA")


def certificate_by_other(subject: x509.Name, key: object) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(OTHER_NAME)
        .public_key(key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=300))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(OTHER, hashes.SHA256())
    )


def crossed(rig: Rig, issuer: Issuer, *, until_days: int = 100) -> x509.Certificate:
    """Have another CA, which is not here, vouch for the issuer; answers that CA's root."""
    cross = certificate_by_other(issuer.certificate.subject, issuer.certificate.public_key())
    record = CrossCertificate(
        subject_id=issuer.id,
        signer_id=None,
        kind=CrossKind.CROSS,
        certificate_der=cross.public_bytes(Encoding.DER),
        published_until=START + timedelta(days=until_days),
    )
    authority = rig.authority
    authority.adopt(Issuers(issuers().all(), (record,)), authority.profiles, authority.policies)
    return certificate_by_other(OTHER_NAME, OTHER.public_key())


def verifies(pem: bytes, root: x509.Certificate, directory: Path) -> bool:
    (directory / "chain.pem").write_bytes(pem)
    (directory / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    at = ("-attime", str(int(START.timestamp())))
    command = ["openssl", "verify", *at, "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False, timeout=30).returncode == 0


def alternates(links: list[str]) -> list[str]:
    return [link.partition("<")[2].partition(">")[0] for link in links if 'rel="alternate"' in link]


@pytest.mark.parametrize("role", [IssuerRole.ROOT, IssuerRole.ISSUING])
@pytest_twisted.ensureDeferred
async def test_7_4_2_another_cas_chain_is_an_alternate(role: IssuerRole, tmp_path: Path) -> None:
    rig = Rig()
    client = Client(rig)
    final, pem = await client.certificate("a.example")
    (issuer,) = (
        one
        for one in issuers().all()
        if one.role is IssuerRole.ISSUING and one.certificate.subject == x509.load_pem_x509_certificates(pem)[0].issuer
    )
    root = next(one for one in issuers().all() if one.certificate_der == issuer.root_der)
    assert alternates((await client.post(final.json["certificate"])).headers["link"]) == []
    other_root = crossed(rig, root if role is IssuerRole.ROOT else issuer)

    usual = await client.post(final.json["certificate"])
    assert usual.body == pem
    assert verifies(usual.body, root.certificate, tmp_path)
    assert not verifies(usual.body, other_root, tmp_path)
    (url,) = alternates(usual.headers["link"])
    other = await client.post(url)
    assert (other.status, other.headers["content-type"]) == (200, ["application/pem-certificate-chain"])
    assert verifies(other.body, other_root, tmp_path)
    assert x509.load_pem_x509_certificates(other.body)[0] == x509.load_pem_x509_certificates(pem)[0]
    assert alternates(other.headers["link"]) == [final.json["certificate"]]


@pytest_twisted.ensureDeferred
async def test_7_4_2_a_chain_that_is_not_there_is_not_found() -> None:
    rig = Rig()
    client = Client(rig)
    final, _ = await client.certificate("a.example")
    for chain in ("1", "-1", "x", "%00"):
        reply = await client.post(f"{final.json['certificate']}?chain={chain}")
        assert (reply.status, reply.problem) == (404, "malformed")
    crossed(rig, issuers().all()[0], until_days=-1)
    assert alternates((await client.post(final.json["certificate"])).headers["link"]) == []
