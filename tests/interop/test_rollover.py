"""Root and issuing CA get new keys twice while clients are at work: no request fails, and everything verifies."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import pem
from tests.interop.clients import new_csr, openssl, program, run
from tests.interop.daemon import Daemon, environment
from tests.interop.https import EST, Identity, certs_only, enrol, request, request_plain
from tests.interop.load import Memory, load_during, once
from tests.interop.revoking import revoke
from tests.interop.site import site
from tests.postgres import running_cluster

LEARNED = 8.0  # seconds until every worker signs by a new issuer: a look, the grace, and a slow machine
NAMES = ("ecdsa", "ecdsa-2", "ecdsa-3")
ROOTS = ("ecdsa-root", "ecdsa-root-2", "ecdsa-root-3")


@dataclass(frozen=True)
class Rolling:
    """A running CA, and how to roll it over. `first_anchors`: what clients trusted before anything happened."""

    ca: Daemon
    config: Path
    first_anchors: Path
    database: str | None

    def command(self, *words: str) -> list[str]:
        state = ("--config", str(self.config), "--state-dir", str(self.ca.state))
        return ["opencert", "ca", "rollover", *words, *state]

    def roll_over(self, *words: str) -> str:
        return run(*self.command(*words)).stderr.decode()

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_der_x509_certificate(request_plain(self.ca, "GET", f"/ca/{name}/certificate").body)

    def file(self, name: str) -> Path:
        path = self.config.with_name(f"{name}.pem")
        path.write_bytes(self.certificate(name).public_bytes(Encoding.PEM))
        return path


@pytest.fixture(params=["one worker", "three workers", "three workers on PostgreSQL"])
def rolling(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rolling]:
    workers = 1 if request.param == "one worker" else 3
    with running_cluster() as cluster:
        database = cluster.new_database() if "PostgreSQL" in request.param else None
        settings = f'database = "{database}"\n' if database else ""
        with site(tmp_path, workers=workers, key_types=("ecdsa",), settings=settings) as running:
            anchors = tmp_path / "first-anchors.pem"
            shutil.copy(running.ca.trust_anchors, anchors)
            yield Rolling(running.ca, tmp_path / "opencertd.toml", anchors, database)


async def renew(rolling: Rolling, device: Identity, directory: Path, memory: Memory, stop: asyncio.Event) -> None:
    """One device that renews with the certificate it got last, over a new connection each time."""
    count = 0
    while not stop.is_set():
        count += 1
        fresh = directory / f"renewed-{count}.pem"
        try:
            certificate = await asyncio.to_thread(renewed, rolling.ca, device)
        except (AssertionError, OSError) as error:
            memory.unexpected.append(f"renewal {count}: {error!r}")
            continue
        fresh.write_bytes(certificate.public_bytes(Encoding.PEM))
        memory.chains.append([certificate])
        device = Identity(fresh, device.key_file)


def renewed(ca: Daemon, device: Identity) -> x509.Certificate:
    csr = new_csr(device.key_file, "device.test").read_bytes()
    headers = {"Content-Type": "application/pkcs10"}
    (certificate,) = certs_only(request(ca, "POST", f"{EST}/simplereenroll", csr, headers, device))
    return certificate


def signer_of(rolling: Rolling, certificate: x509.Certificate) -> str:
    """The issuer's name here, by the key identifiers."""
    wanted = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    for name in NAMES:
        own = rolling.certificate(name).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        if own == wanted:
            return name
    raise AssertionError(f"nobody here has signed {certificate.subject}")


def verify(
    leaf: x509.Certificate, anchors: Path, untrusted: list[x509.Certificate], directory: Path, *more: str
) -> None:
    """`openssl verify`, which trusts nothing else."""
    (directory / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (directory / "untrusted.pem").write_bytes(
        pem.encode_certificates(tuple(c.public_bytes(Encoding.DER) for c in untrusted))
    )
    trust = ("-no-CApath", "-no-CAstore", "-CAfile", anchors, "-untrusted", directory / "untrusted.pem")
    openssl("verify", *trust, *more, directory / "leaf.pem")


def test_nothing_fails_while_root_and_issuing_ca_are_rolled_over_twice(rolling: Rolling, tmp_path: Path) -> None:
    device = enrol(rolling.ca, tmp_path / "device", "device.test")

    async def drama(memory: Memory) -> None:
        stop = asyncio.Event()
        renewing = asyncio.create_task(renew(rolling, device, tmp_path / "device", memory, stop))
        await asyncio.sleep(2)
        said = await asyncio.to_thread(rolling.roll_over, "ecdsa-root", "--with-issuing")
        assert "ecdsa-2 has taken the place of ecdsa;" in said
        await asyncio.sleep(LEARNED)
        said = await asyncio.to_thread(rolling.roll_over, "ecdsa-root-2")
        assert "ecdsa-2 still stands under ecdsa-root-2" in said
        await asyncio.to_thread(rolling.roll_over, "ecdsa-2")
        await asyncio.sleep(LEARNED)
        stop.set()
        await renewing

    memory = asyncio.run(load_during(rolling.ca, drama, acme=3, est=2, insist=once))
    assert memory.unexpected == []
    by_signer = {signer_of(rolling, chain[0]): chain for chain in memory.chains}
    assert tuple(sorted(by_signer)) == NAMES
    check_verification(rolling, {name: chain[0] for name, chain in by_signer.items()}, tmp_path)
    check_chains(rolling, memory, tmp_path)
    assert signer_of(rolling, device.certificate) == "ecdsa"
    assert signer_of(rolling, renewed(rolling.ca, device)) == "ecdsa-3"  # the first certificate is as good as ever


def check_verification(rolling: Rolling, leaves: dict[str, x509.Certificate], directory: Path) -> None:
    """Each generation's certificate verifies under each root, with what cacerts hands out for that direction."""
    published = certs_only(request(rolling.ca, "GET", f"{EST}/cacerts"))
    roots = [rolling.certificate(name) for name in ROOTS]
    issuing = [rolling.certificate(name) for name in NAMES]
    assert set(published) >= {*roots, *issuing}
    links = [c for c in published if c not in roots and c not in issuing]
    assert len(links) == 4
    keys = [root.public_key() for root in roots]
    for signed_under, name in enumerate(NAMES):
        for trusted, root in enumerate(ROOTS):
            newer = [link for link in links if signs_later(link, keys)]
            chosen = newer if trusted > signed_under else [link for link in links if link not in newer]
            verify(leaves[name], rolling.file(root), [rolling.certificate(name), *chosen], directory)
        verify(leaves[name], rolling.ca.trust_anchors, published, directory)


def signs_later(link: x509.Certificate, keys: list[object]) -> bool:
    """Whether it is an OldWithNew: the key that signed it came after the one that it is for."""
    signer = link.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    identifiers = [x509.SubjectKeyIdentifier.from_public_key(key).digest for key in keys]  # type: ignore[arg-type]
    return identifiers.index(signer or b"") > keys.index(link.public_key())


def check_chains(rolling: Rolling, memory: Memory, directory: Path) -> None:
    """A chain that a client downloads satisfies those who still trust nothing but the first root."""
    chains = [chain for chain in memory.chains if len(chain) > 1]
    last = max(chains, key=lambda chain: chain[0].not_valid_before_utc)
    assert signer_of(rolling, last[0]) == "ecdsa-3"
    verify(last[0], rolling.first_anchors, last[1:], directory)
    verify(last[0], rolling.file("ecdsa-root-3"), last[1:], directory)


def test_status_of_both_keys_goes_on(rolling: Rolling, tmp_path: Path) -> None:
    old = [enrol(rolling.ca, tmp_path / "old", f"old{n}.test") for n in (1, 2)]
    rolling.roll_over("ecdsa-root", "--with-issuing")
    time.sleep(LEARNED)
    new = [enrol(rolling.ca, tmp_path / "new", f"new{n}.test") for n in (1, 2)]
    for name, (kept, gone) in (("ecdsa", old), ("ecdsa-2", new)):
        assert {signer_of(rolling, identity.certificate) for identity in (kept, gone)} == {name}
        revoke(rolling.ca, gone, "superseded")
        time.sleep(1.5)
        issuer = rolling.file(name)
        asked = ("-issuer", issuer, "-cert", kept.certificate_file, "-cert", gone.certificate_file)
        trust = ("-url", f"{rolling.ca.http_url}/ca/ocsp", "-CAfile", rolling.ca.trust_anchors, "-verify_other", issuer)
        done = openssl("ocsp", *asked, *trust)
        assert b"Response verify OK" in done.stderr, done.stderr
        assert f"{kept.certificate_file}: good" in done.stdout.decode()
        assert f"{gone.certificate_file}: revoked" in done.stdout.decode()
        crl = tmp_path / f"{name}.crl"
        crl.write_bytes(request_plain(rolling.ca, "GET", f"/ca/{name}/crl?format=pem").body)
        checked = ("-crl_check", "-CRLfile", str(crl))
        verify(kept.certificate, rolling.ca.trust_anchors, [rolling.certificate(name)], tmp_path, *checked)
        with pytest.raises(pytest.fail.Exception, match="certificate revoked"):
            verify(gone.certificate, rolling.ca.trust_anchors, [rolling.certificate(name)], tmp_path, *checked)


def test_a_rollover_killed_again_and_again_is_finished_by_a_repetition(rolling: Rolling, tmp_path: Path) -> None:
    command = [*program("opencert"), *rolling.command("ecdsa-root", "--with-issuing")[1:]]
    for tenths in range(4, 16):
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
    done = run(*rolling.command("ecdsa-root", "--with-issuing"), ok=False)
    said = done.stderr.decode()
    assert done.returncode == 0 or "rolled over already, to ecdsa-root-2; nothing was changed" in said
    time.sleep(LEARNED)
    rolling.ca.kill()
    rolling.ca.start()
    device = enrol(rolling.ca, tmp_path / "device", "device.test")
    assert signer_of(rolling, device.certificate) == "ecdsa-2"
    verify(device.certificate, rolling.file("ecdsa-root-2"), [rolling.certificate("ecdsa-2")], tmp_path)
    where = ("--database", rolling.database) if rolling.database else ()
    run("opencert", "audit", "verify", "--state-dir", rolling.ca.state, *where)


def test_a_machine_without_the_new_key_signs_by_the_old_one_until_it_has_it(tmp_path: Path) -> None:
    with running_cluster() as cluster:
        settings = f'database = "{cluster.new_database()}"\n'
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        with site(tmp_path / "one", key_types=("ecdsa",), settings=settings) as one:
            shutil.copytree(one.ca.state / "keys", tmp_path / "two" / "state" / "keys")
            with site(tmp_path / "two", key_types=("ecdsa",), settings=settings) as two:
                here = Rolling(one.ca, tmp_path / "one" / "opencertd.toml", one.ca.trust_anchors, None)
                there = Rolling(two.ca, tmp_path / "two" / "opencertd.toml", two.ca.trust_anchors, None)
                said = here.roll_over("ecdsa-root", "--with-issuing")
                assert "copy ecdsa-root-2.pem, ecdsa-2.pem" in said
                time.sleep(LEARNED)
                new = enrol(one.ca, tmp_path / "new", "device.test")
                assert signer_of(here, new.certificate) == "ecdsa-2"
                # The other machine takes the new certificate, and renews it by the key that it has.
                assert signer_of(there, renewed(two.ca, new)) == "ecdsa"
                assert two.ca.log.count("state/keys/ecdsa-2.pem") == 1
                for name in ("ecdsa-root-2.pem", "ecdsa-2.pem"):
                    shutil.copy(one.ca.state / "keys" / name, two.ca.state / "keys" / name)
                time.sleep(LEARNED)
                assert signer_of(there, renewed(two.ca, new)) == "ecdsa-2"
                assert two.ca.trust_anchors.read_bytes() == one.ca.trust_anchors.read_bytes()


def test_workers_killed_right_after_a_rollover_come_back_and_follow(rolling: Rolling, tmp_path: Path) -> None:
    rolling.roll_over("ecdsa-root", "--with-issuing")
    rolling.ca.kill()
    rolling.ca.start()
    first = enrol(rolling.ca, tmp_path / "device", "device.test")
    assert signer_of(rolling, first.certificate) in {"ecdsa", "ecdsa-2"}
    time.sleep(LEARNED)
    assert signer_of(rolling, renewed(rolling.ca, first)) == "ecdsa-2"
