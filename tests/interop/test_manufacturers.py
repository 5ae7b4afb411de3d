"""A device leaves its factory with a certificate, and gets its first one here by that: by curl and our own command."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.interop.clients import new_key, openssl, run
from tests.interop.https import EST, Identity, certs_only, request
from tests.interop.revoking import ask_revocation, signature
from tests.interop.site import Site, site
from tests.interop.test_est_clients import curl, print_certs, sending

SETTINGS = """
[proxy]
trusted = ["127.0.0.9"]
certificate_header = "Client-Cert"

[profiles.devices]
like = "iot-device"
names = ["dns", "hardware-module"]

[est.manufacturers.maker]
roots = "{place}/maker.pem"
crl = "{place}/maker.crl"
names = ["dns:{{serialNumber}}.devices.test", "common-name:{{serialNumber}}", "hardware-module:{{hardware-module}}"]
profiles = ["devices", "tls-client"]
"""
IDEVID = """[req]
distinguished_name = subject
[subject]
[idevid]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
subjectAltName = otherName:1.3.6.1.5.5.7.8.4;SEQ:module
[module]
type = OID:1.3.6.1.4.1.9999.1
serial = FORMAT:HEX,OCT:534E3137
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


@dataclass(frozen=True)
class Factory:
    """A CA that lets devices send its issuing CA's certificate along; the root is all that the settings name."""

    place: Path

    def __post_init__(self) -> None:
        (self.place / "idevid.cnf").write_text(IDEVID)
        self._sign("maker", "/O=Maker/CN=Maker Root", "ca", "-x509")
        self._sign("line", "/O=Maker/CN=Line 4", "ca", *self._by("maker"))
        self.publish()

    def device(self, serial: str) -> Identity:
        """As IEEE 802.1AR has it: good for ever, with the line's certificate after it in the file."""
        ever = ("-days", "2912000")  # into the last year that can be written
        made = self._sign(serial, f"/O=Maker/CN=Sensor/serialNumber={serial}", "idevid", *self._by("line"), *ever)
        with made.certificate_file.open("ab") as file:
            file.write((self.place / "line.pem").read_bytes())
        return made

    def publish(self, *revoked: Identity) -> None:
        """The CRLs of root and line, in one file that takes the other's place at once."""
        fresh = self.place / "maker.crl.new"
        fresh.write_bytes(self._crl("maker", ()) + self._crl("line", revoked))
        fresh.replace(self.place / "maker.crl")

    def _crl(self, by: str, revoked: tuple[Identity, ...]) -> bytes:
        issuer = x509.load_pem_x509_certificate((self.place / f"{by}.pem").read_bytes())
        key = load_pem_private_key((self.place / f"{by}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=7))
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _by(self, name: str) -> tuple[str | Path, ...]:
        return ("-CA", self.place / f"{name}.pem", "-CAkey", self.place / f"{name}.key")

    def _sign(self, name: str, subject: str, extensions: str, *options: str | Path) -> Identity:
        key, certificate = new_key(self.place / f"{name}.key"), self.place / f"{name}.pem"
        how = ("-config", self.place / "idevid.cnf", "-extensions", extensions, "-subj", subject)
        x509_form = () if "-x509" in options else ("-x509",)
        openssl("req", "-new", *x509_form, *how, "-key", key, *options, "-out", certificate)
        return Identity(certificate, key)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, factory: Factory) -> Iterator[Site]:
    """Two workers that let the factory's devices enrol."""
    settings = SETTINGS.format(place=factory.place)
    with site(tmp_path_factory.mktemp("plant"), workers=2, settings=settings) as running:
        yield running


def csr(key: Path, subject: str, *names: str) -> Path:
    path = key.with_suffix(".csr")
    extension = ("-addext", "subjectAltName=" + ",".join(names)) if names else ()
    openssl("req", "-new", "-key", key, "-subj", subject, *extension, "-out", path)
    return path


def status(
    site: Site, device: Identity, body: Path, operation: str = "simpleenroll", label: str = "/devices"
) -> tuple[int, bytes]:
    head = {"Content-Type": "application/pkcs10"}
    answer = request(site.ca, "POST", f"{EST}{label}/{operation}", body.read_bytes(), head, identity=device)
    return answer.status, answer.body


def test_from_the_factory_to_a_renewal(plant: Site, factory: Factory, tmp_path: Path) -> None:
    """By curl: first by the manufacturer's certificate, then by the one it got."""
    ca, device = plant.ca, factory.device("SN17")
    key = new_key(tmp_path / "own.key")
    wish = csr(key, "/serialNumber=SN17/O=Plant", "DNS:sn17.devices.test")
    mine = ("--cert", device.certificate_file, "--key", device.key_file)
    (first,) = print_certs(curl(ca, *mine, *sending(wish), f"{ca.url}{EST}/devices/simpleenroll"))
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sn17.devices.test"]
    own = tmp_path / "own.pem"
    own.write_bytes(first.public_bytes(Encoding.PEM))
    ours = ("--cert", own, "--key", key)
    (second,) = print_certs(curl(ca, *ours, *sending(wish), f"{ca.url}{EST}/devices/simplereenroll"))
    assert (second.subject, second.serial_number != first.serial_number) == (first.subject, True)


def test_our_command_enrols_a_device(plant: Site, factory: Factory, tmp_path: Path) -> None:
    ca, device = plant.ca, factory.device("SN27")
    where = ("--server", f"{ca.url}{EST}/devices", "--trust-anchors", ca.trust_anchors)
    mine = ("--cert", device.certificate_file, "--key", device.key_file)
    new = ("--new-key", tmp_path / "k.key", "--san", "dns:sn27.devices.test", "--out", tmp_path / "c.pem")
    run("opencert", "est-enroll", *where, *mine, *new)
    assert (tmp_path / "c.pem").exists()


def test_the_name_of_the_hardware_goes_over(plant: Site, factory: Factory, tmp_path: Path) -> None:
    device = factory.device("SN37")
    key = new_key(tmp_path / "own.key")
    asked = tmp_path / "own.cnf"
    asked.write_text(IDEVID.replace("[req]\n", "[req]\nreq_extensions = wish\n") + "[wish]\nsubjectAltName = "
                     "otherName:1.3.6.1.5.5.7.8.4;SEQ:module\n")  # fmt: skip
    path = tmp_path / "own.csr"
    openssl("req", "-new", "-key", key, "-config", asked, "-subj", "/CN=SN37", "-out", path)
    code, body = status(plant, device, path)
    assert code == 200, body
    foreign = tmp_path / "foreign.cnf"
    foreign.write_text(asked.read_text().replace("534E3137", "534E3138"))
    openssl("req", "-new", "-key", key, "-config", foreign, "-subj", "/CN=SN37", "-out", path)
    assert status(plant, device, path)[0] == 403, "of another module"


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("/CN=SN48", ()),
        ("/serialNumber=SN48", ("DNS:sn47.devices.test",)),
        ("/CN=SN47", ("DNS:sn48.devices.test",)),
        ("/CN=SN47", ("DNS:*.devices.test",)),
        ("/CN=SN47", ("DNS:devices.test",)),
        ("/CN=Sensor", ()),
        ("/O=Maker", ()),
        ("/CN=SN47/UID=admin", ()),
    ],
)
def test_a_device_gets_no_other_names(
    plant: Site, factory: Factory, tmp_path: Path, subject: str, names: tuple[str, ...]
) -> None:
    code, body = status(plant, factory.device("SN47"), csr(new_key(tmp_path / "k.key"), subject, *names))
    assert code == 403, body


def test_a_device_gets_no_other_profile(plant: Site, factory: Factory, tmp_path: Path) -> None:
    device, wish = factory.device("SN57"), csr(new_key(tmp_path / "k.key"), "/CN=SN57")
    assert [status(plant, device, wish, label=label)[0] for label in ("/tls-client", "", "/rsa", "/nothing")] == [
        200,
        403,
        403,
        404,
    ]


def test_it_is_no_certificate_of_ours(plant: Site, factory: Factory, tmp_path: Path) -> None:
    """No renewal of what we did not issue, and nothing at all on the other edge."""
    ca, device = plant.ca, factory.device("SN67")
    wish = csr(new_key(tmp_path / "k.key"), "/O=Maker/CN=Sensor/serialNumber=SN67")
    assert status(plant, device, wish, "simplereenroll")[0] == 401
    body = wish.read_bytes()
    assert request(ca, "POST", "/ca/csr?profile=devices", body, identity=device).status == 401
    assert request(ca, "GET", "/ca/inventory", identity=device).status == 401
    sn = device.serial_hex
    proof = signature(device, sn, "superseded")
    assert ask_revocation(ca, device, sn=sn, reason="superseded", signature=proof).status == 401


def test_it_may_ask_what_a_request_should_hold(plant: Site, factory: Factory) -> None:
    device = factory.device("SN77")
    assert request(plant.ca, "GET", f"{EST}/devices/csrattrs", identity=device).status == 200


def test_what_the_manufacturer_revokes_is_refused_on_every_worker(
    plant: Site, factory: Factory, tmp_path: Path
) -> None:
    device, other = factory.device("SN87"), factory.device("SN88")
    wish = csr(new_key(tmp_path / "k.key"), "/CN=SN87")
    assert status(plant, device, wish)[0] == 200
    factory.publish(device)
    try:
        assert {status(plant, device, wish)[0] for _ in range(12)} == {401}
        assert status(plant, other, csr(new_key(tmp_path / "o.key"), "/CN=SN88"))[0] == 200
    finally:
        factory.publish()


def test_a_device_behind_a_proxy(plant: Site, factory: Factory, tmp_path: Path) -> None:
    """In the form of RFC 9440, with what is between it and the root; from nobody but the proxy."""
    ca, device = plant.ca, factory.device("SN97")
    leaf, line = x509.load_pem_x509_certificates(device.certificate_file.read_bytes())
    said = {
        name: f":{base64.b64encode(each.public_bytes(Encoding.DER)).decode()}:"
        for name, each in (("Client-Cert", leaf), ("Client-Cert-Chain", line))
    }
    heads = [word for name, value in said.items() for word in ("-H", f"{name}: {value}")]
    wish = sending(csr(new_key(tmp_path / "k.key"), "/CN=SN97"))
    url = f"https://localhost:{ca.port}{EST}/devices/simpleenroll"
    where = ("--interface", "127.0.0.9", "--ipv4")
    assert print_certs(curl(ca, *where, *heads, *wish, url))
    for refused in ((*where, *heads[:2]), heads):
        code = run("curl", "-sS", "--cacert", ca.trust_anchors, "-o", "/dev/null", "-w", "%{http_code}", *refused,
                   *wish, url).stdout  # fmt: skip
        assert code == b"401"


def test_a_device_by_password_is_asked_nothing_of_its_maker(plant: Site, factory: Factory, tmp_path: Path) -> None:
    """The header decides, as with any certificate."""
    from tests.interop.https import BASIC

    wish = csr(new_key(tmp_path / "k.key"), "/CN=anything.test").read_bytes()
    head = {**BASIC, "Content-Type": "application/pkcs10"}
    answer = request(plant.ca, "POST", f"{EST}/simpleenroll", wish, head, identity=factory.device("SN107"))
    assert certs_only(answer)
