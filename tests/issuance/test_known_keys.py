"""Keys on a list are refused, the list as its file stands now; a broken list loses nothing and is named by its line."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, globalLogPublisher

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import at_once
from opencertd.issuance.key_lists import BLOCKLIST, DEBIAN_WEAK, Digests, parse_list
from opencertd.issuance.known_keys import KnownKeys
from tests.ca import rsa_key, spki_of

EC_SPKI = spki_of(ec.generate_private_key(ec.SECP256R1()))
OTHER_SPKI = spki_of(ec.generate_private_key(ec.SECP256R1()))
RSA_SPKI = spki_of(rsa_key())

# A modulus of Debian's list and its digest there, as another CA's tests have them (letsencrypt/boulder, goodkey).
DEBIAN_MODULUS = int(
    "D673252AF6723C3F72529403EAB7C30DEF3C52F97E799825F4A70191C616ADCF1ECE1113F1625971074C492C592025FDEADBDB146A081826"
    "BDF0D77C3C913DCF1B6F0B3B78F5108D2E493AD0EEE8CA5C021711ADC13D358E61133870FCD19C8E5C22403959782AA82E72AEE53A3D491E"
    "3912CE27B27E1A85EA69C19A527D28F7934C9823B7E56FDD657DAC83FDC65BB22A98D843DF73238919781B714C81A5E2AFEC71F5C54AA2A2"
    "7C590AD94C03C1062D50EFCFFAC743E3C8A3AE056846A1D756EB862BF4224169D467C35215ADE0AFCC11E85FE629AFB802C4786FF2E9C929"
    "BCCF502B3D3B8876C6A11785CC398B389F1D86BDD9CB0BD4EC13956EC3FA270D",
    16,
)
DEBIAN_DIGEST = "8df20e6961a16398b85a"


def sha256(spki_der: bytes) -> str:
    return hashlib.sha256(spki_der).hexdigest()


def refused(keys: KnownKeys, spki_der: bytes) -> Refusal | None:
    try:
        keys.check(spki_der)
    except Refusal as refusal:
        return refusal
    return None


def blocked(keys: KnownKeys, spki_der: bytes) -> bool:
    refusal = refused(keys, spki_der)
    assert refusal is None or refusal.kind is RefusalKind.BAD_PUBLIC_KEY
    return refusal is not None


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


async def looked(keys: KnownKeys) -> None:
    """Time enough for a change to count: it must be seen twice."""
    await keys.look_again(at_once)
    await keys.look_again(at_once)


def test_a_blocked_key_is_refused_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "blocklist"
    path.write_text(f"# keys found on a website\n\n  {sha256(EC_SPKI).upper()}  # a laptop\r\n{sha256(RSA_SPKI)}")
    keys = KnownKeys(path)
    keys.read()
    assert blocked(keys, EC_SPKI)
    assert blocked(keys, RSA_SPKI)
    assert not blocked(keys, OTHER_SPKI)
    refusal = refused(keys, EC_SPKI)
    assert refusal and str(tmp_path) not in refusal.detail


def test_openssl_makes_the_same_digest(tmp_path: Path) -> None:
    """The command that etc/opencertd.toml gives."""
    key, path = tmp_path / "key.pem", tmp_path / "blocklist"
    shell = (
        f"openssl ecparam -name prime256v1 -genkey -noout -out {key} && "
        f"openssl pkey -in {key} -pubout -outform DER -out {key}.der && "
        f"openssl pkey -in {key} -pubout | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1 > {path}"
    )
    subprocess.run(shell, shell=True, check=True, timeout=20, capture_output=True)
    keys = KnownKeys(path)
    keys.read()
    assert blocked(keys, Path(f"{key}.der").read_bytes())


def test_a_key_of_debians_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blacklist.RSA-2048"
    path.write_text(f"# Blacklist of RSA-2048\n{'00' * 10}\n{DEBIAN_DIGEST}\n{'ff' * 10}\n")
    keys = KnownKeys(debian_weak=(path,))
    keys.read()
    weak = rsa.RSAPublicNumbers(65537, DEBIAN_MODULUS).public_key()
    refusal = refused(keys, weak.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert refusal and refusal.kind is RefusalKind.BAD_PUBLIC_KEY
    assert "Debian" in refusal.detail
    assert not blocked(keys, RSA_SPKI)
    assert not blocked(keys, EC_SPKI)


def test_openssl_blacklists_digest_is_what_openssl_prints(tmp_path: Path) -> None:
    """As the manual of openssl-vulnkey has it: the modulus as printed, its SHA-1 without the first 20 characters."""
    public, path = tmp_path / "key.der", tmp_path / "list"
    public.write_bytes(RSA_SPKI)
    shell = f"openssl rsa -noout -modulus -pubin -inform DER -in {public} | sha1sum | cut -c21-40 > {path}"
    subprocess.run(shell, shell=True, check=True, timeout=20, capture_output=True)
    keys = KnownKeys(debian_weak=(path,))
    keys.read()
    assert blocked(keys, RSA_SPKI)


BROKEN: dict[str, Callable[[Path], object]] = {
    "line 3": lambda path: path.write_text(f"# x\n{'ab' * 32}\n{'ab' * 31}\n"),
    "line 1": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "line 2: 'ab cd": lambda path: path.write_text(f"{'ab' * 32}\nab cd{'ab' * 30}\n"),
    "line 1: 'sha256:": lambda path: path.write_text(f"sha256:{'ab' * 32}"),
    "No such file": lambda path: None,
    "is not a file": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_list_that_cannot_be_read_is_named(words: str, tmp_path: Path) -> None:
    path = tmp_path / "blocklist"
    BROKEN[words](path)
    with pytest.raises(StartError) as caught:
        KnownKeys(path).read()
    text = str(caught.value)
    if words != "is not a file":
        assert words in text
    assert str(path) in text
    assert "\n" not in text


@pytest_twisted.ensureDeferred
async def test_a_change_counts_when_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "blocklist"
    path.write_text("")
    keys = KnownKeys(path)
    keys.read()
    assert not blocked(keys, EC_SPKI)
    path.write_text(sha256(EC_SPKI))
    await keys.look_again(at_once)
    assert not blocked(keys, EC_SPKI), "it may be half written"
    await keys.look_again(at_once)
    assert blocked(keys, EC_SPKI)
    fresh = tmp_path / "fresh"
    fresh.write_text(sha256(OTHER_SPKI))
    fresh.replace(path)
    await looked(keys)
    assert (blocked(keys, EC_SPKI), blocked(keys, OTHER_SPKI)) == (False, True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("fault", ["broken", "removed"])
async def test_a_list_that_becomes_unreadable_stays_as_it_was(
    fault: str, tmp_path: Path, logged: list[LogEvent]
) -> None:
    path = tmp_path / "blocklist"
    path.write_text(sha256(EC_SPKI))
    keys = KnownKeys(path)
    keys.read()
    if fault == "broken":
        path.write_text("# nothing\nnonsense\n")
    else:
        path.unlink()
    for _ in range(5):
        await keys.look_again(at_once)
    assert blocked(keys, EC_SPKI)
    said = [str(event["why"]) for event in logged if "why" in event]
    assert len(said) == 1, "a fault is said once"
    assert str(path) in said[0]
    assert ("line 2: 'nonsense'" in said[0]) is (fault == "broken")
    path.write_text(sha256(OTHER_SPKI))
    await looked(keys)
    assert blocked(keys, OTHER_SPKI)


@pytest_twisted.ensureDeferred
async def test_without_a_list_that_was_ever_read_no_key_passes(tmp_path: Path, logged: list[LogEvent]) -> None:
    path = tmp_path / "blocklist"
    path.write_text("nonsense")
    keys = KnownKeys(path)
    keys.read_what_can_be()
    assert any("line 1" in str(event.get("why")) for event in logged)
    refusal = refused(keys, EC_SPKI)
    assert refusal and refusal.kind is RefusalKind.UNAVAILABLE
    path.write_text(f"{sha256(EC_SPKI)}\n")
    await looked(keys)
    assert (blocked(keys, EC_SPKI), blocked(keys, OTHER_SPKI)) == (True, False)


@pytest_twisted.ensureDeferred
async def test_files_are_read_where_they_hold_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "blocklist"
    path.write_text("")
    keys = KnownKeys(path)
    keys.read()
    elsewhere: list[Callable[[], list[str]]] = []

    def later(function: Callable[[], list[str]]) -> Deferred[list[str]]:
        elsewhere.append(function)
        return succeed([])

    path.write_text(sha256(EC_SPKI))
    os.utime(path, (1, 1))
    await keys.look_again(later)
    await keys.look_again(later)
    assert not blocked(keys, EC_SPKI)
    for function in elsewhere:
        function()
    assert blocked(keys, EC_SPKI)


@given(st.sets(st.binary(min_size=10, max_size=10), max_size=50), st.binary(min_size=10, max_size=10))
def test_digests_are_a_set(held: set[bytes], other: bytes) -> None:
    digests = Digests(held, 10)
    assert len(digests) == len(held)
    assert all(digest in digests for digest in held)
    assert (other in digests) is (other in held)
    lines = b"\n".join(digest.hex().encode() for digest in held)
    assert len(parse_list(lines, DEBIAN_WEAK)) == len(held)


@given(st.binary(max_size=200))
def test_any_content_is_a_list_or_a_fault_with_a_line(data: bytes) -> None:
    try:
        parse_list(data, BLOCKLIST)
    except ValueError as error:
        assert str(error).startswith("line ")
