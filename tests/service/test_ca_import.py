"""`opencert ca import` as a whole: what it makes a daemon start with, and that nothing is left of what goes wrong."""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet.task import Clock as NoReactor

from opencertd.asn1.dn import parse_dn
from opencertd.cli import main
from opencertd.clock import Clock, FixedClock, SystemClock
from opencertd.config import Settings
from opencertd.crl.store import Line
from opencertd.desk.imports import ImportReport, import_ca
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import at_once, build_authority, prepare, run_now, take_over
from opencertd.issuance.issuers import Issuers, load_issuers
from opencertd.model.certificates import IssuerRole, RevocationReason
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.imports import SqlImportStore
from tests.issuance.pasts import ca_directory, line, signed

ALICE = Requester(Proof.OPERATOR, "alice", "alice", ANY_NAME)


def settings(tmp_path: Path, **changes: Any) -> Settings:
    given = {"state_dir": tmp_path / "state", "hostname": ("localhost",), **changes}
    return Settings.model_validate(given, context="existing")


def take(
    tmp_path: Path, *paths: Path, name: str = "office", clock: Clock | None = None, **changes: Any
) -> ImportReport:
    return import_ca(
        settings(tmp_path, **changes), name, paths, ask=lambda _: b"secret", by=ALICE, clock=clock or SystemClock()
    )


def start(tmp_path: Path, **changes: Any) -> Issuers:
    given = settings(tmp_path, **changes)
    state = prepare(given, SystemClock())
    try:
        kept = take_over(given, state, 0, SystemClock())
        return load_issuers(kept.issuers, state.keys, None, at_once)
    finally:
        state.unlock()


def nothing_left(tmp_path: Path) -> bool:
    return not (tmp_path / "state").exists()


def test_an_empty_state_directory_becomes_this_ca(tmp_path: Path) -> None:
    take(tmp_path, ca_directory(tmp_path, 30, files=10))
    issuers = start(tmp_path)
    (issuer,) = issuers.all()
    assert (issuer.name, issuer.role, issuer.root_der) == ("office", IssuerRole.ISSUING, issuer.certificate_der)
    assert issuers.authorities_der(datetime.now(UTC)) == (issuer.certificate_der,)
    database = Database.open_inline(settings(tmp_path).database_url())
    authority = build_authority(
        settings(tmp_path),
        issuers,
        SqlCertificateStore(database, SystemClock()),
        clock=SystemClock(),
        reactor=NoReactor(),
        owner="x/0",
    )
    for profile in ("default", "tls-server", "office"):
        assert authority.issuer_for(profile, None) is issuers.all()[0]


def test_the_audit_log_accounts_for_all_of_it(tmp_path: Path) -> None:
    take(tmp_path, ca_directory(tmp_path, 30, files=10))
    start(tmp_path)
    result = CliRunner().invoke(main, ["audit", "verify", "--state-dir", str(tmp_path / "state")])
    assert result.exit_code == 0, result.output


def test_a_later_start_finds_it_and_so_does_a_second_import(tmp_path: Path) -> None:
    directory = ca_directory(tmp_path, 30)
    assert take(tmp_path, directory).taken.certificates == 30
    start(tmp_path)
    again = take(tmp_path, directory)
    assert (bool(again.taken), again.crl_number, again.brought.certificates) == (False, None, 30)
    start(tmp_path)


def test_beside_others_it_is_one_more(tmp_path: Path) -> None:
    start(tmp_path, dn="My CA")
    take(tmp_path, ca_directory(tmp_path, 3))
    assert [issuer.name for issuer in start(tmp_path, dn="My CA").all()][-1] == "office"


def test_a_running_daemon_is_no_hindrance(tmp_path: Path) -> None:
    state = prepare(settings(tmp_path, dn="My CA"), SystemClock())
    try:
        take(tmp_path, ca_directory(tmp_path, 3))
    finally:
        state.unlock()


def test_a_ca_whose_root_nobody_gives_stands_alone(tmp_path: Path) -> None:
    issuing = start(tmp_path, dn="My CA").by_name("ecdsa")
    assert issuing
    take(tmp_path, issuing_file(tmp_path, issuing.certificate), name="copy", state_dir=tmp_path / "other")
    place = start(tmp_path, state_dir=tmp_path / "other").by_name("copy")
    assert place and place.root_der is None and place.record.parents_der == ()


def issuing_file(tmp_path: Path, certificate: x509.Certificate) -> Path:
    """The issuing CA of this state directory as a single file."""
    file = tmp_path / "copy.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + (tmp_path / "state" / "keys" / "ecdsa.pem").read_bytes())
    return file


def test_the_chain_above_leads_to_our_own_issuer(tmp_path: Path) -> None:
    issuers = start(tmp_path, dn="My CA")
    root = issuers.by_name("ecdsa-root")
    assert root
    take(tmp_path, sub_ca(tmp_path, root.certificate), name="branch")
    branch = start(tmp_path, dn="My CA").by_name("branch")
    assert branch and branch.record.parent_id == root.id and branch.root_der == root.certificate_der
    store = SqlCertificateStore(Database.open_inline(settings(tmp_path).database_url()), SystemClock())
    (own,) = run_now(by_serial(store, branch.certificate.serial_number))
    assert (own.issuer_id, own.profile) == (root.id, "issuing")


async def by_serial(store: SqlCertificateStore, serial: int) -> Any:
    return await store.by_serial(serial)


def sub_ca(tmp_path: Path, root: x509.Certificate) -> Path:
    root_key = load_pem_private_key((tmp_path / "state" / "keys" / "ecdsa-root.pem").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(parse_dn("CN=Branch"))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA384())
    )
    file = tmp_path / "branch.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return file


def test_the_key_is_kept_as_the_daemon_keeps_keys(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("of the daemon\n")
    take(tmp_path, ca_directory(tmp_path), key_passphrase_file=secret)
    (key,) = (tmp_path / "state" / "keys").iterdir()
    assert key.stat().st_mode & 0o077 == 0
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()


def test_a_key_that_lies_elsewhere(tmp_path: Path) -> None:
    directory = ca_directory(tmp_path, 3)
    elsewhere = tmp_path / "stick.pem"
    (directory / "private" / "cakey.pem").rename(elsewhere)
    with pytest.raises(StartError, match="give its file after the directory"):
        take(tmp_path, directory)
    assert take(tmp_path, directory, elsewhere).taken.certificates == 3


@pytest.mark.parametrize(
    ("number", "published"),
    [("1F", 1_900_000_000), ("71400000", 0x71400000), ("20301231235959", 0x20301231235959), ("", 1_900_000_000)],
)
def test_crl_numbers_go_on(tmp_path: Path, number: str, published: int) -> None:
    """`crlnumber` holds the next number; ours are never below the time either."""
    directory = ca_directory(tmp_path, 30)
    if number:
        (directory / "crlnumber").write_text(number + "\n")
    clock = FixedClock(datetime.fromtimestamp(1_900_000_000, UTC))
    assert take(tmp_path, directory, clock=clock).crl_number == published


def test_the_first_crl_lists_every_revocation(tmp_path: Path) -> None:
    report = take(tmp_path, ca_directory(tmp_path, 30))
    database = Database.open_inline(settings(tmp_path).database_url())

    async def latest() -> Any:
        (issuer,) = await SqlCertificateStore(database, SystemClock()).issuers()
        return await SqlCrlStore(database, SystemClock()).latest(Line(issuer.id))

    published = run_now(latest())
    crl = x509.load_der_x509_crl(published.crl_der)
    assert len(crl) == report.brought.revoked == 3
    reasons = [
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason for entry in crl if entry.extensions
    ]
    assert x509.ReasonFlags.key_compromise in reasons


BAD_LINES = {
    "V\t300131120000Z\t\t0A": "line 4: there are 4 fields",
    line(7, 2): "line 4: the serial number 7 stands in line 3 too",
    "R\t300131120000Z\tyesterday\t0A\tunknown\t/CN=a": "line 4: 'yesterday' is not a time",
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_malformed_index_leaves_nothing(tmp_path: Path, bad: str) -> None:
    directory = ca_directory(tmp_path)
    (directory / "index.txt").write_text("\n".join((line(5, 0), line(6, 1), line(7, 2), bad)) + "\n")
    with pytest.raises(StartError, match=BAD_LINES[bad]):
        take(tmp_path, directory)
    assert nothing_left(tmp_path)


def test_a_certificate_of_another_ca_leaves_nothing(tmp_path: Path) -> None:
    directory = ca_directory(tmp_path)
    (directory / "index.txt").write_text(line(0xA, 1) + "\n")
    stranger = ec.generate_private_key(ec.SECP256R1())
    issued = signed(stranger, ec.generate_private_key(ec.SECP256R1()), 0xA, "a.example")
    (directory / "newcerts" / "0A.pem").write_bytes(issued.public_bytes(Encoding.PEM))
    with pytest.raises(StartError, match=r"line 1: the certificate in .*0A\.pem was not signed by this CA's key"):
        take(tmp_path, directory)
    (directory / "newcerts" / "0A.pem").write_bytes(b"nothing")
    with pytest.raises(StartError, match=r"no certificate that can be read in .*0A\.pem"):
        take(tmp_path, directory)
    assert nothing_left(tmp_path)


def test_other_refusals_leave_nothing(tmp_path: Path) -> None:
    directory = ca_directory(tmp_path, 3)
    for name in ("default", "tls-server", "crl", "root", "imported", "Office", "a/b", ""):
        with pytest.raises(StartError, match="an issuer cannot be named"):
            take(tmp_path, directory, name=name)
    with pytest.raises(StartError, match="two directories"):
        take(tmp_path, directory, tmp_path)
    (directory / "crlnumber").write_text("F" * 20)
    with pytest.raises(StartError, match="higher than a CRL's"):
        take(tmp_path, directory)
    (directory / "crlnumber").write_text("soon")
    with pytest.raises(StartError, match="should hold the next CRL number"):
        take(tmp_path, directory)
    assert nothing_left(tmp_path)


def test_a_taken_name_leaves_the_ca_as_it_was(tmp_path: Path) -> None:
    start(tmp_path, dn="My CA")
    before = sorted((tmp_path / "state" / "keys").iterdir())
    with pytest.raises(StartError, match="another issuer ecdsa here"):
        take(tmp_path, ca_directory(tmp_path, 3), name="ecdsa")
    assert sorted((tmp_path / "state" / "keys").iterdir()) == before


def test_a_store_that_fails_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = ca_directory(tmp_path, 3)

    def fail(*_: Any, **__: Any) -> Any:
        raise Refusal(RefusalKind.UNAVAILABLE, "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqlImportStore, "take_in", fail)
        with pytest.raises(StartError, match="nothing was imported: the disk is full"):
            take(tmp_path, directory)
    assert list((tmp_path / "state" / "keys").iterdir()) == []
    assert take(tmp_path, directory).taken.issuer


def test_a_key_is_not_removed_when_the_commit_may_have_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SqlImportStore.take_in

    def lost(*given: Any, **said: Any) -> Any:
        real(*given, **said)
        raise Refusal(RefusalKind.UNAVAILABLE, "the connection was lost during the commit")

    with monkeypatch.context() as patched:
        patched.setattr(SqlImportStore, "take_in", lost)
        with pytest.raises(StartError, match="was lost"):
            take(tmp_path, ca_directory(tmp_path, 3))
    assert start(tmp_path).by_name("office")


def test_an_import_that_was_killed_after_its_key_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ca_directory(tmp_path, 3)
    take(tmp_path, directory)
    (tmp_path / "state" / "opencertd.sqlite3").unlink()  # as if the transaction had never been
    assert take(tmp_path, directory).taken.issuer
    start(tmp_path)


def test_a_lost_database_is_not_imported_over(tmp_path: Path) -> None:
    start(tmp_path, dn="My CA")
    for file in (tmp_path / "state").glob("opencertd.sqlite3*"):
        file.unlink()
    with pytest.raises(StartError, match="the database is empty"):
        take(tmp_path, ca_directory(tmp_path, 3))


def test_a_hundred_thousand_lines_need_little_memory(tmp_path: Path) -> None:
    directory = ca_directory(tmp_path, 100_000, files=200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    report = take(tmp_path, directory)
    assert (report.taken.certificates, report.taken.revocations) == (100_000, 10_000)
    assert report.brought.without_certificate == 99_800
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "KiB; its rows alone are 100 MiB"
    assert time.monotonic() - began < 120


def test_reasons_come_along(tmp_path: Path) -> None:
    take(tmp_path, ca_directory(tmp_path, 60))
    store = SqlCertificateStore(Database.open_inline(settings(tmp_path).database_url()), SystemClock())

    async def revocations() -> list[Any]:
        return [record.revocation for record in await store.inventory(0, 100) if record.revocation]

    found = run_now(revocations())
    assert [one.reason for one in found] == [
        RevocationReason.UNSPECIFIED,
        RevocationReason.KEY_COMPROMISE,
        RevocationReason.SUPERSEDED,
        RevocationReason.CERTIFICATE_HOLD,
        RevocationReason.CA_COMPROMISE,
        RevocationReason.UNSPECIFIED,
    ]
    assert found[4].invalidity_date == datetime(2023, 1, 1, tzinfo=UTC)
