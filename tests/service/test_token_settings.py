"""`[tokens]`: what is wrong with it is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.config import read_settings
from opencertd.errors import StartError
from opencertd.settings.tokens import TokenSettings


def read(directory: Path, text: str) -> TokenSettings:
    file = directory / "opencertd.toml"
    file.write_text(f'dn = "CN=Tokens"\n[tokens]\n{text}\n')
    return read_settings({}, {}, file).tokens


def test_hosts_are_names_with_a_port_where_that_is_another(tmp_path: Path) -> None:
    found = read(tmp_path, 'key_hosts = ["Keys.Example.com:443", "keys.example.com:8443", "[2001:db8::1]"]')
    assert found.key_hosts == ("keys.example.com", "keys.example.com:8443", "[2001:db8::1]")
    assert found.anchors() is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('key_hosts = ["https://keys.example.com"]', "tokens.key_hosts.0"),
        ('key_hosts = ["keys.example.com/path"]', "tokens.key_hosts.0"),
        ('key_hosts = ["*"]', "tokens.key_hosts.0"),
        ('roles_claim = ""', "tokens.roles_claim"),
        ("leeway_seconds = 301", "tokens.leeway_seconds"),
        ('audience = "x"', "tokens.audience"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(StartError, match=key.replace(".", r"\.")):
        read(tmp_path, text)


def test_the_authoritys_cas_are_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"")
    for content, words in ((None, "cannot be read"), (b"nothing", "holds no PEM")):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(StartError, match=r"tokens\.trust_anchors: .*" + words):
            TokenSettings(trust_anchors=path).anchors()
