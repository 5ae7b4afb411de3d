"""Settings come from three sources in a fixed order, and every fault names its key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.issuance.profile_tables import ProfileTable, RulesTable
from opencertd.service import Options

EXAMPLE = Path(__file__).parents[2] / "etc" / "opencertd.toml"


def read(file: str = "", environment: dict[str, str] | None = None, tmp: Path | None = None, **given: Any) -> Settings:
    path = None
    if tmp is not None:
        path = tmp / "opencertd.toml"
        path.write_text(file)
    return read_settings(given, environment or {}, path)


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = 'dn = "CN=file"\nport = 1001\nworkers = 4\n'
    settings = read(file, {"OPENCERT_DN": "CN=environment", "OPENCERT_PORT": "1002"}, tmp_path, port="1003")
    assert (settings.dn, settings.port, settings.workers) == ("CN=environment", 1003, 4)


def test_lists_in_the_environment() -> None:
    settings = read(environment={"OPENCERT_HOSTNAME": "a.test, b.test 10.0.0.1"}, dn="CN=x")
    assert settings.hostname == ("a.test", "b.test", "10.0.0.1")


def test_certificates_may_be_held_unless_settings_say_no(tmp_path: Path) -> None:
    assert read('dn = "CN=x"', tmp=tmp_path).access.hold
    assert not read('dn = "CN=x"\n[access]\nhold = false', tmp=tmp_path).access.hold


FAULTS: dict[str, tuple[str, dict[str, str], dict[str, Any], list[str]]] = {
    "unknown in file": ('dn = "x"\nprot = 1', {}, {}, ["'prot'", "opencertd.toml"]),
    "unknown in table": ('dn = "x"\n[est]\nbdy = "auto"', {}, {}, ["'est.bdy'"]),
    "unknown in environment": ("", {"OPENCERT_PROT": "1"}, {"dn": "x"}, ["OPENCERT_PROT"]),
    "bad port": ("", {}, {"dn": "x", "port": "99999"}, ["'port'", "--port", "99999"]),
    "port no number": ("", {"OPENCERT_PORT": "https"}, {"dn": "x"}, ["'port'", "OPENCERT_PORT"]),
    "bad url": ("", {}, {"dn": "x", "external_url": "ca.test"}, ["'external_url'", "https://"]),
    "plain external url": ("", {}, {"dn": "x", "external_url": "http://ca.test"}, ["https://"]),
    "bad ocsp url": ("", {}, {"dn": "x", "ocsp": ["ldap://x"]}, ["ocsp", "http://"]),
    "bad network": ("", {}, {"dn": "x", "validation_allow": ["loopback"]}, ["validation_allow", "loopback"]),
    "bad hostname": ("", {}, {"dn": "x", "hostname": ["a b"]}, ["hostname", "not a DNS name"]),
    "bad resolver": ("", {}, {"dn": "x", "dns_server": "10.0.0.1:x"}, ["dns_server", "HOST:PORT"]),
    "bad database": ("", {}, {"dn": "x", "database": "mysql://x"}, ["database", "postgresql://"]),
    "no CA": ("", {}, {}, ["--dn"]),
    "two CAs": ("", {}, {"dn": "x", "rsa": "a.pem"}, ["--dn", "--rsa"]),
    "half a TLS pair": ("", {}, {"dn": "x", "tls_cert": "a.pem"}, ["--tls-key"]),
    "tokens for anybody": ("", {}, {"dn": "x", "authority": "https://login.test"}, ["--audience"]),
    "tokens without TLS": ("", {}, {"dn": "x", "authority": "http://login.test", "audience": "a"}, ["authority"]),
    "no workers": ("", {}, {"dn": "x", "workers": "0"}, ["workers"]),
    "bad revoker": ('dn = "x"\n[access]\nrevokers = ["me"]', {}, {}, ["access.revokers", "KEYWORD=value"]),
    "half a token": ('dn = "x"\n[pkcs11]\ntoken = "t"', {}, {}, ["'pkcs11'", "pin_file"]),
    "a key store without a token": ("", {}, {"dn": "x", "key_store": "pkcs11"}, ["--key-store", "[pkcs11]"]),
    "an unknown key store": ("", {}, {"dn": "x", "key_store": "tpm"}, ["'key_store'", "--key-store", "tpm"]),
    "a token for an existing CA": (
        'key_store = "pkcs11"\n[pkcs11]\nmodule = "/m"\ntoken = "t"\npin_file = "/p"',
        {},
        {"ec": "a.pem"},
        ["--key-store", "move-key"],
    ),
    "unknown key of a profile": ('dn = "x"\n[profiles.web]\nvalidty = "1d"', {}, {}, ["'profiles.web.validty'"]),
    "bad duration": ('dn = "x"\n[profiles.web]\nvalidity = "1 day"', {}, {}, ["'profiles.web.validity'", "90d"]),
    "bad purpose": (
        'dn = "x"\n[profiles.web]\nextended_key_usage = ["server"]',
        {},
        {},
        ["'profiles.web.extended_key_usage.0'", "serverAuth"],
    ),
    "bad extension": (
        'dn = "x"\n[[profiles.web.extensions]]\noid = "1.2.3"\nhex = "0c05"',
        {},
        {},
        ["'profiles.web.extensions.0'", "DER"],
    ),
    "bad rule": ('dn = "x"\n[policy.deny]\nip = ["10.0.0.1/8"]', {}, {}, ["'policy.deny.ip.0'", "host bits"]),
    "nobody meant": ('dn = "x"\n[[policy.requester]]\nallow.dns = ["*"]', {}, {}, ["'policy.requester.0'", "nobody"]),
    "half a hold": ('dn = "x"\n[access]\nhold = "perhaps"', {}, {}, ["access.hold", "perhaps"]),
    "bad key type": ("", {"OPENCERT_KEY_TYPE": "dsa"}, {"dn": "x"}, ["'key_type", "OPENCERT_KEY_TYPE", "ml-dsa-65"]),
    "RSA too small": ("", {}, {"dn": "x", "key_type": ["rsa-1024"]}, ["key_type", "2048"]),
    "two of a family": ("", {}, {"dn": "x", "key_type": ["ml-dsa-44", "ml-dsa-87"]}, ["two CAs named 'ml-dsa'"]),
    "key type of a CA that is there": ("", {}, {"rsa": "a.pem", "key_type": ["rsa"]}, ["--key-type", "--dn"]),
    "no TOML": ("dn = CN=x", {}, {}, ["not valid TOML", "opencertd.toml"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_the_key(case: str, tmp_path: Path) -> None:
    file, environment, given, words = FAULTS[case]
    with pytest.raises(StartError) as caught:
        read(file, environment, tmp_path, **given)
    text = str(caught.value)
    assert "\n" not in text or case == "no TOML"
    for word in words:
        assert word in text


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(StartError, match=r"/nowhere/o\.toml: No such file"):
        read_settings({}, {}, Path("/nowhere/o.toml"))


def test_the_example_loads_as_it_is_and_with_every_key_given(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    assert Settings.model_validate(tomllib.loads(text)).dn == "CN=My Internal CA"
    full = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    everything = tomllib.loads(full)
    with pytest.raises(StartError, match="--dn"):
        read(full, {}, tmp_path)  # `dn` and `rsa` exclude each other
    del everything["dn"], everything["key_type"]
    assert Settings.model_validate(everything).workers == 1
    assert {*everything, "dn", "key_type"} == set(Settings.model_fields), (
        "etc/opencertd.toml explains every key, and no other"
    )
    assert {*everything["profiles"]["default"], "policy"} == set(ProfileTable.model_fields)
    assert set(everything["policy"]["allow"]) == set(everything["policy"]["deny"]) == set(RulesTable.model_fields)


EXAMPLES = {"decrypt_keys", "windows", "archive_cutoff"}
"""Keys that nothing is the default of, so that the example gives an example."""


def test_defaults_in_the_example_are_the_real_ones() -> None:
    full = tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE))
    for key in ("port", "workers", "http01_port", "tlsalpn01_port"):
        assert full[key] == Settings.model_fields[key].default
    for table in ("est", "audit", "retention", "status", "approval"):
        for key, value in full[table].items():
            default = Settings.model_fields[table].default.__dict__[key]
            assert value == default or (key in EXAMPLES and not default), key


def test_every_setting_is_an_option_and_the_other_way_round() -> None:
    options = {name.replace("-", "_") for name, *_ in Options.optParameters}
    options |= {name.removeprefix("opt_") for name in vars(Options) if name.startswith("opt_")}
    tables = {"acme", "est", "access", "keys", "lint", "audit", "profiles", "policy", "pkcs11", "validation", "ct"}
    tables |= {"limits", "retention", "status", "proxy", "approval", "crls", "tokens"}
    assert options - {"config"} == set(Settings.model_fields) - tables


def test_options_parse_and_complain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("OPENCERT_DN", raising=False)
    options = Options()
    options.parseOptions(["--dn", "CN=x", "--ocsp", "http://a/", "--ocsp", "http://b/", "--http01-port", "5002"])
    assert options.settings.ocsp == ("http://a/", "http://b/")
    assert options.settings.http01_port == 5002
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([])
    assert caught.value.code == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("opencert: no CA to run") and complaint.count("\n") == 1


def test_the_external_url_defaults_to_the_first_hostname() -> None:
    assert read(dn="x", hostname=["ca.test"]).base_url() == "https://ca.test:5001"
    assert read(dn="x", hostname=["::1"], port="443").base_url() == "https://[::1]"
    assert read(dn="x", external_url="https://ca.test/").base_url() == "https://ca.test"
