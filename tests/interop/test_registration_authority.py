"""A registration authority enrols for others, as far as policy lets it; roles come from settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509

from tests.interop.clients import new_csr, new_key
from tests.interop.https import BASIC, EST, USER, Identity, certs_only, enrol, request
from tests.interop.revoking import ask_revocation, signature
from tests.interop.site import Site, site
from tests.interop.test_channel_binding import linked_csr

SETTINGS = f"""
[access.roles]
operator = [{{ proof = "password", id = "{USER}" }}]
revoker = [{{ proof = "tls-certificate", label = "CN=ops.test" }}]

[profiles.registration-authority]
protocols = ["ca_api"]
[profiles.est-server]
extended_key_usage = ["serverAuth", "clientAuth", "cmcRA"]

[est.profiles.iot-device]
channel_binding = "required"

[[policy.requester]]
role = "registration-authority"
allow.dns = [".devices.test", "ra.test"]
"""


@pytest.fixture(scope="module")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("agency"), workers=2, settings=SETTINGS) as running:
        yield running


def holder(site: Site, directory: Path, profile: str, name: str) -> Identity:
    """A certificate under that profile, by the user who is an operator."""
    key = new_key(directory / f"{name}.key")
    answer = request(site.ca, "POST", f"/ca/csr?profile={profile}", new_csr(key, name).read_bytes(), BASIC)
    assert answer.status == 200, answer
    path = key.with_suffix(".pem")
    path.write_bytes(answer.body)
    return Identity(path, key)


@pytest.fixture
def authority(agency: Site, tmp_path: Path) -> Identity:
    return holder(agency, tmp_path, "registration-authority", "ra.test")


def asked(site: Site, who: Identity, directory: Path, name: str, path: str = f"{EST}/simpleenroll") -> int:
    """The status of an enrolment for a key of somebody else's."""
    csr = new_csr(new_key(directory / "other.key"), name, name).read_bytes()
    return request(site.ca, "POST", path, csr, {"Content-Type": "application/pkcs10"}, identity=who).status


def test_it_enrols_for_others(agency: Site, authority: Identity, tmp_path: Path) -> None:
    usages = authority.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert "1.3.6.1.5.5.7.3.28" in {usage.dotted_string for usage in usages}
    for path in (f"{EST}/simpleenroll", f"{EST}/tls-server/simpleenroll", "/ca/csr"):
        assert asked(agency, authority, tmp_path, "a.devices.test", path) == 200


def test_policy_bounds_it(agency: Site, authority: Identity, tmp_path: Path) -> None:
    assert asked(agency, authority, tmp_path, "www.example.test") == 403
    assert asked(agency, authority, tmp_path, "devices.test") == 403
    for profile in ("code-signing", "ocsp-responder"):
        path = f"/ca/csr?profile={profile}"
        csr = new_csr(new_key(tmp_path / "o.key"), "signer").read_bytes()
        assert request(agency.ca, "POST", path, csr, identity=authority).status == 403
    assert asked(agency, authority, tmp_path, "x.devices.test", "/ca/csr?profile=registration-authority") == 403


def test_the_purpose_alone_is_not_enough(agency: Site, tmp_path: Path) -> None:
    """EST servers have it in their certificates, so that clients accept them (RFC 7030 §3.6.1)."""
    for profile in ("est-server", "default"):
        other = holder(agency, tmp_path, profile, f"{profile}.test")
        assert asked(agency, other, tmp_path, "a.devices.test") == 403


def test_it_renews_itself_and_revokes_nobody(agency: Site, authority: Identity, tmp_path: Path) -> None:
    head = {"Content-Type": "application/pkcs10"}
    csr = new_csr(authority.key_file, "ra.test").read_bytes()
    assert certs_only(request(agency.ca, "POST", f"{EST}/simplereenroll", csr, head, identity=authority))
    other = new_csr(authority.key_file, "a.devices.test").read_bytes()
    answer = request(agency.ca, "POST", f"{EST}/simplereenroll", other, head, identity=authority)
    assert answer.status == 403, "that is not the certificate that TLS has proven"
    victim = enrol(agency.ca, tmp_path, "victim.test")
    sn = victim.serial_hex
    proof = signature(authority, sn, "superseded")
    assert ask_revocation(agency.ca, authority, sn=sn, reason="superseded", signature=proof).status == 403


def test_a_request_linked_to_its_own_connections_passes(agency: Site, authority: Identity, tmp_path: Path) -> None:
    """What a device has put there for its connection to the registration authority says nothing of ours."""
    csr = linked_csr(tmp_path, "c29tZXdoZXJlIGVsc2U=", "a.devices.test")
    for label in ("", "/iot-device"):
        path = f"{EST}{label}/simpleenroll"
        head = {"Content-Type": "application/pkcs10"}
        assert request(agency.ca, "POST", path, csr, head, identity=authority).status == 200
        assert request(agency.ca, "POST", path, csr, {**BASIC, **head}).status == 400


def test_once_revoked_it_enrols_nobody(agency: Site, authority: Identity, tmp_path: Path) -> None:
    operator = enrol(agency.ca, tmp_path, "ops.test")
    assert asked(agency, authority, tmp_path, "b.devices.test") == 200
    sn, reason = authority.serial_hex, "keyCompromise"
    proof = signature(operator, sn, reason)
    answer = ask_revocation(agency.ca, operator, sn=sn, reason=reason, signature=proof)
    assert answer.status == 200, "the role of a revoker, by its name in the settings"
    assert {asked(agency, authority, tmp_path, "c.devices.test") for _ in range(4)} == {401}


def test_only_the_named_have_the_role(agency: Site, tmp_path: Path) -> None:
    victim, other = enrol(agency.ca, tmp_path, "v.test"), enrol(agency.ca, tmp_path, "ops.test.example")
    sn = victim.serial_hex
    query = urlencode({"sn": sn, "reason": "superseded", "signature": signature(other, sn, "superseded")})
    assert request(agency.ca, "DELETE", f"/ca/revoke?{query}", identity=other).status == 403
