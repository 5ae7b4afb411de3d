"""What most checks begin with."""

from __future__ import annotations

import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.acme.rig import BASE, Client, Reply, Rig
from tests.acme.signing import b64, csr_for, ec_key, sign

NEW_ACCOUNT = f"{BASE}/new-account"
NEW_ORDER = f"{BASE}/new-order"
JOSE = {"Content-Type": "application/jose+json"}
ERROR = "urn:ietf:params:acme:error:"


def names(*values: str) -> dict[str, Any]:
    """The payload of an order for DNS names."""
    return {"identifiers": [{"type": "dns", "value": value} for value in values]}


async def registered(rig: Rig | None = None, key: Any = None) -> Client:
    """A client with an account."""
    client = Client(rig or Rig(), key)
    assert (await client.register()).status == 201
    return client


async def authorization(client: Client, order: Reply) -> Any:
    """The first authorization of the order."""
    return (await client.post(order.json["authorizations"][0])).json


async def pending(client: Client, name: str = "a.example", kind: str = "http-01") -> tuple[Reply, Any]:
    """A new order, and its challenge of that kind."""
    order = await client.order(name)
    challenges = (await authorization(client, order))["challenges"]
    return order, next(each for each in challenges if each["type"] == kind)


async def envelope(client: Client, url: str, payload: Any = None, **options: Any) -> dict[str, Any]:
    """A signed request, to be spoilt."""
    return dict(json.loads(await client.signed(url, payload, **options)))


async def send(client: Client, url: str, document: Any) -> Reply:
    """A request as it is, whatever it has become."""
    return await client.send(url, document if isinstance(document, bytes) else json.dumps(document).encode())


async def with_header(client: Client, url: str, payload: bytes, header: dict[str, Any]) -> Reply:
    """A request with exactly this protected header."""
    return await send(client, url, sign(client.key, header, payload))


async def certified(client: Client, *wanted: str, key: Any = None) -> x509.Certificate:
    """A certificate for the names."""
    _, pem = await client.certificate(*wanted, key=key)
    return x509.load_pem_x509_certificates(pem)[0]


def encoded(certificate: x509.Certificate) -> str:
    """As revokeCert wants it."""
    return b64(certificate.public_bytes(Encoding.DER))


async def processing(rig: Rig, client: Client, name: str = "a.example") -> Reply:
    """An order whose certificate could not be issued at once, and is owed."""
    order = await client.ready(name)
    rig.authority.failures.append(RuntimeError("the key is away"))
    final = await client.finalize(order, csr_for(ec_key(), name))
    assert final.json["status"] == "processing"
    return final


def links(reply: Reply, relation: str) -> list[str]:
    """The targets of the answer's links of that relation."""
    wanted = f'rel="{relation}"'
    return [link.partition("<")[2].partition(">")[0] for link in reply.headers["link"] if wanted in link]
