"""What a CSR asks is a wish: no CA certificate, no name beyond those authorized, no validity, no extension."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeError, csr_for
from tests.interop.acme_load import acme_client
from tests.interop.clients import new_csr, openssl
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, Identity, certs_only, enrol, request
from tests.interop.inventory import inventory
from tests.interop.revoking import revoke
from tests.interop.rogue import RogueIssuer, check_modest, greedy_csr

PKCS10 = {"Content-Type": "application/pkcs10"}


def test_est_gives_none_of_it(ca: Daemon) -> None:
    (leaf,) = certs_only(request(ca, "POST", f"{EST}/simpleenroll", greedy_csr("greedy.test"), PKCS10 | BASIC))
    check_modest(leaf)


def test_the_api_gives_none_of_it(ca: Daemon) -> None:
    answer = request(ca, "POST", "/ca/csr", greedy_csr("greedy.test"), BASIC)
    assert answer.status == 200, answer
    check_modest(x509.load_pem_x509_certificate(answer.body))


def test_reenrolment_adds_no_name(ca: Daemon, tmp_path: Path) -> None:
    mine = enrol(ca, tmp_path, "mine.test")
    csr = greedy_csr("mine.test", "bank.test")
    for operation in ("simplereenroll", "simpleenroll"):
        answer = request(ca, "POST", f"{EST}/{operation}", csr, PKCS10, mine)
        assert answer.status == 403, (operation, answer)
    assert request(ca, "POST", "/ca/csr", csr, identity=mine).status == 403
    assert not any("bank.test" in entry.names for entry in inventory(ca))


def test_acme_takes_only_the_names_ordered(ca: Daemon) -> None:
    async def attempt() -> None:
        async with acme_client(ca) as client:
            await client.register()
            url, order = await client.order("ordered.test")
            await client.prove(order)
            for csr in (
                greedy_csr("ordered.test", "bank.test"),
                greedy_csr("bank.test"),
                csr_for(client.key, "ordered.test"),  # the account's own key
                b"\x30\x03\x02\x01\x01",
            ):
                with pytest.raises(AcmeError) as refused:
                    await client.finalize(url, order, csr)
                assert (refused.value.status, refused.value.type) == (400, "badCSR")
            done = await client.finalize(url, order, greedy_csr("ordered.test"))
            check_modest(x509.load_pem_x509_certificate(await client.download(done)))

    asyncio.run(attempt())
    assert [e.names for e in inventory(ca) if "ordered.test" in e.names] == [("ordered.test",)]


def test_acme_validity_is_not_the_clients(ca: Daemon) -> None:
    """`notAfter` of ten years (RFC 8555 §7.4) is refused, or ignored; it is never granted."""

    async def attempt() -> bytes | None:
        async with acme_client(ca) as client:
            await client.register()
            wish = (datetime.now(UTC) + timedelta(days=3650)).strftime("%Y-%m-%dT%H:%M:%SZ")
            try:
                url, order = await client.order("decade.test", notAfter=wish)
            except AcmeError as error:
                assert error.status in (400, 403)
                return None
            await client.prove(order)
            key = ec.generate_private_key(ec.SECP256R1())
            return await client.download(await client.finalize(url, order, csr_for(key, "decade.test")))

    pem = asyncio.run(attempt())
    if pem is not None:
        check_modest(x509.load_pem_x509_certificate(pem))


def test_a_client_certificate_of_a_ca_with_our_name(ca: Daemon, tmp_path: Path) -> None:
    """Same issuer name, same key identifier, same serial and subject as a certificate of ours: still nobody."""
    mine = enrol(ca, tmp_path, "victim.test")
    (model,) = (c for c in certs_only(request(ca, "GET", f"{EST}/cacerts")) if c.subject == mine.certificate.issuer)
    rogue = RogueIssuer(model, ec.generate_private_key(ec.SECP256R1()))
    forged = rogue.identity(tmp_path / "rogue", mine.certificate.subject, mine.certificate.serial_number)
    csr = enrolment_of(mine)
    assert refused(ca, f"{EST}/simplereenroll", csr, forged)
    assert refused(ca, "/ca/csr", csr, forged)
    # the true one works, so it was the forgery that was refused
    assert request(ca, "POST", f"{EST}/simplereenroll", csr, PKCS10, mine).status == 200


def test_a_self_signed_client_certificate(ca: Daemon, tmp_path: Path) -> None:
    mine = enrol(ca, tmp_path, "self-signed.test")
    rogue = RogueIssuer(mine.certificate, ec.generate_private_key(ec.SECP256R1()))
    forged = rogue.identity(tmp_path / "rogue", mine.certificate.subject, mine.certificate.serial_number)
    assert refused(ca, f"{EST}/simplereenroll", enrolment_of(mine), forged)


def test_a_revoked_client_certificate(ca: Daemon, tmp_path: Path) -> None:
    mine = enrol(ca, tmp_path, "revoked.test")
    revoke(ca, mine, "keyCompromise")
    assert refused(ca, f"{EST}/simplereenroll", enrolment_of(mine), mine)
    assert refused(ca, "/ca/csr", enrolment_of(mine), mine)


def enrolment_of(identity: Identity) -> bytes:
    return identity.key_file.with_suffix(".csr").read_bytes()


def refused(ca: Daemon, path: str, csr: bytes, identity: Identity) -> bool:
    """Whether the certificate got nothing: TLS ended, or 401."""
    try:
        answer = request(ca, "POST", path, csr, PKCS10, identity)
    except OSError:
        return True
    return answer.status == 401


def test_a_key_too_weak(ca: Daemon, tmp_path: Path) -> None:
    key = tmp_path / "weak.key"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", key)
    csr = new_csr(key, "weak.test").read_bytes()
    assert request(ca, "POST", f"{EST}/simpleenroll", csr, PKCS10 | BASIC).status == 400
