"""curl enrols and renews by bearer tokens of an OpenID Connect authority that the daemon asks for its keys by TLS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import new_csr, new_key, run
from tests.interop.daemon import Daemon
from tests.interop.https import EST, Identity
from tests.interop.login import AUDIENCE, Login, login
from tests.interop.site import site
from tests.interop.test_est_clients import print_certs, sending

SETTINGS = """
authority = "{url}"
audience = "{audience}"
[tokens]
trust_anchors = "{anchors}"
names_claim = "dns"
[est.profiles.default]
renewal_by_token = true
"""


@dataclass(frozen=True)
class House:
    ca: Daemon
    login: Login


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("tokens")
    with login(directory / "login") as authority:
        settings = SETTINGS.format(url=authority.url, audience=AUDIENCE, anchors=authority.anchors)
        with site(directory, settings=settings) as running:
            yield House(running.ca, authority)


def ask(ca: Daemon, path: str, *options: str | Path) -> tuple[int, bytes]:
    """The status and body that curl gets."""
    url = f"https://{ca.host}:{ca.port}{path}"
    said = run("curl", "-sS", "--cacert", ca.trust_anchors, "-w", "%{http_code}", *options, url).stdout
    return int(said[-3:]), said[:-3]


def test_a_token_enrols_for_the_names_in_it(house: House, tmp_path: Path) -> None:
    wish = new_csr(new_key(tmp_path / "a.key"), "a.robots.test")
    token = house.login.token(dns=["*.robots.test"])
    status, body = ask(house.ca, f"{EST}/simpleenroll", "--oauth2-bearer", token, *sending(wish))
    assert status == 200, body
    assert "a.robots.test" in print_certs(body)[0].subject.rfc4514_string()
    status, body = ask(house.ca, "/ca/csr", "--oauth2-bearer", token, "--data-binary", f"@{wish}")
    assert status == 200 and body.startswith(b"-----BEGIN CERTIFICATE")
    other = new_csr(new_key(tmp_path / "b.key"), "b.other.test")
    for said in (["*.robots.test"], None):
        named = house.login.token(dns=said)
        assert ask(house.ca, f"{EST}/simpleenroll", "--oauth2-bearer", named, *sending(other))[0] == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"iss": "https://localhost/realm"},
        {"exp": int(time.time()) - 3600},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
)
def test_other_tokens_are_refused(house: House, tmp_path: Path, changes: dict[str, Any]) -> None:
    wish = new_csr(new_key(tmp_path / "a.key"), "a.robots.test")
    token = house.login.token(dns=["*"], **changes)
    assert ask(house.ca, f"{EST}/simpleenroll", "--oauth2-bearer", token, *sending(wish))[0] == 401


def test_a_token_renews_beside_the_certificate_that_it_is_about(house: House, tmp_path: Path) -> None:
    key = new_key(tmp_path / "a.key")
    wish = new_csr(key, "a.robots.test")
    token = house.login.token(dns=["a.robots.test"])
    status, body = ask(house.ca, f"{EST}/simpleenroll", "--oauth2-bearer", token, *sending(wish))
    assert status == 200
    held = Identity(tmp_path / "a.pem", key)
    held.certificate_file.write_bytes(print_certs(body)[0].public_bytes(Encoding.PEM))
    shown = ("--cert", held.certificate_file, "--key", key)
    bearing = ("--oauth2-bearer", token)
    status, body = ask(house.ca, f"{EST}/simplereenroll", *bearing, *shown, *sending(wish))
    assert status == 200
    assert print_certs(body)[0].serial_number != held.certificate.serial_number
    assert ask(house.ca, f"{EST}/simplereenroll", *bearing, *sending(wish))[0] == 401, "the token alone"
    bad = ("--oauth2-bearer", house.login.token(aud="another"))
    assert ask(house.ca, f"{EST}/simplereenroll", *bad, *shown, *sending(wish))[0] == 401, "a bad one beside it"
    other = new_csr(new_key(tmp_path / "b.key"), "b.robots.test")
    assert ask(house.ca, f"{EST}/simplereenroll", *bearing, *shown, *sending(other))[0] == 403, "other names"
    assert ask(house.ca, f"{EST}/tls-client/simplereenroll", *bearing, *shown, *sending(wish))[0] == 403, "not said"
