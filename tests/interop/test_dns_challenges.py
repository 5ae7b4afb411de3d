"""A whole daemon with CAA and the drafts' DNS challenges switched on: what records permit, forbid and prove."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.acme_client import AcmeClient, b64url, csr_for
from tests.interop.acme_load import acme_client, connection_to
from tests.interop.site import Site, site

SETTINGS = """
caa_identity = ["ca.example"]
[validation]
challenges = ["http-01", "dns-01", "dns-account-01", "dns-persist-01"]
"""


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("careful"), workers=2, settings=SETTINGS) as made:
        yield made


def publish(where: Site, *lines: str) -> None:
    with where.dns.records.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def registered(where: Site) -> AcmeClient:
    client = AcmeClient(connection_to(where.ca))
    await client.register()
    return client


async def certificate(client: AcmeClient, kind: str, *names: str) -> set[str]:
    """The names of a certificate got by that challenge."""
    url, order = await client.order(*names)
    await client.prove(order, kind)
    key = ec.generate_private_key(ec.SECP256R1())
    done = await client.finalize(url, order, csr_for(key, *names))
    found = x509.load_pem_x509_certificate(await client.download(done))
    sans = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(sans.get_values_for_type(x509.DNSName))


def hashed(client: AcmeClient, prefix: str, domain: str) -> str:
    """draft-ietf-acme-dns-persist-02 §4.1, as a client would make it."""
    text = domain.encode() + client.thumbprint.encode() + (client.account or "").encode()
    digest = hashlib.sha256(bytes([len(domain)]) + text).digest()
    return f"{prefix}sha-256/{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def test_persistent_records_prove_names_and_wildcards_for_their_account_only(careful: Site) -> None:
    async def play() -> None:
        client, other = await registered(careful), await registered(careful)
        meta = client.directory["meta"]
        assert meta["caaIdentities"] == meta["issuerDomainNames"] == ["ca.example"]
        uri = hashed(client, meta["accountHashPrefix"], "persist.test")
        publish(careful, f"_validation-persist.persist.test TXT ca.example; accounturi={uri}; policy=wildcard")
        for _ in range(2):  # the record stays, and proves again
            assert await certificate(client, "dns-persist-01", "persist.test", "*.persist.test") == {
                "persist.test",
                "*.persist.test",
            }
        with pytest.raises(ValueError, match="another account"):
            await certificate(other, "dns-persist-01", "persist.test")
        plain = f"_validation-persist.plain.test TXT ca.example; accounturi={other.account}"
        publish(careful, plain)
        assert await certificate(other, "dns-persist-01", "plain.test") == {"plain.test"}
        with pytest.raises(ValueError, match="policy=wildcard"):
            await certificate(other, "dns-persist-01", "*.plain.test")

    asyncio.run(play())


def test_two_accounts_prove_one_name_at_once_by_their_own_labels(careful: Site) -> None:
    async def prepare(client: AcmeClient) -> tuple[str, str]:
        """A pending order for the name, its record published."""
        url, order = await client.order("shared.test")
        authorization = await client.fetch(order["authorizations"][0])
        token = next(each["token"] for each in authorization["challenges"] if each["type"] == "dns-account-01")
        label = b32encode(hashlib.sha256((client.account or "").encode()).digest()[:10]).decode().lower()
        value = b64url(hashlib.sha256(f"{token}.{client.thumbprint}".encode()).digest())
        publish(careful, f"_{label}._acme-challenge.shared.test TXT {value}")
        return url, json.dumps(order)

    async def play() -> None:
        clients = [await registered(careful) for _ in range(2)]
        orders = [await prepare(client) for client in clients]
        for client, (url, order) in zip(clients, orders, strict=True):
            await client.prove(json.loads(order), "dns-account-01")
            assert (await client.fetch(url))["status"] == "ready"

    asyncio.run(play())


def test_caa_permits_and_forbids_by_ca_account_and_method(careful: Site, tmp_path: Path) -> None:
    async def play() -> None:
        client, other = await registered(careful), await registered(careful)
        for name in ("mine.test", "theirs.test", "www.mine.test"):
            for each in (client, other):
                publish(
                    careful, f"_validation-persist.{name} TXT ca.example; accounturi={each.account}; policy=wildcard"
                )
        publish(
            careful,
            f'mine.test CAA 0 issue "ca.example; accounturi={client.account}; validationmethods=dns-persist-01"',
            'mine.test CAA 0 issuewild ";"',
            'theirs.test CAA 0 issue "public.example"',
        )
        assert await certificate(client, "dns-persist-01", "www.mine.test") == {"www.mine.test"}
        for who, name, why in (
            (other, "www.mine.test", "accounturi"),
            (client, "*.mine.test", "do not name this CA"),
            (client, "theirs.test", "CAA records of theirs.test do not name this CA"),
        ):
            with pytest.raises(ValueError, match=why) as failed:
                await certificate(who, "dns-persist-01", name)
            assert "error:caa" in str(failed.value)

    asyncio.run(play())


def test_an_address_gets_a_certificate(careful: Site) -> None:
    """RFC 8738, for the address that the daemon finds this machine at."""

    async def play() -> None:
        async with acme_client(careful.ca) as client:
            await client.register()
            wanted = {"identifiers": [{"type": "ip", "value": "127.0.0.1"}]}
            answer = await client.post(client.directory["newOrder"], wanted)
            url, order = answer.headers["location"], json.loads(answer.body)
            await client.prove(order)
            key = ec.generate_private_key(ec.SECP256R1())
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
            request = request.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
            chain = await client.download(await client.finalize(url, order, csr))
            found = x509.load_pem_x509_certificates(chain)[0]
            sans = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert list(sans) == [address]

    asyncio.run(play())
