"""A CA with its keys in SoftHSM2 issues by ACME and EST, says when its token is gone, and recovers by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from opencertd.keys.pkcs11 import PAUSE_SECONDS
from tests.interop.acme_load import acme_client
from tests.interop.clients import new_csr, new_key, openssl
from tests.interop.daemon import ROOT, Daemon, environment, opencert_command
from tests.interop.https import BASIC, EST, Identity, certs_only, enrol, request, request_plain
from tests.interop.inventory import inventory
from tests.interop.readme import walkthroughs
from tests.interop.revoking import revoke
from tests.interop.site import Site, site
from tests.interop.test_crash import numbers
from tests.interop.test_status import issuer_file
from tests.softhsm import SoftHsm, make_token

BACK_WITHIN = 10.0  # seconds


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with make_token(tmp_path / "hsm").in_use() as made:
        yield made


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def running(hsm: SoftHsm, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A CA whose keys were made in the token."""
    with site(tmp_path, workers=request.param, settings=f'key_store = "pkcs11"\n{hsm.settings()}') as made:
        yield made


def verify(ca: Daemon, identity: Identity, directory: Path) -> Path:
    """`openssl verify`; answers the issuer's file."""
    issuer = issuer_file(ca, identity.certificate, directory)
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", issuer, identity.certificate_file)
    return issuer


def status(ca: Daemon, identity: Identity, issuer: Path) -> str:
    """What `openssl ocsp` says; the answer's signature must verify."""
    where = ("-url", f"{ca.http_url}/ca/ocsp", "-CAfile", ca.trust_anchors, "-verify_other", issuer)
    done = openssl("ocsp", "-issuer", issuer, "-cert", identity.certificate_file, *where)
    assert b"Response verify OK" in done.stderr, done.stderr.decode()
    return done.stdout.decode()


async def order(ca: Daemon, name: str, seconds: float = 60) -> x509.Certificate:
    async with acme_client(ca) as client, asyncio.timeout(seconds):
        await client.register()
        chain = await client.flow(name, ec.generate_private_key(ec.SECP256R1()))
    return x509.load_pem_x509_certificates(chain)[0]


def test_the_token_s_life(running: Site, hsm: SoftHsm, tmp_path: Path) -> None:
    ca = running.ca
    assert not list((ca.state / "keys").iterdir())
    first = {kind: enrol(ca, tmp_path / kind, f"{kind}.token.test", kind) for kind in ("ec", "rsa")}
    issuers = {kind: verify(ca, identity, tmp_path / kind) for kind, identity in first.items()}
    asyncio.run(order(ca, "acme.token.test"))

    ca.stop()
    ca.start()
    enrol(ca, tmp_path / "restarted", "restarted.token.test")

    hsm.remove()
    csr = new_csr(new_key(tmp_path / "away.key"), "away.token.test").read_bytes()
    asked = {"Content-Type": "application/pkcs10", **BASIC}
    for _ in range(5):  # every worker
        refused = request(ca, "POST", f"{EST}/simpleenroll", csr, asked)
        assert refused.status == 503, refused
        assert b"he issuing CA cannot sign at present: its token is not there" in refused.body, refused
        assert int(refused.headers["retry-after"]) > 0
        assert str(hsm.directory).encode() not in refused.body
    with pytest.raises(TimeoutError):
        asyncio.run(order(ca, "away.token.test", seconds=5))  # it stays processing, and will be issued for
    for kind, identity in first.items():
        assert ": good" in status(ca, identity, issuers[kind])
    before = numbers(ca)
    revoke(ca, first["ec"], "superseded")
    time.sleep(1.5)
    assert ": revoked" in status(ca, first["ec"], issuers["ec"])
    assert numbers(ca) == before, "no CRL can be signed, the last one is served"

    hsm.put_back()
    enrol_when_back(ca, tmp_path / "back")
    time.sleep(PAUSE_SECONDS + 0.5)  # the other worker too has looked again since
    asyncio.run(order(ca, "back.token.test"))
    deadline = time.monotonic() + 90
    while not any("away.token.test" in entry.names for entry in inventory(ca)):
        assert time.monotonic() < deadline, "the order is issued for when the token is back"
        time.sleep(0.2)
    while numbers(ca) == before:
        assert time.monotonic() < deadline, "the CRL that is owed is published when the token is back"
        time.sleep(0.2)


def enrol_when_back(ca: Daemon, directory: Path) -> Identity:
    """The first certificate after the token is back, which nobody has told the daemon."""
    deadline = time.monotonic() + BACK_WITHIN
    while True:
        try:
            return enrol(ca, directory, "back.token.test")
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_started_without_its_token(running: Site, hsm: SoftHsm, tmp_path: Path) -> None:
    """Status is served from the first moment on, and issuing begins when the token is there."""
    ca = running.ca
    first = enrol(ca, tmp_path, "first.token.test")
    issuer = verify(ca, first, tmp_path)
    ca.stop()
    hsm.remove()
    ca.start()
    assert ": good" in status(ca, first, issuer)
    assert request_plain(ca, "GET", "/ca/crl").status == 200
    hsm.put_back()
    enrol_when_back(ca, tmp_path / "back")
    assert "its token" not in ca.log or "#critical" not in ca.log


def test_keys_moved_into_the_token_go_on_signing(hsm: SoftHsm, tmp_path: Path) -> None:
    with site(tmp_path, settings=hsm.settings()) as running:
        ca = running.ca
        first = enrol(ca, tmp_path, "before.token.test")
        issuer = verify(ca, first, tmp_path)
        ca.stop()
        for name in ("ecdsa-root", "ecdsa", "rsa-root", "rsa"):
            command = [*opencert_command(), "ca", "move-key", name, "--to", "pkcs11"]
            command += ["--config", str(tmp_path / "opencertd.toml"), "--state-dir", str(ca.state)]
            subprocess.run(command, check=True, env=environment(), timeout=60, capture_output=True)
        assert not list((ca.state / "keys").iterdir())
        ca.start()
        after = enrol(ca, tmp_path, "after.token.test")
        assert verify(ca, after, tmp_path).read_bytes() == issuer.read_bytes()
        assert ": good" in status(ca, first, issuer)
        roots = certs_only(request(ca, "GET", f"{EST}/cacerts"))
        assert len(roots) == 4


def test_the_operating_guide_s_walk_through(tmp_path: Path) -> None:
    """The commands of docs/operating.md as printed, in a directory of their own; the CA it leaves issues."""
    script = walkthroughs((ROOT / "docs" / "operating.md").read_text())["softhsm"].script
    (tmp_path / ".venv").symlink_to(sys.prefix)
    ca = Daemon(tmp_path / "var" / "hsm-ca")
    script = script.replace("--port 5001", f"--port {ca.port}")
    done = subprocess.run(
        ["bash", "-euxc", script],
        cwd=tmp_path,
        env={**environment(), "PORT": str(ca.port)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is in the token" in done.stderr
    assert not list((tmp_path / "var" / "hsm-ca" / "keys").iterdir())
    assert oct((tmp_path / "var" / "softhsm" / "pin").stat().st_mode & 0o777) == "0o600"
