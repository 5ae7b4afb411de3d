"""Logs of Certificate Transparency as settings write them: `[ct]`, checked key by key."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pydantic import AfterValidator, Field, model_validator

from opencertd.issuance.profile_tables import Table

LogKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MOST_SECONDS = 30
"""For all logs together. An intent that waits for them must not look as if its worker had died."""

MOST_LOGS = 20

_ARMOUR = re.compile(r"-----(BEGIN|END) PUBLIC KEY-----|\s")


def parse_log_key(text: str) -> LogKey:
    """The key of a log, PEM or its base64 as lists of logs have it. Raises ValueError in words."""
    try:
        key = load_der_public_key(base64.b64decode(_ARMOUR.sub("", text), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be the log's public key: SubjectPublicKeyInfo in base64, or PEM") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("a log's key is P-256, or RSA of at least 2048 bits (RFC 6962 §2.1.4)")


def log_id(key: LogKey) -> bytes:
    """LogID (RFC 6962 §3.2): SHA-256 of the SubjectPublicKeyInfo."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _key(value: str) -> str:
    parse_log_key(value)
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    whole = parts.scheme in {"http", "https"} and parts.hostname and value.isascii() and " " not in value
    if not whole or parts.query or parts.fragment:
        raise ValueError("must be the log's http:// or https:// URL, without the ct/v1/… at its end")
    return value.rstrip("/")


class LogTable(Table):
    """One of `logs`. `trust_anchors`: for its TLS; None means those of the operating system."""

    url: Annotated[str, AfterValidator(_base_url)]
    key: Annotated[str, AfterValidator(_key)]
    trust_anchors: Path | None = None


class TransparencyTable(Table):
    """`[ct]`."""

    logs: Annotated[tuple[LogTable, ...], Field(max_length=MOST_LOGS)] = ()
    required: Annotated[int, Field(ge=1)] = 2
    seconds: Annotated[int, Field(ge=1, le=MOST_SECONDS)] = 10

    @model_validator(mode="after")
    def _together(self) -> TransparencyTable:
        if self.logs and self.required > len(self.logs):
            raise ValueError(f"timestamps of {self.required} logs are required, and there are {len(self.logs)} logs")
        if len({log_id(parse_log_key(log.key)) for log in self.logs}) != len(self.logs):
            raise ValueError("two logs have the same key: they are one log, and count once")
        if len({log.url for log in self.logs}) != len(self.logs):
            raise ValueError("two logs have the same url")
        return self
