"""Bent EST requests to a running daemon, over TLS, by each way to log in: none breaks it, and it forgets them all."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from opencertd.web.digest import DigestCredentials, expected_response
from opencertd.web.users import REALM, digest_secret
from tests.est.mutants import Mutants
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, PASSWORD, USER, Identity, answer_of, connect, enrol, request
from tests.interop.site import Site
from tests.interop.test_hostile import resident

BODIES = 300
LABELS = ("", "/rsa", "/ecdsa", "/tls-server", "/nowhere")
OPERATIONS = ("simpleenroll", "simplereenroll", "serverkeygen")
GROWTH = 15_000_000
"""What three workers may grow by together, in bytes: as their allocators please, and not by what was sent (3 MB)."""

Login = Callable[[str], str | None]
"""The Authorization header for a path."""


class Digest:
    """Answers to one nonce, each with the next count."""

    def __init__(self, ca: Daemon) -> None:
        answer = request(ca, "POST", f"{EST}/simpleenroll", b"")
        found = re.search(r'nonce="([^"]+)"', answer.headers["www-authenticate"])
        assert found is not None, answer
        self._nonce, self._count = found[1], 0
        self._secret = digest_secret("SHA-256", USER, PASSWORD)

    def __call__(self, path: str) -> str:
        self._count += 1
        said = DigestCredentials(USER, self._nonce, path, "", f"{self._count:08x}", "c", "SHA-256")
        response = expected_response(self._secret, said, "POST")
        return (
            f'Digest username="{USER}", realm="{REALM}", nonce="{self._nonce}", uri="{path}", response="{response}", '
            f'cnonce="c", nc={said.nonce_count}, qop=auth, algorithm=SHA-256'
        )


def bombard(ca: Daemon, operation: str, login: Login, identity: Identity | None, seed: str) -> Counter[int]:
    """The statuses of all answers, over a connection that is kept."""
    key = (
        load_pem_private_key(identity.key_file.read_bytes(), None)
        if identity
        else ec.generate_private_key(ec.SECP256R1())
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    mutants = Mutants(seed, key)
    connection = connect(ca, identity)
    statuses: Counter[int] = Counter()
    for number in range(BODIES):
        path = f"{EST}{LABELS[number % len(LABELS)]}/{operation}"
        headers = dict(mutants.headers())
        if (authorization := login(path)) is not None:
            headers["Authorization"] = authorization
        body = mutants.body()
        connection.request("POST", path, body, headers)
        try:
            status = answer_of(connection).status
        except http.client.HTTPException as error:
            raise AssertionError((path, body.hex())) from error
        assert 200 <= status < 500, (path, body.hex(), status)
        statuses[status] += 1
    connection.close()
    return statuses


@pytest.mark.parametrize("who", ["nobody", "basic", "digest", "certificate"])
def test_bent_requests_are_answered_or_refused(three_workers: Site, tmp_path: Path, who: str) -> None:
    """The log, checked in the end, has no traceback."""
    ca = three_workers.ca
    identity = enrol(ca, tmp_path, "a.test") if who == "certificate" else None
    logins: dict[str, Login] = {
        "nobody": lambda _: None,
        "basic": lambda _: BASIC["Authorization"],
        "digest": Digest(ca),
        "certificate": lambda _: None,
    }
    bombard(ca, "simpleenroll", logins[who], identity, f"{who} warms up")
    before, statuses = resident(ca), {}
    for operation in OPERATIONS:
        statuses[operation] = set(bombard(ca, operation, logins[who], identity, f"{who} {operation}"))
    assert resident(ca) - before < GROWTH
    if who == "nobody":
        assert all(found == {401, 404} for found in statuses.values())
    else:
        assert statuses["simpleenroll"] >= {400, 404, 415}
        assert statuses["serverkeygen"] >= {400, 404, 415, 403 if who == "certificate" else 200}
