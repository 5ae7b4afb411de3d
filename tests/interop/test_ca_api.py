"""The `/ca` API by curl and openssl: enrol by CSR, list, revoke with mutual TLS and a signature."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, PASSWORD, USER, enrol, request
from tests.interop.inventory import inventory
from tests.interop.revoking import ask_revocation, revoke, signature
from tests.interop.site import Site


@pytest.mark.parametrize("form", ["PEM", "DER"])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_csr_gives_a_chain(each_site: Site, tmp_path: Path, form: str, kind: str) -> None:
    ca = each_site.ca
    csr = new_csr(new_key(tmp_path / "k.key", kind), "api.test", "api.test", form=form)
    who = ("--cacert", ca.trust_anchors, "-u", f"{USER}:{PASSWORD}")
    pem = run("curl", "-sS", "--fail-with-body", *who, "--data-binary", f"@{csr}", f"{ca.url}/ca/csr").stdout
    path = tmp_path / "chain.pem"
    path.write_bytes(pem)
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", path, path)
    leaf, *above = x509.load_pem_x509_certificates(pem)
    assert above
    assert all(certificate.subject != certificate.issuer for certificate in above), "no root in the chain"
    assert leaf.serial_number in {entry.serial for entry in inventory(ca)}


def test_inventory_pages(ca: Daemon, tmp_path: Path) -> None:
    for number in range(3):
        enrol(ca, tmp_path, f"page-{number}.test")
    whole = [entry.serial for entry in inventory(ca)]
    assert [entry.serial for entry in inventory(ca, limit=2)] == whole
    assert len(set(whole)) == len(whole)


@pytest.mark.parametrize(("method", "path"), [("POST", "/ca/csr"), ("GET", "/ca/inventory")])
def test_nobody_in_particular_is_refused(ca: Daemon, method: str, path: str) -> None:
    answer = request(ca, method, path, b"x" if method == "POST" else None)
    assert answer.status == 401
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ec", ()),
        ("rsa", ()),
        ("rsa", ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1")),
        ("rsa", ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-2")),
    ],
)
def test_a_certificate_revokes_itself(each_site: Site, tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    ca = each_site.ca
    identity = enrol(ca, tmp_path, "self.test", kind)
    sn = identity.serial_hex
    proof = signature(identity, sn, "keyCompromise", *options)
    answer = ask_revocation(ca, identity, sn=sn, reason="keyCompromise", signature=proof)
    assert answer.status == 200, answer
    (entry,) = [e for e in inventory(ca) if e.serial == identity.certificate.serial_number]
    assert entry.status == "revoked"


def test_base64url_signature(ca: Daemon, tmp_path: Path) -> None:
    identity = enrol(ca, tmp_path, "url.test")
    sn = identity.serial_hex.lower()
    raw = base64.b64decode(signature(identity, sn, "superseded"))
    proof = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert ask_revocation(ca, identity, sn=sn, reason="superseded", signature=proof).status == 200


def test_refusals_of_a_revocation(ca: Daemon, tmp_path: Path) -> None:
    """401 for a missing or wrong proof, 403 without the right, 400, 404 and 409 as their names say."""
    mine, other = enrol(ca, tmp_path, "mine.test"), enrol(ca, tmp_path, "other.test")
    sn, theirs, unknown = mine.serial_hex, other.serial_hex, "0123456789ABCDEF"
    why = "superseded"

    def status(who: object, sn: str, reason: str, proof: str) -> int:
        identity = mine if who is mine else None
        return ask_revocation(ca, identity, sn=sn, reason=reason, signature=proof).status

    assert status(None, sn, why, signature(mine, sn, why)) == 401, "no client certificate"
    assert status(mine, sn, why, "") == 401, "no signature"
    assert status(mine, sn, why, signature(other, sn, why)) == 401, "somebody else's signature"
    assert status(mine, sn, why, signature(mine, sn, "keyCompromise")) == 401, "of other words"
    assert status(mine, theirs, why, signature(mine, theirs, why)) == 403, "another's certificate"
    assert status(mine, sn, "boredom", signature(mine, sn, "boredom")) == 400
    assert status(mine, unknown, why, signature(mine, unknown, why)) == 404
    assert {e.status for e in inventory(ca) if e.serial == mine.certificate.serial_number} == {"good"}


def test_a_revoked_certificate_is_nobody(each_site: Site, tmp_path: Path) -> None:
    """Once revoked, a certificate proves nothing any more, not even for a second revocation."""
    ca = each_site.ca
    identity = enrol(ca, tmp_path, "gone.test")
    revoke(ca, identity, "keyCompromise")
    sn = identity.serial_hex
    proof = signature(identity, sn, "superseded")
    assert ask_revocation(ca, identity, sn=sn, reason="superseded", signature=proof).status == 401


def test_problems_are_json(ca: Daemon) -> None:
    answer = request(ca, "GET", "/ca/inventory?limit=0", headers=BASIC)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert json.loads(answer.body)["status"] == 400
