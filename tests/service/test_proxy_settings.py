"""`[proxy]`: a daemon does not start with settings that would let strangers pose as others."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.config import Settings, read_settings
from opencertd.errors import StartError


def read(directory: Path, text: str) -> Settings:
    path = directory / "opencertd.toml"
    path.write_text(f'dn = "CN=Test"\n{text}')
    return read_settings({}, {}, path)


def test_nobody_is_trusted_unless_named(tmp_path: Path) -> None:
    proxies = read(tmp_path, "").proxy.build()
    assert (proxies.networks, proxies.unix, proxies.certificate_header) == ((), False, None)


def test_addresses_networks_and_unix_sockets_may_be_named(tmp_path: Path) -> None:
    text = '[proxy]\ntrusted = ["10.0.0.1", "fd00::/8", "unix"]\ncertificate_header = "Client-Cert"'
    proxies = read(tmp_path, text).proxy.build()
    assert [str(network) for network in proxies.networks] == ["10.0.0.1/32", "fd00::/8"]
    assert (proxies.unix, proxies.certificate_header) == (True, "Client-Cert")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[proxy]\ntrusted = ["proxy.example.com"]', "must be an address"),
        ('[proxy]\ntrusted = ["10.0.0.1/8"]', "host bits"),
        ('[proxy]\ntrusted = ["0.0.0.0/0"]', "trusts everybody"),
        ('[proxy]\ntrusted = ["::/0"]', "trusts everybody"),
        ('[proxy]\ncertificate_header = "X-Cert"', "needs trusted"),
        ('[proxy]\ntrusted = ["::1"]\ncertificate_header = "X Cert"', "name of a header"),
        ('[proxy]\ntrusted = ["::1"]\ncertificate_header = "Authorization"', "means something else"),
        ('[proxy]\ntrusted = ["::1"]\ncertificate_header = "Forwarded"', "means something else"),
        ('[proxy]\ntrusted = ["::1"]\naddress_header = "X-Real-IP"', "address_header"),
        ('[proxy]\ntrust = ["::1"]', "unknown setting 'proxy.trust'"),
        ('listen = ["unix:/run/x.sock"]\n[proxy]\ntrusted = ["unix"]', "mode=660"),
        ('listen = ["unix:/run/x.sock:mode=666"]\n[proxy]\ntrusted = ["unix"]', "mode=660"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StartError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


@pytest.mark.parametrize("mode", ["mode=660", "mode=0600:backlog=50", "lockfile=0:mode=600"])
def test_a_socket_that_few_can_open_may_be_trusted(tmp_path: Path, mode: str) -> None:
    read(tmp_path, f'listen = ["unix:/run/x.sock:{mode}"]\n[proxy]\ntrusted = ["unix"]')
