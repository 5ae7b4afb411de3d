"""A device with its manufacturer's certificate is somebody, for the names that rules make, and never one of ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, execute

from opencertd.clock import SystemClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.issuance.identity_names import parse_name_rule
from opencertd.model.names import parse_dns_name
from opencertd.model.requester import Proof, Requester
from opencertd.web.authentication import Authenticator
from opencertd.web.manufacturer_crls import ManufacturerCrls, read_crls
from opencertd.web.manufacturers import Manufacturer, Manufacturers
from opencertd.web.peer import Shown

from .pki import CLIENT, SERVER, Pair, build, issuing
from .test_authentication import Known, forwarded, record, request

NOW = datetime.now(UTC)
NAMES = (parse_name_rule("dns:{CN}.devices.test"),)


@cache
def maker() -> Pair:
    return build("Maker Root", ca=True)


@cache
def between() -> Pair:
    return build("Maker Devices", maker(), ca=True)


@cache
def device() -> Pair:
    return build("sn-17", maker(), usages=(CLIENT,))


def manufacturer(name: str = "maker", root: Pair | None = None, **parts: Any) -> Manufacturer:
    return Manufacturer(name, ((root or maker()).certificate,), NAMES, frozenset({"iot-device"}), **parts)


def among(*manufacturers: Manufacturer) -> Manufacturers:
    return Manufacturers(manufacturers or (manufacturer(),), clock=SystemClock())


async def refused(deed: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await deed()
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_device_may_have_the_names_of_its_rules() -> None:
    found = await among(manufacturer("other", build("Other", ca=True)), manufacturer()).requester(Shown(device().der))
    assert found == Requester(
        proof=Proof.MANUFACTURER_CERTIFICATE,
        id=f"maker:{device().certificate.fingerprint(hashes.SHA256()).hex()}",
        label="CN=sn-17",
        grant=found.grant,
        certificate_der=device().der,
        profiles=frozenset({"iot-device"}),
    )
    for name, covered in [("sn-17.devices.test", True), ("sn-18.devices.test", False), ("sn-17", False)]:
        assert found.grant.covers(parse_dns_name(name)) is covered


@pytest_twisted.ensureDeferred
async def test_a_device_may_send_what_is_between_it_and_a_root() -> None:
    below = build("sn-18", between(), usages=(CLIENT,))
    assert (await among().requester(Shown(below.der, lambda: (between().der,)))).label == "CN=sn-18"
    assert (await refused(lambda: among().requester(Shown(below.der)))).kind is RefusalKind.UNAUTHENTICATED
    known = among(manufacturer(root=between()))
    assert (await known.requester(Shown(below.der))).label == "CN=sn-18", "the CA between stands in the file of roots"


BAD = {
    "expired": lambda: build("old", maker(), usages=(CLIENT,), age=timedelta(hours=5)),
    "not yet valid": lambda: build("young", maker(), usages=(CLIENT,), age=-timedelta(hours=5)),
    "by a CA of the same name": lambda: build("x", build("Maker Root", ca=True), usages=(CLIENT,)),
    "self-signed": lambda: build("self", usages=(CLIENT,)),
    "not for clients": lambda: build("server", maker(), usages=(SERVER,)),
    "below a device": lambda: build("sub", device(), usages=(CLIENT,)),
    "ours, but not in the records": lambda: build("host.test", issuing(), usages=(CLIENT,)),
}


@pytest.mark.parametrize("kind", BAD)
@pytest_twisted.ensureDeferred
async def test_devices_that_no_manufacturer_vouches_for(kind: str) -> None:
    shown = Shown(BAD[kind]().der, lambda: (device().der,))
    assert (await refused(lambda: among().requester(shown))).kind is RefusalKind.UNAUTHENTICATED


@pytest_twisted.ensureDeferred
async def test_a_device_of_which_nothing_makes_a_name_is_told_so() -> None:
    rules = (parse_name_rule("dns:{serialNumber}.devices.test"),)
    known = among(Manufacturer("maker", (maker().certificate,), rules, frozenset({"iot-device"})))
    refusal = await refused(lambda: known.requester(Shown(device().der)))
    assert (refusal.kind, "'maker'" in refusal.detail) == (RefusalKind.UNAUTHORIZED, True)


@pytest_twisted.ensureDeferred
async def test_only_where_they_are_admitted_do_devices_count(tmp_path: Path) -> None:
    plain = Authenticator(recognise=Known(), clock=SystemClock())
    admitting = plain.admitting(among())
    for asked in (request(device()), forwarded(device())):
        assert (await admitting.authenticate(asked)).proof is Proof.MANUFACTURER_CERTIFICATE
        assert "not one of this CA's" in (await refused(lambda asked=asked: plain.authenticate(asked))).detail


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_ours_is_ours_though_a_manufacturer_would_vouch_for_it() -> None:
    own = build("host.test", maker(), usages=(CLIENT,))
    known = Known(record(own, not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=1)))
    asked = Authenticator(recognise=known, clock=SystemClock()).admitting(among())
    assert (await asked.authenticate(request(own))).proof is Proof.TLS_CERTIFICATE


def crl(
    by: Pair,
    *revoked: Pair,
    age: timedelta = timedelta(hours=1),
    life: timedelta = timedelta(days=1),
    extension: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
    builder = builder.last_update(NOW - age).next_update(NOW - age + life)
    for each in revoked:
        serial = each.certificate.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
        builder = builder.add_revoked_certificate(entry)
    if extension is not None:
        builder = builder.add_extension(*extension)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def in_thread(function: Any) -> Deferred[Any]:
    return execute(function)


def with_crl(path: Path, data: bytes) -> Manufacturers:
    path.write_bytes(data)
    return among(manufacturer(crls=ManufacturerCrls((path,), in_thread)))


@pytest_twisted.ensureDeferred
async def test_what_a_manufacturer_has_revoked_is_refused(tmp_path: Path) -> None:
    other = build("sn-19", maker(), usages=(CLIENT,))
    known = with_crl(tmp_path / "crl", crl(maker(), other))
    assert (await known.requester(Shown(device().der))).label == "CN=sn-17"
    refusal = await refused(lambda: known.requester(Shown(other.der)))
    assert (refusal.kind, "revoked" in refusal.detail) == (RefusalKind.UNAUTHENTICATED, True)


@pytest_twisted.ensureDeferred
async def test_a_crl_is_read_again_when_it_changes_and_kept_when_it_breaks(tmp_path: Path) -> None:
    path = tmp_path / "crl"
    known = with_crl(path, crl(maker()))
    await known.requester(Shown(device().der))
    path.write_bytes(b"nonsense")
    await known.requester(Shown(device().der))
    path.unlink()
    await known.requester(Shown(device().der))
    fresh = tmp_path / "fresh"
    fresh.write_bytes(crl(maker(), device()))
    fresh.replace(path)
    assert (await refused(lambda: known.requester(Shown(device().der)))).kind is RefusalKind.UNAUTHENTICATED


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: crl(maker(), age=timedelta(days=2)), id="out of date"),
        pytest.param(lambda: crl(maker(), age=-timedelta(hours=1)), id="of tomorrow"),
        pytest.param(lambda: crl(build("Maker Root", ca=True)), id="by another of that name"),
        pytest.param(lambda: crl(between()), id="by another"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_where_nothing_is_known_nobody_is_let_in(tmp_path: Path, data: Callable[[], bytes]) -> None:
    known = with_crl(tmp_path / "crl", data())
    assert (await refused(lambda: known.requester(Shown(device().der)))).kind is RefusalKind.UNAVAILABLE


@pytest_twisted.ensureDeferred
async def test_each_certificate_below_the_root_needs_a_crl(tmp_path: Path) -> None:
    below = build("sn-20", between(), usages=(CLIENT,))
    shown = Shown(below.der, lambda: (between().der,))
    path = tmp_path / "crl"
    half = await refused(lambda: with_crl(path, crl(between())).requester(shown))
    assert half.kind is RefusalKind.UNAVAILABLE
    await with_crl(path, crl(between()) + crl(maker())).requester(shown)
    lost = await refused(lambda: with_crl(path, crl(between()) + crl(maker(), between())).requester(shown))
    assert lost.kind is RefusalKind.UNAUTHENTICATED


def partial(**changes: Any) -> x509.IssuingDistributionPoint:
    values: dict[str, Any] = {
        "full_name": [x509.UniformResourceIdentifier("http://maker.test/crl")],
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**(values | changes))


@pytest.mark.parametrize(
    ("extension", "whole"),
    [
        (partial(), True),
        (x509.CRLNumber(7), True),
        (partial(only_contains_user_certs=True), False),
        (partial(only_contains_ca_certs=True), False),
        (partial(indirect_crl=True), False),
        (partial(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})), False),
        (x509.DeltaCRLIndicator(6), False),
    ],
)
def test_a_crl_that_does_not_say_all_is_refused(tmp_path: Path, extension: x509.ExtensionType, whole: bool) -> None:
    path = tmp_path / "crl"
    critical = not isinstance(extension, x509.CRLNumber)
    path.write_bytes(crl(maker(), extension=(extension, critical)))
    if whole:
        assert len(read_crls(path)) == 1
    else:
        with pytest.raises(StartError, match="does not say all"):
            read_crls(path)


def test_files_that_hold_no_crl_are_named(tmp_path: Path) -> None:
    path = tmp_path / "crl"
    for data in (b"", b"x", maker().pem, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
        path.write_bytes(data)
        with pytest.raises(StartError, match=str(path)):
            read_crls(path)
    with pytest.raises(StartError, match="nowhere"):
        read_crls(tmp_path / "nowhere")
    path.write_bytes(x509.load_pem_x509_crl(crl(maker())).public_bytes(Encoding.DER))
    assert len(read_crls(path)) == 1
