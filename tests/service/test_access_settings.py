"""`[access]`: roles are given by a proof, to somebody, and no setting makes a registration authority of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.config import Settings, read_settings
from opencertd.edges.authentication import build_authenticator
from opencertd.edges.parts import Parts
from opencertd.errors import StartError
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.requester import Proof
from tests.est.rig import Rig


def read(directory: Path, text: str) -> Settings:
    path = directory / "opencertd.toml"
    path.write_text(f'dn = "CN=Test"\n{text}')
    return read_settings({}, {}, path)


def test_roles_are_read(tmp_path: Path) -> None:
    text = '[access.roles]\noperator = [{ proof = "password", id = "ann" }, { proof = "bearer-token", role = "pki" }]'
    assert read(tmp_path, text).access.given_roles() == (
        ("operator", RequesterMatch(Proof.PASSWORD, "ann")),
        ("operator", RequesterMatch(Proof.BEARER_TOKEN, role="pki")),
    )
    assert read(tmp_path, "").access.given_roles() == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[access.roles]\noperator = [{ id = "ann" }]', "say how it is proven"),
        ('[access.roles]\noperator = [{ label = "CN=ops" }]', "say how it is proven"),
        ('[access.roles]\noperator = [{ proof = "password" }]', "everybody with a password"),
        ('[access.roles]\noperator = [{ proof = "manufacturer-certificate", id = "maker:*" }]', "nobody has a role by"),
        ('[access.roles]\noperator = [{ proof = "acme-account", id = "x" }]', "nobody has a role by"),
        ('[access.roles]\noperator = [{ proof = "daemon", id = "x" }]', "must be one of"),
        ('[access.roles]\n"a b" = [{ proof = "password", id = "x" }]', "must be a word"),
        ('[access.roles]\nregistration-authority = [{ proof = "password", id = "x" }]', "certificates alone"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StartError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "access.roles" in str(caught.value)


def test_the_profiles_of_registration_authorities_must_be_there(tmp_path: Path) -> None:
    rig = Rig()
    settings = read(tmp_path, '[access]\nregistration_authorities = ["nothing"]')
    values = dict.fromkeys(Parts.__dataclass_fields__) | {"settings": settings, "authority": rig.authority}
    with pytest.raises(StartError, match=r"access\.registration_authorities: there is no profile 'nothing'"):
        build_authenticator(Parts(**values))  # type: ignore[arg-type]
