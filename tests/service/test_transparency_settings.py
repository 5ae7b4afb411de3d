"""`[ct]` and `certificate_transparency`: what is wrong is refused by its key before the daemon serves."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.clock import SystemClock
from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.first_start import prepare, rules_for
from opencertd.issuance.transparency_table import parse_log_key
from opencertd.keys.kinds import PublicKey
from tests.ca import make_issuers, rsa_key


def b64(key: PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


ONE, TWO = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2))


def log(key: str = b64(ONE), url: str = "https://log.test/2026/", more: str = "") -> str:
    return f"""{{ url = "{url}", key = '''{key}''' {more} }}"""


def read(toml: str, tmp_path: Path) -> Settings:
    file = tmp_path / "opencertd.toml"
    file.write_text(f'dn = "CN=x"\nkey_type = ["ecdsa"]\nstate_dir = "{tmp_path}/state"\n' + toml)
    return read_settings({}, {}, file)


def test_without_a_word_there_are_no_logs(tmp_path: Path) -> None:
    assert read("", tmp_path).ct.logs == ()


def test_keys_may_be_pem_or_its_base64(tmp_path: Path) -> None:
    pem = TWO.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    table = read(f"[ct]\nlogs = [{log()}, {log(pem, 'http://10.0.0.1:6962')}]", tmp_path).ct
    assert [parse_log_key(one.key) for one in table.logs] == [ONE, TWO]
    assert [one.url for one in table.logs] == ["https://log.test/2026", "http://10.0.0.1:6962"]
    assert (table.required, table.seconds) == (2, 10)
    assert isinstance(parse_log_key(b64(rsa_key().public_key())), rsa.RSAPublicKey)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (f"logs = [{log('nonsense')}]\nrequired = 1", ["'ct.logs.0.key'", "public key"]),
        (f"logs = [{log('')}]\nrequired = 1", ["'ct.logs.0.key'", "public key"]),
        (f"logs = [{log(b64(rsa_key(1024).public_key()))}]\nrequired = 1", ["'ct.logs.0.key'", "2048"]),
        (f"logs = [{log(b64(ed25519.Ed25519PrivateKey.generate().public_key()))}]", ["'ct.logs.0.key'", "P-256"]),
        (f"logs = [{log(b64(ec.generate_private_key(ec.SECP384R1()).public_key()))}]", ["'ct.logs.0.key'", "P-256"]),
        (f"logs = [{log(url='log.test')}]", ["'ct.logs.0.url'", "https://"]),
        (f"logs = [{log(url='https://log.test/?a=b')}]", ["'ct.logs.0.url'", "without the ct/v1"]),
        (f"logs = [{log(more=', kye = 1')}]", ["'ct.logs.0.kye'"]),
        ("logs = [{ url = 'https://log.test' }]", ["'ct.logs.0.key'"]),
        (f"logs = [{log()}]", ["'ct'", "of 2 logs are required", "1 logs"]),
        (f"logs = [{log()}, {log(url='https://twin.test')}]", ["'ct'", "the same key"]),
        (f"logs = [{log()}, {log(b64(TWO))}]", ["'ct'", "the same url"]),
        ("seconds = 31", ["'ct.seconds'", "30"]),
        ("seconds = 0", ["'ct.seconds'"]),
        ("required = 0", ["'ct.required'"]),
    ],
)
def test_faults_name_their_key(toml: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        read(f"[ct]\n{toml}", tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", '"yes"', "[]"])
def test_a_profile_says_yes_no_or_how_many(value: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"'profiles.web.certificate_transparency'.*true, false, or a number"):
        read(f"[profiles.web]\ncertificate_transparency = {value}", tmp_path)


@pytest.mark.parametrize(
    ("profile", "ct", "words"),
    [
        ("true", "", "timestamps of 2 logs, and 'ct.logs' names 0"),
        (
            "3",
            f"[ct]\nlogs = [{log()}, {log(b64(TWO), 'http://two.test')}]",
            "timestamps of 3 logs, and 'ct.logs' names 2",
        ),
        ("true", f"[ct]\nlogs = [{log()}, {log(b64(TWO), 'http://two.test')}]", None),
        ("2", f"[ct]\nrequired = 1\nlogs = [{log()}, {log(b64(TWO), 'http://two.test')}]", None),
        ("false", "", None),
    ],
)
def test_profiles_may_not_want_more_logs_than_there_are(
    profile: str, ct: str, words: str | None, tmp_path: Path
) -> None:
    settings = read(f"{ct}\n[profiles.web]\ncertificate_transparency = {profile}", tmp_path)
    records = tuple(issuer.record for issuer in make_issuers().all())
    if words is None:
        assert rules_for(settings, settings.rules(), records)
        return
    with pytest.raises(StartError) as caught:
        rules_for(settings, settings.rules(), records)
    assert "'profiles.web.certificate_transparency'" in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no certificates"])
def test_trust_anchors_are_read_before_a_ca_is_made(content: bytes | None, tmp_path: Path) -> None:
    anchors = tmp_path / "log-ca.pem"
    if content is not None:
        anchors.write_bytes(content)
    settings = read(f"""[ct]\nrequired = 1\nlogs = [{log(more=f", trust_anchors = '{anchors}'")}]""", tmp_path)
    with pytest.raises(StartError, match=r"log-ca.pem, trust anchors of a log"):
        prepare(settings, SystemClock())
    assert not (tmp_path / "state" / "opencertd.sqlite3").exists()
