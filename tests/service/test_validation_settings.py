"""`[validation]` and `caa_identity`: what is refused, by which key; and that what is set reaches the validator."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.clock import SystemClock
from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.model.names import AltName, AltNameKind
from opencertd.settings.validation import build_validator
from opencertd.validation.validator import ControlValidator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind, expected_text
from tests.dns_server import DnsServer
from tests.validation.devices import issue, make_ca

EXAMPLE = Path(__file__).parents[2] / "etc" / "opencertd.toml"
KEY_AUTHORIZATION = "token.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
QUESTION = ControlQuestion("dns-01", AltName(AltNameKind.DNS, "a.test"), "token", KEY_AUTHORIZATION)


def read(tmp: Path, text: str) -> Settings:
    path = tmp / "o.toml"
    path.write_text('dn = "CN=x"\n' + text)
    return read_settings({}, {}, path)


FAULTS = {
    "an unknown challenge": ('[validation]\nchallenges = ["dns-02"]', ["validation.challenges", "dns-02"]),
    "no challenge": ("[validation]\nchallenges = []", ["at least one challenge"]),
    "a challenge twice": ('[validation]\nchallenges = ["dns-01", "dns-01"]', ["each once"]),
    "persistent records without a name": ('[validation]\nchallenges = ["dns-persist-01"]', ["--caa-identity"]),
    "no domain": ('caa_identity = ["a b"]', ["caa_identity", "not a DNS name"]),
    "a wildcard": ('caa_identity = ["*.ca.example"]', ["caa_identity", "not a DNS name"]),
    "too many identities": (f"caa_identity = {[f'a{n}.example' for n in range(11)]}", ["caa_identity", "10"]),
    "no network": ('[validation]\nrefuse = ["private"]', ["validation.refuse", "not a network"]),
    "bits to the right": ('[validation]\nrefuse = ["10.0.0.1/8"]', ["validation.refuse", "10.0.0.0/8"]),
    "half a DNSSEC": ('[validation]\ndnssec = "on"', ["validation.dnssec", "require"]),
    "a perspective like the own": ('[[validation.perspectives]]\nname = "x"', ["perspectives", "'x'", "a source"]),
    "a perspective without a name": ('[[validation.perspectives]]\ndns_server = "::1"', ["perspectives.0.name"]),
    "a source that is none": (
        '[[validation.perspectives]]\nname = "x"\nsource = ["eth0"]',
        ["perspectives.0.source", "not an IP address"],
    ),
    "two sources of a family": (
        '[[validation.perspectives]]\nname = "x"\nsource = ["10.0.0.1", "10.0.0.2"]',
        ["one source of IPv4"],
    ),
    "a quorum of none": ("[validation]\nquorum = 1", ["quorum is 1", "0 perspectives"]),
    "an unknown key": ("[validation]\nquorums = 1", ["validation.quorums"]),
}


@pytest.mark.parametrize(("text", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_name_the_key(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(StartError) as caught:
        read(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_roots_of_attestations_are_read_and_offer_their_challenge(tmp_path: Path) -> None:
    maker = make_ca("Maker")
    pem = tmp_path / "roots.pem"
    pem.write_bytes(maker.certificate.public_bytes(Encoding.PEM) * 2)
    found = read(tmp_path, f'[validation]\nattestation.tpm = ["{pem}"]').validation
    assert found.attestation.roots() == {"tpm": (maker.certificate, maker.certificate)}
    assert found.offered() == (*found.challenges, "device-attest-01")
    assert "device-attest-01" not in read(tmp_path, "").validation.offered()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "no PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot read the certificates"),
    ],
)
def test_files_without_roots_stop_the_start_by_key(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "roots.pem").write_bytes(content)
    table = read(tmp_path, f'[validation]\nattestation.apple = ["{tmp_path}/roots.pem"]').validation.attestation
    with pytest.raises(StartError) as caught:
        table.roots()
    assert "validation.attestation.apple" in str(caught.value) and words in str(caught.value)


def test_a_certificate_that_is_no_cas_is_no_root(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue(key.public_key(), "device", make_ca("Maker"))
    (tmp_path / "roots.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    table = read(tmp_path, f'[validation]\nattestation.step = ["{tmp_path}/roots.pem"]').validation.attestation
    with pytest.raises(StartError, match="not a CA's"):
        table.roots()


def test_the_example_is_one(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().partition("[validation]")[2].partition("\n[est]")[0]
    shown = "[validation]\n" + "\n".join(
        line.removeprefix("#") for line in text.splitlines() if line.startswith("#") and not line.startswith("# ")
    )
    found = read(tmp_path, shown).validation
    given = tomllib.loads(shown)["validation"]
    assert set(given) == set(type(found).model_fields) and found.perspectives[0].name == "far"


@pytest.mark.parametrize(("count", "needed"), [(0, 0), (1, 1), (2, 1), (3, 2), (6, 5)])
def test_all_but_one_of_several_perspectives_must_agree_by_default(tmp_path: Path, count: int, needed: int) -> None:
    text = "".join(f'[[validation.perspectives]]\nname = "{n}"\ndns_server = "::1"\n' for n in range(count))
    assert read(tmp_path, text).validation.needed() == needed


@pytest.fixture
def zones() -> Iterator[tuple[DnsServer, DnsServer]]:
    with DnsServer() as near, DnsServer() as far:
        yield near, far


def built(settings: Settings, zone: DnsServer, **more: Any) -> ControlValidator:
    from twisted.internet import reactor

    return build_validator(
        settings.validation,
        reactor=reactor,
        clock=SystemClock(),
        dns_server=f"127.0.0.1:{zone.port}",
        http01_port=80,
        tlsalpn01_port=443,
        allow=("127.0.0.0/8",),
        caa_identities=settings.caa_identity,
        base_url="https://ca.example",
    )


async def kind_of(validator: ControlValidator, question: ControlQuestion = QUESTION) -> FailureKind | None:
    failed = await validator.validate(question)
    return failed.kind if isinstance(failed, FailedProof) else None


@pytest_twisted.ensureDeferred
async def test_caa_is_looked_at_when_the_ca_has_a_name_in_it(
    tmp_path: Path, zones: tuple[DnsServer, DnsServer]
) -> None:
    near, _ = zones
    near.add("_acme-challenge.a.test", "TXT", expected_text(KEY_AUTHORIZATION))
    near.add("test", "CAA", '0 issue "ca.example"')
    assert await kind_of(built(read(tmp_path, ""), near)) is None
    assert not any(query.type == "CAA" for query in near.queries)
    assert await kind_of(built(read(tmp_path, 'caa_identity = ["CA.example."]'), near)) is None
    assert await kind_of(built(read(tmp_path, 'caa_identity = ["other.example"]'), near)) is FailureKind.CAA


@pytest_twisted.ensureDeferred
async def test_dnssec_perspectives_and_closed_networks_are_as_set(
    tmp_path: Path, zones: tuple[DnsServer, DnsServer]
) -> None:
    near, far = zones
    near.add("_acme-challenge.a.test", "TXT", expected_text(KEY_AUTHORIZATION))
    near.add("a.test", "A", "127.0.0.1")
    signed = built(read(tmp_path, '[validation]\ndnssec = "require"'), near)
    assert await kind_of(signed) is FailureKind.DNS
    near.signed = True
    assert await kind_of(signed) is None
    place = f'[[validation.perspectives]]\nname = "far"\ndns_server = "127.0.0.1:{far.port}"'
    both = built(read(tmp_path, place), near)
    assert await kind_of(both) is FailureKind.DNS
    assert await kind_of(built(read(tmp_path, f"[validation]\nquorum = 0\n{place}"), near)) is None
    far.add("_acme-challenge.a.test", "TXT", expected_text(KEY_AUTHORIZATION))
    assert await kind_of(both) is None
    by_http = ControlQuestion("http-01", QUESTION.name, "token", KEY_AUTHORIZATION)
    closed = await built(read(tmp_path, '[validation]\nrefuse = ["127.0.0.1"]'), near).validate(by_http)
    assert isinstance(closed, FailedProof) and "settings close" in closed.detail
