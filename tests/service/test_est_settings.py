"""`[est]`: the file of secrets for serverkeygen is read, or the daemon says by name and line what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.edges.est import binding_rules, read_decrypt_keys
from opencertd.errors import StartError
from opencertd.est.binding import BindingRule
from opencertd.settings.est import EstSettings

KEY = "00112233445566778899aabbccddeeff"


def file(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_secrets_are_by_requester_and_identifier(tmp_path: Path) -> None:
    text = (
        f"# devices\n\npassword:alice 0a1b {KEY}\npassword:alice ff {KEY * 2}  # the new one\npassword:bob 0a1b {KEY}\n"
    )
    key = bytes.fromhex(KEY)
    assert read_decrypt_keys(file(tmp_path, text)) == {
        "password:alice": {b"\x0a\x1b": key, b"\xff": key * 2},
        "password:bob": {b"\x0a\x1b": key},
    }


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (f"password:alice 0a {KEY}", 0o640, "chmod 600"),
        (f"\nalice 0a {KEY}", 0o600, "line 2"),
        ("password:alice 0a", 0o600, "line 1"),
        (f"password:alice 0a {KEY} more", 0o600, "line 1"),
        (f"password:alice 0a {KEY[2:]}", 0o600, "16, 24 or 32 octets"),
        (f"password:alice name {KEY}", 0o600, "in hex"),
    ],
)
def test_a_faulty_file_is_refused_in_words_that_hold_no_secret(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    with pytest.raises(StartError) as caught:
        read_decrypt_keys(file(tmp_path, text, mode))
    said = str(caught.value)
    assert said.startswith("est.decrypt_keys: ") and words in said
    assert KEY[2:] not in said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"est\.decrypt_keys: .*nothing"):
        read_decrypt_keys(tmp_path / "nothing")


def test_channel_binding_is_checked_when_present_unless_settings_say_otherwise() -> None:
    assert binding_rules(EstSettings(), ()).of("default") is BindingRule.WHEN_PRESENT
    settings = EstSettings.model_validate(
        {"channel_binding": "off", "profiles": {"pumps": {"channel_binding": "required"}, "valves": {}}}
    )
    rules = binding_rules(settings, ("default", "pumps", "valves"))
    assert [rules.of(name).value for name in ("default", "pumps", "valves")] == ["off", "required", "off"]


def test_a_rule_for_a_profile_that_there_is_not_is_refused() -> None:
    settings = EstSettings.model_validate({"profiles": {"pump": {"channel_binding": "required"}}})
    with pytest.raises(StartError, match=r"est\.profiles\.pump: there is no profile 'pump'"):
        binding_rules(settings, ("default", "pumps"))
