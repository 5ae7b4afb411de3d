"""First start makes a CA, every later start finds it, and whatever is wrong is one sentence."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import Clock as NoReactor

from opencertd.clock import FixedClock, SystemClock
from opencertd.config import Settings
from opencertd.errors import StartError
from opencertd.first_start import at_once, build_authority, prepare, run_now, take_over
from opencertd.issuance.issuers import Issuers, load_issuers
from opencertd.keys.files import encode_private_key, read_passphrase
from opencertd.keys.signer import PrivateKey
from opencertd.model.certificates import HierarchyChange, IssuerRole, IssuerState
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.own_certificates import OwnCertificates
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.hierarchy import SqlHierarchyStore
from tests.ca import authorities

OPERATOR = Requester(Proof.OPERATOR, "alice", "alice", ANY_NAME)
START = Callable[..., Issuers]


def start(tmp_path: Path, **changes: Any) -> Issuers:
    """Start and stop, as far as everything before serving goes."""
    given = {"state_dir": tmp_path / "state", "hostname": ("localhost",), **changes}
    settings = Settings.model_validate(given)
    state = prepare(settings, SystemClock())
    try:
        kept = take_over(settings, state, 0, SystemClock())
        return load_issuers(kept.issuers, state.keys, read_passphrase(settings.key_passphrase_file), lambda f: f())
    finally:
        state.unlock()


def test_two_roots_and_an_issuing_ca_under_each(tmp_path: Path) -> None:
    issuers = start(tmp_path, dn="My CA")
    assert [issuer.name for issuer in issuers.all()] == ["ecdsa-root", "ecdsa", "rsa-root", "rsa"]
    for name in ("ecdsa", "rsa"):
        root, issuing = issuers.by_name(f"{name}-root"), issuers.by_name(name)
        assert root and issuing
        issuing.certificate.verify_directly_issued_by(root.certificate)
        assert root.certificate.subject.rfc4514_string().startswith("CN=My CA")
        assert issuing.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    anchors = tmp_path / "state" / "trust-anchors.pem"
    assert len(x509.load_pem_x509_certificates(anchors.read_bytes())) == 2
    for path in (tmp_path / "state").rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path
        elif path != anchors:
            assert path.stat().st_mode & 0o177 == 0, path
    for path in (tmp_path / "state" / "own").iterdir():
        chain = tmp_path / "chain.pem"
        chain.write_bytes(path.read_bytes())
        subprocess.run(["openssl", "verify", "-CAfile", anchors, "-untrusted", chain, chain], check=True)


def test_a_daemon_whose_issuing_cas_are_all_revoked_starts_and_tells_of_it(tmp_path: Path) -> None:
    issuers = start(tmp_path, dn="My CA", key_type=("ecdsa",))
    database = Database.open_inline(f"sqlite:///{tmp_path}/state/opencertd.sqlite3")
    record = issuers.issuing()[0].record
    revoked = HierarchyChange("revoke", changed=((record, replace(record, state=IssuerState.REVOKED)),))
    run_now(awaited(SqlHierarchyStore(database, SystemClock()).change(revoked, OPERATOR)))
    run_now(database.close())
    before = next((tmp_path / "state" / "own").glob("tls-*")).read_bytes()
    again = start(tmp_path, dn="My CA", key_type=("ecdsa",))
    assert [issuer.revoked for issuer in again.issuing()] == [True]
    assert next((tmp_path / "state" / "own").glob("tls-*")).read_bytes() == before


async def awaited(deed: Any) -> None:
    await deed


def test_key_types_are_chosen_once(tmp_path: Path) -> None:
    issuers = start(tmp_path, dn="My CA", key_type=("ml-dsa-44", "rsa-pss-2048"))
    assert [issuer.name for issuer in issuers.all()] == ["ml-dsa-root", "ml-dsa", "rsa-pss-root", "rsa-pss"]
    made = [issuer.certificate_der for issuer in issuers.all()]
    algorithms = [issuer.signer.algorithm_der for issuer in issuers.all()]
    for same in ({}, {"key_type": ("rsa-pss-2048", "ml-dsa-44")}):
        again = start(tmp_path, dn="CN=My CA", **same).all()
        assert [issuer.certificate_der for issuer in again] == made
        assert [issuer.signer.algorithm_der for issuer in again] == algorithms
    for other in (("ml-dsa-65", "rsa-pss-2048"), ("ml-dsa-44",), ("ml-dsa-44", "rsa-2048"), ("ecdsa", "rsa")):
        refused = tmp_path / "-".join(other)
        shutil.copytree(tmp_path / "state", refused / "state")
        with pytest.raises(StartError, match=r"ml-dsa: ML-DSA-44, .* RSA 2048 by rsa-pss.*leave --key-type out"):
            start(refused, dn="My CA", key_type=other)
    with pytest.raises(StartError, match="holds another CA"):
        start(tmp_path, dn="Your CA")


def test_the_second_start_finds_the_same(tmp_path: Path) -> None:
    first = [issuer.certificate_der for issuer in start(tmp_path, dn="CN=My CA,O=X").all()]
    own = sorted((path.name, path.read_bytes()) for path in (tmp_path / "state" / "own").iterdir())
    assert [issuer.certificate_der for issuer in start(tmp_path, dn="cn=my CA,o=X").all()] == first
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "state" / "own").iterdir()) == own
    with pytest.raises(StartError, match="holds another CA"):
        start(tmp_path, dn="CN=Other")


def test_an_empty_database_does_not_cost_the_keys(tmp_path: Path) -> None:
    start(tmp_path, dn="My CA")
    keys = {path: path.read_bytes() for path in (tmp_path / "state" / "keys").iterdir()}
    with pytest.raises(StartError, match="knows nothing of it"):
        start(tmp_path, dn="My CA", database=f"sqlite:///{tmp_path}/other.sqlite3")
    for path in (tmp_path / "state").glob("opencertd.sqlite3*"):
        path.unlink()
    with pytest.raises(StartError, match="knows nothing of it"):
        start(tmp_path, dn="My CA")
    assert {path: path.read_bytes() for path in (tmp_path / "state" / "keys").iterdir()} == keys


def test_a_worker_of_a_daemon_whose_database_is_gone_says_so(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": tmp_path / "state", "dn": "x", "hostname": ("localhost",)})
    state = prepare(settings, SystemClock())
    (tmp_path / "state" / "opencertd.sqlite3").unlink()
    with pytest.raises(StartError, match="restore it"):
        take_over(settings, state, 0, SystemClock())
    state.unlock()


def test_a_worker_starts_with_a_certificate_that_is_due_and_renews_it(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": tmp_path / "state", "dn": "x", "hostname": ("localhost",)})
    clock = FixedClock(datetime.now(UTC))
    state = prepare(settings, clock)
    kept = take_over(settings, state, 0, clock)
    issuers = load_issuers(kept.issuers, state.keys, None, at_once)
    database = Database.open_inline(settings.database_url())
    store = SqlCertificateStore(database, clock)
    authority = build_authority(settings, issuers, store, clock=clock, reactor=NoReactor(), owner=kept.owner)
    own = OwnCertificates(authority, state.own, None, clock, at_once)
    first = own.kept_tls(("localhost",))
    assert first and run_now(own.tls(("localhost",))).certificate == first.certificate
    clock.advance(timedelta(days=89))
    due = own.kept_tls(("localhost",))
    assert due and due.certificate == first.certificate
    renewed = run_now(own.tls(("localhost",)))
    assert renewed.certificate != first.certificate
    now_kept = own.kept_tls(("localhost",))
    assert now_kept and now_kept.certificate == renewed.certificate
    run_now(database.close())
    state.unlock()


def test_a_ceremony_that_was_cut_off_is_held_again(tmp_path: Path) -> None:
    keys = tmp_path / "state" / "keys"
    keys.mkdir(parents=True)
    (keys / "rsa.pem").write_bytes(b"half of a CA that nobody knows")
    assert len(start(tmp_path, dn="My CA").all()) == 4


def test_one_daemon_to_a_state_directory(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": tmp_path / "state", "dn": "x", "hostname": ("localhost",)})
    held = prepare(settings, SystemClock())
    with pytest.raises(StartError, match="another opencertd runs"):
        prepare(settings, SystemClock())
    held.unlock()


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    start(tmp_path, dn="x")
    (tmp_path / "state" / "keys" / "rsa.pem").unlink()
    with pytest.raises(StartError, match=r"rsa\.pem.*backup"):
        start(tmp_path, dn="x")


def test_keys_are_encrypted_with_a_passphrase(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    start(tmp_path, dn="x", key_passphrase_file=secret)
    for path in [*(tmp_path / "state" / "keys").iterdir(), *(tmp_path / "state" / "own").iterdir()]:
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    start(tmp_path, dn="x", key_passphrase_file=secret)
    secret.write_text("wrong\n")
    with pytest.raises(StartError, match="wrong passphrase"):
        start(tmp_path, dn="x", key_passphrase_file=secret)
    with pytest.raises(StartError, match="encrypted"):
        start(tmp_path, dn="x")


ROOT, ISSUING = authorities()[0], authorities()[1]


def pem(*parts: x509.Certificate | bytes | PrivateKey) -> bytes:
    return b"".join(
        encode_private_key(part, None)
        if isinstance(part, PrivateKey)
        else (part if isinstance(part, x509.Certificate) else x509.load_der_x509_certificate(part)).public_bytes(
            Encoding.PEM
        )
        for part in parts
    )


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_existing_ca_in_all_its_forms(tmp_path: Path) -> None:
    chain, root = ISSUING.record.certificate_der, ROOT.record.certificate_der
    both = write(tmp_path / "both.pem", pem(ISSUING.key, chain, root))
    certificate = write(tmp_path / "c.pem", pem(chain, root))
    key = write(tmp_path / "k.pem", pem(ISSUING.key))
    for number, given in enumerate(({"ec": both}, {"ec_key": both}, {"ec": certificate, "ec_key": key})):
        issuers = start(tmp_path / str(number), **given)
        (issuer,) = issuers.all()
        assert (issuer.name, issuer.role) == ("ecdsa", IssuerRole.ISSUING)
        assert (issuer.chain_der, issuer.root_der) == ((chain,), root)
        anchors = (tmp_path / str(number) / "state" / "trust-anchors.pem").read_bytes()
        assert x509.load_pem_x509_certificate(anchors).public_bytes(Encoding.DER) == root
        assert [again.id for again in start(tmp_path / str(number), **given).all()] == [issuer.id]


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    leaf = next((Path(tmp_path / "made" / "state" / "own")).glob("tls*")) if start(tmp_path / "made", dn="x") else None
    assert leaf
    cases = {
        "belongs to none": pem(ISSUING.record.certificate_der, other),
        "no PEM certificate": pem(other),
        "not an EC key": pem(authorities()[3].record.certificate_der, authorities()[3].key),
        "not a CA certificate": leaf.read_bytes(),
        "no private key": pem(ISSUING.record.certificate_der),
    }
    for words, content in cases.items():
        with pytest.raises(StartError, match=words):
            start(tmp_path / words.replace(" ", "-"), ec=write(tmp_path / "x.pem", content))
    with pytest.raises(StartError, match="cannot read"):
        start(tmp_path / "absent", ec=tmp_path / "absent.pem")


def test_a_users_file_that_is_not_there_yet_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    start(tmp_path, dn="x", est_users=path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_unusable_state_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="--state-dir"):
        start(tmp_path, dn="x", state_dir=write(tmp_path / "file", b"") / "state")


def test_a_tls_certificate_that_cannot_serve_is_said_before_a_ca_is_made(tmp_path: Path) -> None:
    certificate = write(tmp_path / "tls.pem", pem(ISSUING.record.certificate_der))
    for key, words in ((pem(ROOT.key), "do not belong together"), (None, "cannot read")):
        path = write(tmp_path / "tls.key", key) if key else tmp_path / "absent.key"
        with pytest.raises(StartError, match=words):
            start(tmp_path, dn="x", tls_cert=certificate, tls_key=path)
    assert not list((tmp_path / "state" / "keys").iterdir())


def test_profiles_that_contradict_themselves_are_said_before_a_ca_is_made(tmp_path: Path) -> None:
    bad = {"web": {"validity": "2d", "validity_max": "1d"}}
    with pytest.raises(StartError, match=r"'profiles\.web\.validity'"):
        start(tmp_path, dn="My CA", profiles=bad)
    assert list((tmp_path / "state" / "keys").iterdir()) == []
    start(tmp_path, dn="My CA", profiles={"web": {"validity": "2d"}})
    with pytest.raises(StartError, match=r"'profiles\.web\.validity'"):
        start(tmp_path, dn="My CA", profiles=bad)


def test_a_ca_that_is_there_needs_no_name(tmp_path: Path) -> None:
    made = start(tmp_path, dn="My CA")
    assert [issuer.id for issuer in start(tmp_path).all()] == [issuer.id for issuer in made.all()]


def test_without_a_name_no_ca_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CA to run"):
        start(tmp_path)
    assert not (tmp_path / "state").exists(), "nothing may be left of a start that could not be"
    empty = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    with pytest.raises(StartError, match="no CA to run"):
        start(tmp_path, database=empty)
