"""What happens before the daemon serves: state directory, database, the CA itself; at first start, its ceremony.

All of it runs before the reactor, so that whatever is wrong is one sentence on the terminal and a non-zero exit.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.asn1 import dn, pem
from opencertd.clock import Clock
from opencertd.config import Settings
from opencertd.errors import Refusal, StartError
from opencertd.issuance.ceremony import (
    NewAuthority,
    ca_name,
    keep,
    make_authorities,
    record_ca_certificates,
    subjects_of,
)
from opencertd.issuance.existing import take_in
from opencertd.issuance.issuers import Issuers, load_issuers
from opencertd.issuance.store import CertificateStore
from opencertd.keys.files import read_passphrase
from opencertd.model.certificates import IssuerRecord
from opencertd.state import StateDirectory
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database

T = TypeVar("T")
_log = Logger()


@dataclass(frozen=True)
class Prepared:
    """A state directory that is locked and holds a CA."""

    state: StateDirectory
    node: str


def run_now(deed: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of a coroutine whose every Deferred has already fired. Raises what it raises."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(deed).addBoth(results.append)
    if not results:
        raise AssertionError("the coroutine waits for the reactor, which does not run yet")
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]  # type: ignore[return-value]  # raiseException does not return


def at_once(function: Callable[[], T]) -> Deferred[T]:
    """Runs the function here and now, where there is no reactor to hold up."""
    return succeed(function())


def prepare(settings: Settings, clock: Clock) -> Prepared:
    """Lock the state directory, bring the database up to date, make or take in the CA. Raises StartError."""
    state = StateDirectory(settings.state_dir)
    state.lock()
    node = state.node()
    try:
        database = Database.open_inline(settings.database_url())
    except Refusal as refusal:
        raise StartError(f"the database cannot be used: {refusal.detail}") from None
    try:
        run_now(_prepare_ca(settings, state, SqlCertificateStore(database, clock), node, clock))
    except Refusal as refusal:
        raise StartError(f"the CA cannot start: {refusal.detail}") from None
    finally:
        database.close()
    return Prepared(state, node)


async def _prepare_ca(
    settings: Settings, state: StateDirectory, store: CertificateStore, node: str, clock: Clock
) -> None:
    passphrase = read_passphrase(settings.key_passphrase_file)
    records = await store.issuers()
    if not records:
        await keep(_new_authorities(settings, passphrase, clock), state.keys, passphrase, store)
        records = await store.issuers()
    else:
        _check_same(settings, passphrase, records)
    issuers = load_issuers(records, state.keys, passphrase, at_once)
    await record_ca_certificates(issuers, store, node, clock.now().replace(microsecond=0))
    state.publish_trust_anchors(pem.encode_certificates(trust_anchors(issuers)))


def trust_anchors(issuers: Issuers) -> tuple[bytes, ...]:
    """The roots; for an imported CA whose root we were not given, the highest certificate we have."""
    return tuple(dict.fromkeys(issuer.root_der or issuer.chain_der[-1] for issuer in issuers.all()))


def _new_authorities(settings: Settings, passphrase: bytes | None, clock: Clock) -> tuple[NewAuthority, ...]:
    if settings.dn:
        name = ca_name(settings.dn)
        _log.info("making the CA {name}: two roots and an issuing CA under each", name=dn.format_dn(name))
        return make_authorities(name, clock.now())
    return _brought(settings, passphrase)


def _brought(settings: Settings, passphrase: bytes | None) -> tuple[NewAuthority, ...]:
    brought = []
    if settings.ec or settings.ec_key:
        brought.append(take_in("ecdsa", settings.ec, settings.ec_key, passphrase))
    if settings.rsa or settings.rsa_key:
        brought.append(take_in("rsa", settings.rsa, settings.rsa_key, passphrase))
    return tuple(brought)


def _check_same(settings: Settings, passphrase: bytes | None, records: tuple[IssuerRecord, ...]) -> None:
    """A state directory keeps the CA it has; settings that name another one are a mistake worth stopping for."""
    held = {record.name: record for record in records}
    where = f"the state directory {settings.state_dir}"
    if settings.dn:
        subjects = {dn.canonical(_subject(record)) for record in records}
        expected = {dn.canonical(subject) for subject in subjects_of(ca_name(settings.dn))}
        if expected != subjects:
            names = ", ".join(dn.format_dn(_subject(record)) for record in records)
            raise StartError(
                f"{where} holds another CA ({names}) than --dn {settings.dn!r} names. "
                "Give the name it was made with, or another --state-dir for another CA."
            )
        return
    for authority in _brought(settings, passphrase):
        record = held.get(authority.record.name)
        if record is None or record.certificate_der != authority.record.certificate_der:
            raise StartError(
                f"{where} holds another CA than the {authority.record.name} certificate you give. "
                "Give the one it was started with, or another --state-dir."
            )


def _subject(record: IssuerRecord) -> x509.Name:
    return x509.load_der_x509_certificate(record.certificate_der).subject
