"""A CA whose keys are in a token: made there, moved there, and what start-up says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.cli import main
from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import at_once, build_authority, prepare, run_now, take_over
from opencertd.issuance import key_move
from opencertd.issuance.issuers import Issuers, load_issuers
from opencertd.keys.files import encode_private_key
from opencertd.model.certificates import IssuerRecord
from opencertd.model.requester import Proof
from opencertd.own_certificates import OwnCertificates
from opencertd.state import StateDirectory
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.token_access import TokenAccess
from tests.ca import authorities, request, requester, rsa_key
from tests.softhsm import MODULE, PIN, SoftHsm, make_token


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with make_token(tmp_path / "hsm").in_use() as made:
        yield made


def settings_for(hsm: SoftHsm, tmp_path: Path, **changes: Any) -> Settings:
    token = {"module": MODULE, "token": hsm.label, "pin_file": hsm.pin_file}
    given = {"dn": "My CA", "state_dir": tmp_path / "state", "hostname": ("localhost",), "pkcs11": token, **changes}
    return Settings.model_validate(given)


class Started:
    """A CA as far as everything before serving goes, with the real store and the token."""

    def __init__(self, settings: Settings) -> None:
        self.state: StateDirectory = prepare(settings, SystemClock())
        self.tokens = TokenAccess(settings.pkcs11, self.state)
        kept = take_over(settings, self.state, 0, SystemClock())
        self.records: tuple[IssuerRecord, ...] = kept.issuers
        self.issuers: Issuers = load_issuers(kept.issuers, self.state.keys, None, at_once, self.tokens.signer(at_once))
        self.store = SqlCertificateStore(Database.open_inline(settings.database_url()), SystemClock())
        self.authority = build_authority(
            settings,
            self.issuers,
            self.store,
            clock=SystemClock(),
            reactor=None,
            owner="n/0",  # type: ignore[arg-type]
        )

    def issue(self, **changes: Any) -> x509.Certificate:
        return x509.load_der_x509_certificate(run_now(self.authority.issue(request(**changes))).certificate_der)

    def stop(self) -> None:
        self.tokens.close()
        self.state.unlock()


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts CAs, and stops each before the next."""
    running: list[Started] = []

    def start(settings: Settings) -> Started:
        stop()
        running.append(Started(settings))
        return running[-1]

    def stop() -> None:
        while running:
            running.pop().stop()

    yield start
    stop()


def test_keys_are_made_in_the_token(hsm: SoftHsm, tmp_path: Path, start: Any) -> None:
    settings = settings_for(hsm, tmp_path, key_store="pkcs11")
    first = start(settings)
    assert not list(first.state.keys.iterdir())
    assert [record.key_reference.partition(";")[0] for record in first.records] == [
        f"pkcs11:object={name}" for name in ("ecdsa-root", "ecdsa", "rsa-root", "rsa")
    ]
    for key in (None, rsa_key()):
        leaf = first.issue(key=key)
        path = tmp_path / "leaf.pem"
        path.write_bytes(leaf.public_bytes(Encoding.PEM))
        chain = tmp_path / "chain.pem"
        chain.write_bytes(b"".join(i.certificate.public_bytes(Encoding.PEM) for i in first.issuers.issuing()))
        anchors = first.state.trust_anchors
        subprocess.run(["openssl", "verify", "-CAfile", anchors, "-untrusted", chain, path], check=True)
    again = start(settings)
    assert [i.id for i in again.issuers.all()] == [i.id for i in first.issuers.all()]
    again.issue()
    assert start(settings_for(hsm, tmp_path)).issue(), "where new keys would be made says nothing of those there are"
    with pytest.raises(StartError, match="in a token: say which"):
        start(settings_for(hsm, tmp_path, pkcs11={}))


def test_what_is_wrong_is_said_at_first_start(hsm: SoftHsm, tmp_path: Path, start: Any) -> None:
    def token(**changes: Any) -> Settings:
        given = {"module": MODULE, "token": hsm.label, "pin_file": hsm.pin_file, **changes}
        return settings_for(hsm, tmp_path, key_store="pkcs11", pkcs11=given)

    wrong = tmp_path / "wrong-pin"
    wrong.write_text("0000\n")
    for settings, words in (
        (token(module=tmp_path / "none.so"), "no PKCS#11 module"),
        (token(token="another"), "no token 'another'"),
        (token(pin_file=tmp_path / "none"), "cannot read the PIN file"),
        (token(pin_file=wrong), "refuses the PIN"),
        (token(pin_file=wrong), "not tried again"),
    ):
        with pytest.raises(StartError, match=words) as caught:
            start(settings)
        assert "0000" not in str(caught.value)
    start(token()).issue()
    with pytest.raises(StartError, match="refuses the PIN"):
        start(token(pin_file=wrong))


def test_without_its_token_it_starts_and_issues_nothing(hsm: SoftHsm, tmp_path: Path, start: Any) -> None:
    settings = settings_for(hsm, tmp_path, key_store="pkcs11")
    start(settings).stop()
    hsm.remove()
    ca = start(settings)
    with pytest.raises(Refusal) as caught:
        ca.issue()
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert "its token is not there" in caught.value.detail


def test_a_responder_that_cannot_be_renewed_serves_while_it_is_valid(
    hsm: SoftHsm, tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(hsm, tmp_path, key_store="pkcs11")
    ca = start(settings)
    own = OwnCertificates(ca.authority, ca.state.own, None, SystemClock(), at_once)
    issuer = ca.issuers.all()[0]
    kept = run_now(own.responder(issuer))
    ca.tokens.close()
    hsm.remove()
    monkeypatch.setattr("opencertd.own_certificates._FRESH_SHARE", 0)
    assert run_now(own.responder(issuer)).certificate == kept.certificate
    next(ca.state.own.glob("ocsp-*-ecdsa-root-*")).unlink()
    with pytest.raises(Refusal):
        run_now(own.responder(issuer))
    assert requester(proof=Proof.DAEMON)


def move(settings_file: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["ca", "move-key", *words, "--to", "pkcs11", "--config", str(settings_file)])


@pytest.fixture
def settings_file(hsm: SoftHsm, tmp_path: Path) -> Path:
    path = tmp_path / "ca.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\n{hsm.settings()}')
    return path


@pytest.mark.parametrize("issuer", ["ecdsa", "rsa", "rsa-root"])
def test_move_key(hsm: SoftHsm, tmp_path: Path, start: Any, settings_file: Path, issuer: str) -> None:
    settings = settings_for(hsm, tmp_path)
    before = start(settings)
    file = before.state.keys / f"{issuer}.pem"
    same_bytes = tmp_path / "same-bytes.pem"
    os.link(file, same_bytes)
    secret = file.read_bytes()
    done = move(settings_file, issuer)
    assert done.exit_code == 1 and "another opencertd runs" in done.output
    before.stop()
    done = move(settings_file, issuer)
    assert done.exit_code == 0, done.output
    assert f"pkcs11:object={issuer};id=" in done.output and "backups" in done.output
    assert not file.exists()
    assert len(same_bytes.read_bytes()) == len(secret)
    assert not set(secret.splitlines()) & set(same_bytes.read_bytes().splitlines()), "the file was not overwritten"
    after = start(settings)
    assert [i.id for i in after.issuers.all()] == [i.id for i in before.issuers.all()]
    leaf = after.issue(key=rsa_key() if issuer == "rsa" else None)
    signer = after.issuers.by_name(issuer)
    assert signer
    if issuer != "rsa-root":
        leaf.verify_directly_issued_by(signer.certificate)
    after.stop()
    done = move(settings_file, issuer)
    assert done.exit_code == 1 and "in a token already" in done.output
    exported = CliRunner().invoke(main, ["audit", "export", "--state-dir", str(tmp_path / "state")])
    assert exported.output.count("move-key") == 1, exported.output
    assert f"pkcs11:object={issuer};id=" in exported.output


def test_a_move_that_was_broken_off_is_finished(
    hsm: SoftHsm, tmp_path: Path, start: Any, settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(hsm, tmp_path)
    start(settings).stop()
    file = tmp_path / "state" / "keys" / "ecdsa.pem"
    for step in ("opencertd.store.certificates.SqlCertificateStore.move_key", "opencertd.issuance.key_move.shred"):
        with monkeypatch.context() as broken:

            def fail(*_: object) -> None:
                raise OSError(5, "pulled the plug")

            broken.setattr(step, fail)
            assert move(settings_file, "ecdsa").exit_code == 1
        assert file.exists()
        start(settings).issue()
        start(settings).stop()
    assert move(settings_file, "ecdsa").exit_code == 0
    assert not file.exists()
    start(settings).issue()


def test_moves_that_cannot_be(hsm: SoftHsm, tmp_path: Path, start: Any, settings_file: Path) -> None:
    start(settings_for(hsm, tmp_path)).stop()
    keys = tmp_path / "state" / "keys"
    held = {path.name: path.read_bytes() for path in keys.iterdir()}
    done = move(settings_file, "nobody")
    assert done.exit_code == 1 and "ecdsa-root, ecdsa, rsa-root, rsa" in done.output
    done = move(settings_file, "ecdsa", "--state-dir", str(tmp_path / "nowhere"))
    assert done.exit_code == 1 and "no state directory" in done.output and not (tmp_path / "nowhere").exists()
    (keys / "rsa.pem").write_bytes(encode_private_key(authorities()[3].key, None))
    done = move(settings_file, "rsa")
    assert done.exit_code == 1 and "does not belong" in done.output
    (keys / "rsa.pem").write_bytes(held["rsa.pem"])
    hsm.remove()
    done = move(settings_file, "ecdsa")
    assert done.exit_code == 1 and "no token" in done.output and PIN not in done.output
    hsm.put_back()
    plain = tmp_path / "plain.toml"
    plain.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    done = move(plain, "ecdsa")
    assert done.exit_code == 1 and "[pkcs11]" in done.output
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == held
    assert key_move.__doc__


def test_without_the_library_it_says_what_to_install(
    hsm: SoftHsm, tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opencertd.keys.pkcs11", None)
    with pytest.raises(StartError, match=r"pip install 'opencertd\[hsm\]'"):
        start(settings_for(hsm, tmp_path))


def test_a_rollover_makes_the_new_key_where_the_old_one_is(hsm: SoftHsm, tmp_path: Path, start: Any) -> None:
    settings = settings_for(hsm, tmp_path, key_store="pkcs11", key_type=("ecdsa",))
    start(settings).stop()
    token = f'module = "{MODULE}"\ntoken = "{hsm.label}"\npin_file = "{hsm.pin_file}"\n'
    (tmp_path / "ca.toml").write_text(f'state_dir = "{settings.state_dir}"\n[pkcs11]\n{token}')
    rolled = CliRunner().invoke(
        main, ["ca", "rollover", "ecdsa-root", "--with-issuing", "--config", f"{tmp_path}/ca.toml"]
    )
    assert rolled.exit_code == 0, rolled.output
    second = start(settings)
    assert not list(second.state.keys.iterdir())
    leaf = second.issue()
    issuer = second.issuers.by_name("ecdsa-2")
    assert issuer is not None
    leaf.verify_directly_issued_by(issuer.certificate)
