"""Revocation by `DELETE /ca/revoke`: mutual TLS, and a signature that openssl makes with the same key."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

from tests.interop.clients import openssl
from tests.interop.daemon import Daemon
from tests.interop.https import Identity, request
from tests.interop.wire import Answer


def signature(identity: Identity, sn: str, reason: str, *options: str) -> str:
    """`openssl dgst -sha256 -sign` over sn + reason, in base64."""
    words = (sn + reason).encode()
    return base64.b64encode(
        openssl("dgst", "-sha256", *options, "-sign", identity.key_file, stdin=words).stdout
    ).decode()


def ask_revocation(ca: Daemon, identity: Identity | None, **query: str) -> Answer:
    """The DELETE itself."""
    return request(ca, "DELETE", "/ca/revoke?" + urlencode(query), identity=identity)


def revoke(ca: Daemon, identity: Identity, reason: str) -> None:
    """The certificate revokes itself."""
    sn = identity.serial_hex
    proof = signature(identity, sn, reason)
    answer = ask_revocation(ca, identity, sn=sn, reason=reason, signature=proof)
    assert answer.status == 200, answer
