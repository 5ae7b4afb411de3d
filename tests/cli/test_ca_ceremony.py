"""The ceremony of an offline root: its key is nowhere but in its file, and the transcript can be checked by openssl."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import mode, openssl
from tests.cli.test_ca import Ca

KEY_TYPES = ["ecdsa", "rsa-2048", "rsa-pss-2048", "ed25519"]


def hold(ca: Ca, tmp_path: Path, key_type: str = "ecdsa") -> tuple[str | Path, ...]:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    return (
        *("ceremony", "example", "--root-dn", "CN=Example Root,O=X", "--dn", "CN=Example CA,O=X"),
        *("--key-type", key_type, "--passphrase-file", secret),
        *("--root-key-out", tmp_path / "root.key", "--transcript", tmp_path / "transcript.txt"),
    )


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_issuing_ca_works_and_the_transcript_is_true(tmp_path: Path, key_type: str) -> None:
    ca = Ca(tmp_path / "ca")
    ca.directory.mkdir()
    ca.done(*hold(ca, tmp_path, key_type))
    assert ca.names() == ["example-root", "example"]
    root, issuing = ca.issuer("example-root"), ca.issuer("example")
    assert (root["key_place"], root["live"], issuing["under"]) == ("taken away", 2, "example-root")
    openssl("verify", "-x509_strict", "-CAfile", ca.anchors, ca.certificate("example"))
    openssl("pkey", "-in", tmp_path / "root.key", "-passin", f"file:{tmp_path / 'secret'}", "-noout")
    assert mode(tmp_path / "root.key") == mode(tmp_path / "transcript.txt") == 0o600
    assert len(list((ca.state / "keys").iterdir())) == 1
    text = (tmp_path / "transcript.txt").read_text()
    for words in (root["sha256"], issuing["sha256"], "held by", "CN=Example Root,O=X", str(tmp_path / "root.key")):
        assert words in text
    assert openssl("dgst", "-sha256", "-r", tmp_path / "root.key").split()[0] in text
    (pem,) = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)[:1]
    (tmp_path / "root.pem").write_text(re.sub(r"(?m)^ +", "", pem) + "\n")
    for line in text.splitlines()[-2:]:
        subprocess.run(line.strip(), shell=True, check=True, cwd=tmp_path, capture_output=True, timeout=60)
    (tmp_path / "transcript.txt").write_text(text.replace("Example", "Exemple"))
    changed = subprocess.run(
        shlex.split(text.splitlines()[-1]), check=False, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert changed.returncode != 0
    assert "already" in ca.done("init")  # as the daemon starts, without --dn


def test_a_ceremony_replaces_nothing_and_says_where_it_broke_off(tmp_path: Path) -> None:
    ca = Ca(tmp_path / "ca")
    ca.directory.mkdir()
    words = hold(ca, tmp_path)
    ca.done(*words)
    kept = (tmp_path / "transcript.txt").read_bytes()
    assert "replaces nothing" in ca.refused(*words)
    assert (tmp_path / "transcript.txt").read_bytes() == kept
    second = tmp_path / "second"
    second.mkdir()
    assert "already" in ca.refused(*hold(ca, second))
    assert "BROKEN OFF: there is an issuer" in (second / "transcript.txt").read_text()
    assert not (second / "root.key").exists()
    assert "must exist" in ca.refused(*hold(ca, second), "--transcript", tmp_path / "nowhere" / "t.txt")
