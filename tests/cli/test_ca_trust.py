"""An issuer is distrusted with all below it, and trusted again with those that were distrusted with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import opencert
from tests.cli.test_ca import Ca

EVEN_SO = "--even-if-profiles-lose-their-issuer"


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    made = Ca(tmp_path)
    made.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa", "--key-type", "ed25519")
    return made


def states(ca: Ca) -> dict[str, str]:
    return {issuer["name"]: issuer["state"] for issuer in ca.listed()["issuers"]}


def test_a_distrusted_issuer_signs_no_more_until_it_is_trusted_again(ca: Ca) -> None:
    said = ca.done("distrust", "ecdsa")
    assert "distrusted: ecdsa; they sign no certificates" in said
    assert states(ca) == {"ecdsa-root": "active", "ecdsa": "distrusted", "ed25519-root": "active", "ed25519": "active"}
    assert ca.issuer("ecdsa")["distrusted_since"]
    assert "distrusted already" in ca.refused("distrust", "ecdsa")
    assert "trusted again: ecdsa" in ca.done("trust", "ecdsa")
    assert set(states(ca).values()) == {"active"}
    assert "is not distrusted" in ca.refused("trust", "ecdsa")
    assert "there is no issuer" in ca.refused("distrust", "nobody")
    assert "there is no issuer" in ca.refused("trust", "nobody")
    assert "distrusted since" in " ".join(_changes(ca))


def test_a_distrusted_root_takes_those_below_it_along_and_gives_back_only_these(ca: Ca) -> None:
    ca.done("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")
    ca.done("create", "old", "--parent", "ecdsa-root", "--dn", "CN=Old,O=X")
    ca.done("retire", "old")
    ca.done("create", "gone", "--parent", "ecdsa-root", "--dn", "CN=Gone,O=X")
    ca.done("revoke", "gone", "--reason", "superseded", "--yes")
    _at_another_second(ca, "distrust", "office")
    anchors = ca.anchors.read_bytes()
    ca.done("distrust", "ecdsa-root")
    expected = {"ecdsa-root": "distrusted", "ecdsa": "distrusted", "office": "distrusted"}
    expected |= {"old": "retired, distrusted", "gone": "revoked", "ed25519-root": "active", "ed25519": "active"}
    assert states(ca) == expected
    assert ca.anchors.read_bytes() == anchors, "what there is goes on working"
    assert "trust that one first" in ca.refused("trust", "ecdsa")
    said = ca.refused("create", "below", "--parent", "ecdsa-root", "--dn", "CN=Below")
    assert "it signs no certificates" in said
    assert "ecdsa-root is distrusted" in ca.refused("rollover", "ecdsa-root")
    ca.done("trust", "ecdsa-root")
    assert states(ca) == expected | {"ecdsa-root": "active", "ecdsa": "active", "old": "retired"}
    ca.done("trust", "office")
    assert states(ca)["office"] == "active"


def test_the_last_issuer_is_distrusted_only_when_that_is_said(ca: Ca) -> None:
    ca.done("distrust", "ecdsa-root")
    said = ca.refused("distrust", "ed25519")
    assert "default" in said and EVEN_SO in said
    assert "the profile default can issue nothing" in ca.done("distrust", "ed25519", EVEN_SO)


def test_a_distrusted_issuing_ca_can_be_given_another_key(ca: Ca) -> None:
    ca.done("distrust", "ecdsa")
    ca.done("rollover", "ecdsa")
    assert states(ca)["ecdsa"] == "retired, distrusted"
    assert states(ca)["ecdsa-2"] == "active"


def test_a_revoked_issuer_is_beyond_that(ca: Ca) -> None:
    ca.done("revoke", "ecdsa", "--reason", "superseded", "--yes")
    assert "nothing can trust it less" in ca.refused("distrust", "ecdsa")


def _changes(ca: Ca) -> list[str]:
    listed = opencert("audit", "export", "--state-dir", ca.state).stdout.splitlines()
    entries = [json.loads(line) for line in listed]
    assert entries, "the audit log was read"
    return [json.dumps(entry) for entry in entries]


def _at_another_second(ca: Ca, *words: str) -> None:
    """Deeds of one second are one distrust."""
    ca.done(*words)
    since = ca.issuer(words[-1])["distrusted_since"]
    import time
    from datetime import UTC, datetime

    while f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}" == since:
        time.sleep(0.05)
