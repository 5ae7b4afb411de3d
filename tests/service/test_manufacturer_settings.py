"""`[est.manufacturers.NAME]`: what is wrong with it is one sentence that names the setting, before it serves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.clock import SystemClock
from opencertd.config import Settings, read_settings
from opencertd.edges.authentication import build_manufacturers
from opencertd.edges.parts import Parts
from opencertd.errors import StartError
from opencertd.first_start import prepare
from opencertd.settings.manufacturers import read_roots
from tests.est.rig import Rig, issuers


def certificate(*, ca: bool = True) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Maker")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


GOOD = {"roots": ["maker.pem"], "names": ["dns:{serialNumber}.a.test"], "profiles": ["iot-device"]}


def read(directory: Path, *tables: tuple[str, dict[str, Any]]) -> Settings:
    lines = ['dn = "CN=Test"', f'state_dir = "{directory / "state"}"']
    for name, table in tables:
        lines.append(f"[est.manufacturers.{name}]")
        for key, value in table.items():
            places = [str(directory / each) if key in ("roots", "crl") else each for each in value]
            lines.append(f"{key} = {places}")
    path = directory / "opencertd.toml"
    path.write_text("\n".join(lines))
    return read_settings({}, {}, path)


def build(directory: Path, *tables: tuple[str, dict[str, Any]]) -> Any:
    settings = read(directory, *tables)
    rig = Rig()
    values = dict.fromkeys(Parts.__dataclass_fields__) | {
        "settings": settings,
        "authority": rig.authority,
        "clock": rig.clock,
        "manufacturer_roots": read_roots(settings.est.manufacturers),
    }
    return build_manufacturers(Parts(**values))  # type: ignore[arg-type]


def test_none_are_known_unless_named(tmp_path: Path) -> None:
    assert build(tmp_path) is None


def test_several_may_be_named(tmp_path: Path) -> None:
    for name in ("maker.pem", "other.pem"):
        (tmp_path / name).write_bytes(certificate())
    assert build(tmp_path, ("maker", GOOD), ("other", GOOD | {"roots": ["other.pem"]})) is not None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ('"a:b"', {}, "est.manufacturers.a:b"),
        ("maker", {"names": ["{serialNumber}"]}, "begin with one of"),
        ("maker", {"names": []}, "est.manufacturers.maker.names"),
        ("maker", {"profiles": []}, "est.manufacturers.maker.profiles"),
        ("maker", {"profiles": ["nothing"]}, "est.manufacturers.maker.profiles: there is no profile 'nothing'"),
        ("maker", {"roots": []}, "est.manufacturers.maker.roots"),
        ("maker", {"roots": ["nowhere.pem"]}, "est.manufacturers.maker.roots: cannot read"),
        ("maker", {"roots": ["empty.pem"]}, "no PEM certificate"),
        ("maker", {"roots": ["device.pem"]}, "not a CA certificate"),
        ("maker", {"roots": ["ours.pem"]}, "this CA's own"),
        ("maker", {"crl": ["nowhere.crl"]}, "est.manufacturers.maker.crl: the CRL"),
        ("maker", {"crl": ["maker.pem"]}, "there is no PEM CRL"),
        ("maker", {"colour": ["red"]}, "est.manufacturers.maker.colour"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    files = {
        "maker.pem": certificate(),
        "device.pem": certificate(ca=False),
        "empty.pem": b"",
        "ours.pem": issuers().all()[0].certificate.public_bytes(Encoding.PEM),
    }
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    with pytest.raises(StartError) as caught:
        build(tmp_path, (name, GOOD | changes))
    assert words in str(caught.value)


def test_two_cannot_have_one_root(tmp_path: Path) -> None:
    (tmp_path / "maker.pem").write_bytes(certificate())
    with pytest.raises(StartError, match="'one' has the same root"):
        build(tmp_path, ("one", GOOD), ("two", GOOD))


def test_a_missing_file_stops_the_daemon_before_it_makes_a_ca(tmp_path: Path) -> None:
    start: Callable[[], Any] = lambda: prepare(read(tmp_path, ("maker", GOOD)), SystemClock())  # noqa: E731
    with pytest.raises(StartError, match=r"est\.manufacturers\.maker\.roots: cannot read"):
        start()
    assert not (tmp_path / "state" / "trust-anchors.pem").exists()
