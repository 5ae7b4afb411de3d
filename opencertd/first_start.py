"""What happens before the daemon serves: state directory, database, the CA itself; at first start, its ceremony.

All of it runs before the reactor, so that whatever is wrong is one sentence on the terminal and a non-zero exit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock as NoReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.asn1 import dn, pem
from opencertd.audit_settings import note_settings
from opencertd.clock import Clock, SystemClock
from opencertd.config import NO_CA, RuleSettings, Settings
from opencertd.errors import Refusal, StartError, in_full
from opencertd.fault_mode import begin_fault_mode, check_fault_mode
from opencertd.issuance.approvals import Approvals
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ceremony import (
    NewAuthority,
    ca_name,
    held_in_file,
    keep,
    make_authorities,
    record_ca_certificates,
    subjects_of,
)
from opencertd.issuance.existing import take_in
from opencertd.issuance.issuers import Issuer, Issuers, load_issuers
from opencertd.issuance.key_move import move_to_token
from opencertd.issuance.key_types import WORDS
from opencertd.issuance.known_keys import KnownKeys
from opencertd.issuance.pkilint_check import PkilintCheck, check_installed
from opencertd.issuance.profile_file import Rules, build_rules
from opencertd.issuance.profiles import Publication
from opencertd.issuance.store import CertificateStore
from opencertd.issuance.transparency import Transparency
from opencertd.keys.files import read_passphrase, write_secret
from opencertd.keys.kinds import POST_QUANTUM, kind_of, label_of
from opencertd.model.certificates import Hierarchy, IssuerRecord
from opencertd.own_certificates import OwnCertificates
from opencertd.settings.acme_auto_renewal import check_offered
from opencertd.settings.manufacturers import read_roots
from opencertd.state import StateDirectory
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.stores import Stores
from opencertd.token_access import TokenAccess
from opencertd.transparency_logs import anchors, check_profiles
from opencertd.web.tls import ServerTls
from opencertd.web.users import encode_users

T = TypeVar("T")
_log = Logger()


@dataclass(frozen=True)
class Kept:
    """What a worker takes from the store before it serves. `secret`: 32 bytes that all workers and nodes share."""

    owner: str
    hierarchy: Hierarchy
    secret: bytes

    @property
    def issuers(self) -> tuple[IssuerRecord, ...]:
        return self.hierarchy.issuers


def run_now(deed: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of a coroutine whose every Deferred has already fired. Raises what it raises."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(deed).addBoth(results.append)
    if not results:
        raise AssertionError("the coroutine waits for the reactor, which does not run yet")
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def at_once(function: Callable[[], T]) -> Deferred[T]:
    """Runs the function here and now, where there is no reactor to hold up."""
    return succeed(function())


def prepare(settings: Settings, clock: Clock) -> StateDirectory:
    """Lock the state directory, bring the database up to date, make or take in the CA. Raises StartError."""
    state = StateDirectory(settings.state_dir)
    state.lock()
    try:
        _ensure_users_file(settings)
        known_keys(settings).read()
        check_installed(settings.lint.pkilint, "[lint] pkilint")
        _check_pkilint(settings.rules())
        _check_tls_files(settings)
        for log in settings.ct.logs:
            anchors(log)
        read_roots(settings.est.manufacturers)
        # Closed before the daemon forks: a forked process must begin with a token anew.
        with (
            closing(TokenAccess(settings.pkcs11, state)) as tokens,
            _store(settings, clock) as stores,
        ):
            run_now(check_fault_mode(settings, state, stores))
            run_now(_prepare_ca(settings, state, stores, clock, tokens))
            begin_fault_mode(settings, state)
            run_now(note_settings(settings, state.node(), stores.certificates, stores.audit, clock))
    except BaseException:
        state.unlock()
        raise
    return state


def take_over(settings: Settings, state: StateDirectory, slot: int, clock: Clock) -> Kept:
    """What the worker of this slot starts with. What its dead forerunner held is let go: intents and leases."""
    owner = f"{state.node()}/{slot}"

    async def read(stores: Stores) -> Kept:
        await stores.certificates.abandon_intents(owner=owner, before=None)
        await stores.jobs.release(owner)
        hierarchy = await stores.hierarchy.hierarchy()
        if not hierarchy.issuers:
            raise StartError("the database was emptied or replaced while the daemon ran: restore it and start again")
        return Kept(owner, hierarchy, await stores.shared_secret())

    with _store(settings, clock) as stores:
        return run_now(read(stores))


def move_key_to_token(settings: Settings, issuer: str) -> str:
    """Move an issuer's key from its file into the token, with the daemon stopped; answers where it is now.

    Raises StartError in words.
    """
    if not settings.state_dir.is_dir():
        raise StartError(f"there is no state directory {settings.state_dir}. Name the daemon's by --state-dir.")
    state = StateDirectory(settings.state_dir)
    passphrase = read_passphrase(settings.key_passphrase_file)
    state.lock()
    try:
        with closing(TokenAccess(settings.pkcs11, state)) as tokens, _store(settings, SystemClock()) as stores:
            store = stores.certificates
            return run_now(
                move_to_token(issuer, keys=state.keys, passphrase=passphrase, bring=tokens.bring, store=store)
            )
    finally:
        state.unlock()


@contextmanager
def _store(settings: Settings, clock: Clock) -> Iterator[Stores]:
    """The store without a reactor: its Deferreds have fired when they are returned."""
    database = Database.open_inline(settings.database_url())
    try:
        yield Stores.over(database, clock)
    except Refusal as refusal:
        raise StartError(f"the CA cannot start: {in_full(refusal)}") from None
    finally:
        run_now(database.close())


async def _prepare_ca(
    settings: Settings, state: StateDirectory, stores: Stores, clock: Clock, tokens: TokenAccess
) -> None:
    store = stores.certificates
    passphrase = read_passphrase(settings.key_passphrase_file)
    records = await store.issuers()
    if not records:
        if not settings.names_a_ca():
            raise StartError(NO_CA)
        check_new(settings, state)
        made = _new_authorities(settings, passphrase, clock, tokens)
        rules_for(settings, settings.rules(), tuple(authority.record for authority in made))
        await keep(made, state.keys, passphrase, store)
    else:
        _check_same(settings, passphrase, records)
    hierarchy = await stores.hierarchy.hierarchy()
    issuers = load_issuers(
        hierarchy.issuers,
        state.keys,
        passphrase,
        at_once,
        tokens.signer(at_once),
        cross_certificates=hierarchy.cross_certificates,
    )
    tokens.check(issuers)
    owner = f"{state.node()}/start"
    await store.abandon_intents(owner=owner, before=None)
    await record_ca_certificates(issuers, store, owner, clock.now().replace(microsecond=0))
    state.publish_trust_anchors(pem.encode_certificates(issuers.anchors_der(clock.now())))
    authority = build_authority(settings, issuers, store, clock=clock, reactor=NoReactor(), owner=owner)
    own = OwnCertificates(authority, state.own, passphrase, clock, at_once)
    if settings.tls_cert is None:
        _say_who_signed((await own.tls(settings.tls_names())).certificate, issuers)
    for issuer in issuers.all():
        if issuer.active or issuer.speaks(clock.now()):
            await _ensure_responder(own, issuer)


async def _ensure_responder(own: OwnCertificates, issuer: Issuer) -> None:
    """A CA whose key was taken away answers OCSP as long as the responder lasts that was left for it."""
    try:
        await own.responder(issuer)
    except Refusal as refusal:
        if issuer.has_key:
            raise
        _log.error("no OCSP answers about certificates of {issuer}: {why}", issuer=issuer.name, why=refusal.detail)


def _say_who_signed(listener: x509.Certificate, issuers: Issuers) -> None:
    """Clients without ML-DSA cannot verify the listener of a CA that has nothing else; its operator should know why."""
    for issuer in issuers.issuing():
        key = issuer.signer.public_key
        if issuer.certificate.subject == listener.issuer and kind_of(key).family in POST_QUANTUM:
            _log.warn(
                "the TLS listener keeps an EC key, with a certificate signed by {issuer} ({kind}): clients need a TLS "
                "library that verifies ML-DSA, such as OpenSSL 3.5. For others give --tls-cert and --tls-key, or make "
                "a CA that has --key-type ecdsa too.",
                issuer=issuer.name,
                kind=label_of(key),
            )


def build_authority(
    settings: Settings,
    issuers: Issuers,
    store: CertificateStore,
    *,
    clock: Clock,
    reactor: IReactorTime,
    owner: str,
    known: KnownKeys | None = None,
    pkilint: PkilintCheck | None = None,
    transparency: Transparency | None = None,
    approvals: Approvals | None = None,
) -> CertificateAuthority:
    """The core as settings want it; what has a default is for those who issue to clients."""
    records = tuple(issuer.record for issuer in issuers.all())
    rules = rules_for(settings, settings.rules(), records)
    return CertificateAuthority(
        issuers=issuers,
        profiles=rules.profiles,
        policies=rules.policies,
        publication=publication(settings),
        store=store,
        clock=clock,
        reactor=reactor,
        random=secrets.token_bytes,
        owner=owner,
        hold=settings.access.hold,
        known_keys=known or KnownKeys(),
        pkilint=pkilint,
        transparency=transparency,
        approvals=approvals,
    )


def rules_for(settings: Settings, rules: RuleSettings, records: tuple[IssuerRecord, ...]) -> Rules:
    """The rules as settings have them, for the issuers there are. Raises StartError."""
    _check_pkilint(rules)
    settings.status.check_names(record.name for record in records)
    built = build_rules(rules.profiles, rules.policy, records, publication(settings))
    check_profiles(built.profiles, settings.ct)
    check_offered(settings.acme.auto_renewal, built.profiles)
    return built


def check_rules(settings: Settings, rules: RuleSettings, clock: Clock) -> None:
    """Raise StartError unless these rules fit the issuers in the store."""

    async def read(certificates: SqlCertificateStore) -> tuple[IssuerRecord, ...]:
        return await certificates.issuers()

    with _store(settings, clock) as stores:
        rules_for(settings, rules, run_now(read(stores.certificates)))


def publication(settings: Settings) -> Publication:
    """The URLs that issuers put into certificates."""
    return Publication(settings.ocsp, settings.ca_issuer, settings.crl, settings.crls.partition())


def known_keys(settings: Settings) -> KnownKeys:
    """The lists of keys that settings name, not read yet."""
    return KnownKeys(settings.keys.blocklist, settings.keys.debian_weak)


def _check_pkilint(rules: RuleSettings) -> None:
    for name, table in rules.profiles.items():
        check_installed(table.pkilint, f"'profiles.{name}.pkilint'")


def _check_tls_files(settings: Settings) -> None:
    """Before a CA is made for a daemon that could not serve it."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ServerTls(settings.tls_cert.read_bytes(), settings.tls_key.read_bytes())
    except OSError as error:
        raise StartError(f"cannot read {error.filename}: {error.strerror}") from None


def _ensure_users_file(settings: Settings) -> None:
    """A users file that is named but not there yet begins empty, so that users can be added to a running daemon."""
    path = settings.est_users
    if path is None or path.exists():
        return
    try:
        write_secret(path, encode_users({}))
    except OSError as error:
        raise StartError(f"cannot make the users file {path}: {error.strerror}") from None
    _log.info("the users file {path} is empty: add users by `opencert user add NAME --est-users {path}`", path=path)


def _new_authorities(
    settings: Settings, passphrase: bytes | None, clock: Clock, tokens: TokenAccess
) -> tuple[NewAuthority, ...]:
    if settings.dn:
        types = settings.key_types()
        name = ca_name(settings.dn, types)
        kinds = " and ".join(key_type.words for key_type in types)
        _log.info("making the CA {name}: root and issuing CA of {kinds}", name=dn.format_dn(name), kinds=kinds)
        hold = tokens.hold if settings.key_store == "pkcs11" else held_in_file
        return make_authorities(name, clock.now(), types, hold)
    return _brought(settings, passphrase)


def _brought(settings: Settings, passphrase: bytes | None) -> tuple[NewAuthority, ...]:
    brought = []
    if settings.ec or settings.ec_key:
        brought.append(take_in("ecdsa", settings.ec, settings.ec_key, passphrase))
    if settings.rsa or settings.rsa_key:
        brought.append(take_in("rsa", settings.rsa, settings.rsa_key, passphrase))
    return tuple(brought)


def check_new(settings: Settings, state: StateDirectory) -> None:
    """Never make a CA over another: its keys would be lost. Trust anchors are published once the store has the CA."""
    if state.trust_anchors.exists():
        raise StartError(
            f"the state directory {settings.state_dir} holds a CA, but the database is empty and knows nothing of it. "
            "Name the database it was made with, restore a backup, or give another --state-dir for another CA."
        )


def _check_same(settings: Settings, passphrase: bytes | None, records: tuple[IssuerRecord, ...]) -> None:
    """A state directory keeps the CA it has; settings that name another one are a mistake worth stopping for."""
    held = {record.name: record for record in records}
    where = f"the state directory {settings.state_dir}"
    if settings.dn:
        _check_made(settings, settings.dn, held, where)
        return
    for authority in _brought(settings, passphrase):
        record = held.get(authority.record.name)
        if record is None or record.certificate_der != authority.record.certificate_der:
            raise StartError(
                f"{where} holds another CA than the {authority.record.name} certificate you give. "
                "Give the one it was started with, or another --state-dir."
            )


def _check_made(settings: Settings, name: str, held: dict[str, IssuerRecord], where: str) -> None:
    """The CA in the state directory was made under this name and, where settings say so, with these key types."""
    subjects = {dn.canonical(_subject(record)) for record in held.values()}
    made = [issuer for issuer in WORDS if issuer in held]
    base = ca_name(name, settings.key_types())
    expected = {dn.canonical(subject) for issuer in made for subject in subjects_of(base, WORDS[issuer])}
    if not made or not expected <= subjects:
        names = ", ".join(dn.format_dn(_subject(record)) for record in held.values())
        raise StartError(
            f"{where} holds another CA ({names}) than --dn {name!r} names. "
            "Give the name it was made with, or another --state-dir for another CA."
        )
    types = settings.key_types()
    if settings.key_type and ({t.issuer for t in types} != set(made) or not all(t.made(held) for t in types)):
        keys = ", ".join(f"{record.name}: {_key_label(record)}" for record in held.values())
        raise StartError(
            f"{where} holds a CA with other keys ({keys}) than --key-type names. Key types are chosen when a CA is "
            "made: leave --key-type out, or give another --state-dir for another CA."
        )


def _subject(record: IssuerRecord) -> x509.Name:
    return x509.load_der_x509_certificate(record.certificate_der).subject


def _key_label(record: IssuerRecord) -> str:
    label = label_of(x509.load_der_x509_certificate(record.certificate_der).public_key())
    return f"{label} by {record.scheme}" if record.scheme else label
