"""The core's tests run over keys in memory and over the same keys in a SoftHSM2 token."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from opencertd.first_start import at_once
from opencertd.issuance.ceremony import NewAuthority
from opencertd.keys.kinds import scheme_of
from opencertd.keys.signer import Signer
from opencertd.keys.token_keys import bring_key
from opencertd.keys.token_signer import TokenSigner
from tests import ca
from tests.softhsm import make_token

KEYS: dict[int, object] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test over both; but pytest-twisted cannot run a test of hypothesis twice."""
    places = ["keys in memory", "keys in a token"]
    twice = not hasattr(metafunc.function, "hypothesis")
    metafunc.parametrize("keys", places if twice else places[:1], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def keys(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the keys of `tests.ca` are."""
    if request.param == "keys in memory":
        yield
        return
    with make_token(tmp_path_factory.mktemp("hsm")).in_use() as hsm:
        token = hsm.token()

        @functools.cache
        def bring(key_id: int) -> str:
            return str(bring_key(token, "ca", KEYS[key_id]).uri)

        def in_token(authority: NewAuthority) -> Signer:
            if not isinstance(authority.key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
                return ca.in_memory(authority)  # of a kind that tokens do not hold
            KEYS[id(authority.key)] = authority.key
            public_key = authority.key.public_key()
            scheme = scheme_of(public_key, authority.record.scheme)
            return TokenSigner(token, bring(id(authority.key)), public_key, at_once, scheme)

        ca.signers.append(in_token)
        yield
        ca.signers.pop()
        token.close()
