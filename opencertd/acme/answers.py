"""What ACME answers with, whichever way HTTP goes: header fields and body of a deed done or refused (RFC 8555 §6)."""

from __future__ import annotations

from dataclasses import dataclass

from opencertd.acme.problems import encode_refusal, status_of
from opencertd.acme.urls import Urls
from opencertd.errors import Refusal

JOSE = "application/jose+json"
JSON = "application/json"
PROBLEM = "application/problem+json"
PEM_CHAIN = "application/pem-certificate-chain"

_NO_CONTENT = 204


@dataclass(frozen=True)
class Answer:
    """What a POST is answered with; `links` are Link headers beside the index, `headers` further ones."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    location: str | None = None
    links: tuple[str, ...] = ()
    retry_after: int | None = None
    no_store: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()


def refused(refusal: Refusal, where: Urls) -> Answer:
    """The answer that says no."""
    return Answer(
        encode_refusal(refusal),
        status_of(refusal),
        PROBLEM,
        # Only accounts stand in another's way (§7.3.5).
        location=None if refusal.location is None else where.account(refusal.location),
        links=() if refusal.link is None else (f'<{refusal.link[0]}>;rel="{refusal.link[1]}"',),
        retry_after=refusal.retry_after,
    )


def header_fields(answer: Answer, *, index: bytes, nonce: str | None) -> dict[bytes, list[bytes]]:
    """Its header fields, each with its lines. `index`: the link to the directory."""
    fields: dict[bytes, list[bytes]] = {}
    if nonce is not None:
        fields[b"Replay-Nonce"] = [nonce.encode("ascii")]
    fields[b"Link"] = [index, *(link.encode("ascii") for link in answer.links)]
    if answer.location is not None:
        fields[b"Location"] = [answer.location.encode("ascii")]
    if answer.retry_after is not None:
        fields[b"Retry-After"] = [b"%d" % answer.retry_after]
    if answer.no_store:
        fields[b"Cache-Control"] = [b"no-store"]
    for name, value in answer.headers:
        fields[name] = [value]
    if answer.body:
        fields[b"Content-Type"] = [answer.content_type.encode("ascii")]
    if answer.status != _NO_CONTENT:  # RFC 9110 §8.6. Elsewhere Twisted would send chunks, too much for some
        fields[b"Content-Length"] = [b"%d" % len(answer.body)]
    return fields
