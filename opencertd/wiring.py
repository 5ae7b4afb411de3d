"""One worker: every room of the house, wired. The only place that knows how they fit together."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from opencertd import clean_up
from opencertd.acme.faulty import FaultyWork, SlowValidator
from opencertd.acme.renewing import Renewing
from opencertd.acme.star_store import RENEW
from opencertd.acme.store import FINALIZE, VALIDATE
from opencertd.acme.urls import Urls
from opencertd.acme.work import Work
from opencertd.asn1 import pem
from opencertd.audit_checkpoints import FILE_NAME as CHECKPOINTS
from opencertd.audit_checkpoints import JOB_KEY as AUDIT_CHAIN
from opencertd.audit_checkpoints import JOB_KIND as WRITE_CHECKPOINT
from opencertd.audit_checkpoints import CheckpointKeeper
from opencertd.audit_settings import note_settings
from opencertd.clock import SystemClock
from opencertd.config import RuleSettings, Settings
from opencertd.crl.push import Pusher, put_by_http
from opencertd.crl.server import JOB_KIND as PUBLISH_CRL
from opencertd.crl.server import PUSH_KIND as PUSH_CRL
from opencertd.crl.server import CrlServer
from opencertd.edges.ocsp import build_ocsp_server
from opencertd.edges.parts import Parts
from opencertd.edges.site import build_edges
from opencertd.first_start import Kept, build_authority, known_keys, rules_for
from opencertd.hierarchy_follower import HierarchyFollower, loader
from opencertd.hooks import NO_HOOKS, Hooks
from opencertd.issuance.approvals import Approvals
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.known_keys import LOOK_SECONDS
from opencertd.issuance.pkilint_check import PkilintCheck
from opencertd.jobs.scheduler import Handler, Scheduler
from opencertd.keys.files import encode_private_key, read_passphrase
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.certificates import CertificateRecord
from opencertd.ocsp.ahead import AheadPreparer
from opencertd.ocsp.responder import Responder, ResponderKeeper, responder_scheme
from opencertd.own_certificates import OwnCertificate, OwnCertificates
from opencertd.settings.manufacturers import read_roots
from opencertd.settings.validation import build_validator
from opencertd.state import StateDirectory
from opencertd.store.database import Database
from opencertd.store.nonce_ledger import open_nonce_ledger
from opencertd.stores import Stores
from opencertd.tasks import Tasks
from opencertd.token_access import TokenAccess
from opencertd.transparency_logs import build_transparency
from opencertd.validation.validator import ControlValidator
from opencertd.web.client_trust import client_anchors
from opencertd.web.site import Edge, build_site
from opencertd.web.tls import PromptTlsFactory, ServerTls

RENEWAL_CHECK_SECONDS = 3600.0
HOUSEKEEPING_SECONDS = 300.0
VALIDATIONS_AT_ONCE = 50


class Worker:
    """One process's share of the daemon. `slot` numbers the workers of a node from 0; `owner` names it in the store.

    Built before it is asked anything; `start` begins its background work, `stop` ends everything in good order.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        state: StateDirectory,
        kept: Kept,
        *,
        slot: int,
        reactor: Any,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._slot = slot
        self._loops: list[LoopingCall] = []
        self._faults = settings.faults()
        self._state = state
        self._node = state.node()
        self._clock = SystemClock()
        self._tasks = Tasks()
        self._publishing = DeferredLock()
        self._database = Database.open(settings.database_url(), reactor)
        self._ledger = open_nonce_ledger(settings.database_url())
        self._stores = Stores.over(self._database, self._clock)
        self._passphrase = read_passphrase(settings.key_passphrase_file)
        self._tokens = TokenAccess(settings.pkcs11, state)
        self._follower = self._build_follower(kept, state)
        issuers = self._follower.issuers
        self._known_keys = known_keys(settings)
        self._known_keys.read_what_can_be()
        self._pkilint = PkilintCheck(reactor, mode=settings.lint.pkilint)
        self.authority = build_authority(
            settings,
            issuers,
            self._stores.certificates,
            clock=self._clock,
            reactor=reactor,
            owner=kept.owner,
            known=self._known_keys,
            pkilint=self._pkilint,
            transparency=build_transparency(settings.ct, self._stores.precertificates, self._clock, reactor),
            approvals=self._build_approvals(hooks),
        )
        self._own = OwnCertificates(self.authority, state.own, self._passphrase, self._clock, self._elsewhere)
        self._manufacturer_roots = read_roots(settings.est.manufacturers)
        self._tls = self._build_tls()
        self._build_status(issuers, hooks)
        self._build_jobs(kept, state)
        self.authority.on_status_changed.append(self._note_status)
        self.edges = self._build_edges(kept)

    def _build_approvals(self, hooks: Hooks) -> Approvals:
        return Approvals(
            self._stores.approvals,
            clock=self._clock,
            reactor=self._reactor,
            random=secrets.token_bytes,
            terms=self._settings.approval.terms(),
            decide=hooks.decide,
        )

    def _build_status(self, issuers: Issuers, hooks: Hooks) -> None:
        clock = self._clock
        self._crls = CrlServer(
            issuers=issuers,
            store=self._stores.crls,
            jobs=self._stores.jobs,
            clock=clock,
            elsewhere=self._elsewhere,
            terms=self._settings.crls.terms(self._settings.crl),
            pushed=bool(self._settings.crls.places()),
        )
        keeper = ResponderKeeper(self._obtain_responder, clock=clock, tasks=self._tasks)
        self._ocsp = build_ocsp_server(
            self._settings.status,
            self.authority,
            store=self._stores.status,
            keeper=keeper,
            clock=clock,
            reactor=self._reactor,
            check=hooks.check_ocsp,
        )
        self._ahead = AheadPreparer(server=self._ocsp, store=self._stores.status, clock=clock, reactor=self._reactor)

    def _build_jobs(self, kept: Kept, state: StateDirectory) -> None:
        """What is owed, and who does it."""
        make_work = Work if self._faults is None else partial(FaultyWork, self._faults)
        self._work = make_work(
            store=self._stores.acme,
            authority=self.authority,
            validator=self._build_validator(),
            clock=self._clock,
            account_url=Urls(self._settings.base_url()).account,
            patience=timedelta(seconds=self._settings.validation.retry_seconds),
            at_once_per_account=self._settings.validation.at_once_per_account,
            limits=self._settings.limits.build(),
            stars=self._stores.stars,
        )
        renewing = Renewing(self._stores.acme, self._stores.stars, self._work, self.authority, self._clock)
        # These wait for strangers' servers; what waits for nobody must not wait for them.
        abroad = {VALIDATE: self._work.validate, RENEW: renewing.renew}
        self._validations = self._build_scheduler(kept, abroad, at_once=VALIDATIONS_AT_ONCE)
        checkpoint = self._build_checkpoints(state).job
        tidy = clean_up.CleanUp(self._settings.retention, self._stores, clock=self._clock, reactor=self._reactor)
        own_work = {FINALIZE: self._work.finalize, PUBLISH_CRL: self._crls.job, WRITE_CHECKPOINT: checkpoint}
        own_work[clean_up.JOB_KIND] = tidy.job
        places = self._settings.crls.places()
        if places:
            put = put_by_http(self._reactor)
            own_work[PUSH_CRL] = Pusher(places, self._crls, put=put, elsewhere=self._elsewhere).job
        self._scheduler = self._build_scheduler(kept, own_work)

    def _build_follower(self, kept: Kept, state: StateDirectory) -> HierarchyFollower:
        signers = self._tokens.threaded_signer(self._reactor)
        return HierarchyFollower(
            store=self._stores.hierarchy,
            held=kept.hierarchy,
            load=loader(state.keys, self._passphrase, self._elsewhere, signers),
            adopt=self._adopt_issuers,
            elsewhere=self._elsewhere,
            clock=self._clock,
            reactor=self._reactor,
        )

    def _adopt_issuers(self, issuers: Issuers) -> None:
        """Go by these issuers in every room from now on. Raises StartError and changes nothing when rules forbid it."""
        records = tuple(issuer.record for issuer in issuers.all())
        rules = rules_for(self._settings, self._settings.rules(), records)
        self._tls.trust(self._client_anchors(issuers))
        self.authority.adopt(issuers, rules.profiles, rules.policies)
        self._ocsp.adopt(issuers)
        self._crls.issuers = issuers
        self._tasks.spawn(self._crls.ensure(), "publishing the CRLs of new issuers")
        self._tasks.spawn(self._publish_anchors(), "publishing the trust anchors")
        if any(issuer.revoked or issuer.distrusted for issuer in issuers.all()):
            self._tasks.spawn(self._renew_tls(), "renewing the listener's certificate, should such a CA have signed it")

    def adopt(self, rules: RuleSettings) -> None:
        """Go by other profiles and policies from now on. Raises StartError and changes nothing when they are wrong."""
        records = tuple(issuer.record for issuer in self.authority.issuers.all())
        built = rules_for(self._settings, rules, records)
        self.authority.adopt(self.authority.issuers, built.profiles, built.policies)
        self._settings = self._settings.with_rules(rules)
        self._tasks.spawn(self._note_settings(), "writing the change of settings down")

    async def _note_settings(self) -> None:
        stores = self._stores
        await note_settings(self._settings, self._node, stores.certificates, stores.audit, self._clock, reloaded=True)

    def https_factory(self) -> IProtocolFactory:
        """What speaks on the TLS listeners."""
        proxies = self._settings.proxy.build()
        site = build_site(self.edges, reactor=self._reactor, clock=self._clock, proxies=proxies)
        return PromptTlsFactory(self._tls, False, site, self._reactor)

    def http_factory(self) -> IProtocolFactory:
        """What speaks on the plain listener."""
        proxies = self._settings.proxy.build()
        return build_site(self.edges, reactor=self._reactor, plain=True, clock=self._clock, proxies=proxies)

    def start(self) -> None:
        """Begin the background work. The reactor runs, or will."""
        self._validations.start()
        self._scheduler.start()
        self._ocsp.start()
        if self._settings.status.prepare_ahead:
            self._ahead.start()
        self._follower.start()
        self._loop(HOUSEKEEPING_SECONDS, self._ensure_crls)
        self._loop(HOUSEKEEPING_SECONDS, self._publish_anchors)
        self._loop(HOUSEKEEPING_SECONDS, self._owe_checkpoints)
        # Each slot looks a minute after the one before, so that one renews and the others find the renewed.
        self._reactor.callLater(60.0 * self._slot, self._loop, RENEWAL_CHECK_SECONDS, self._renew_tls)
        self._loop(HOUSEKEEPING_SECONDS, self._tidy)
        if self._known_keys:
            self._loop(LOOK_SECONDS, self._look_at_known_keys)

    async def stop(self) -> None:
        """End background work, wait for deeds under way, let go of the store."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        await self._follower.stop()
        await self._validations.stop()
        await self._scheduler.stop()
        await self._ahead.stop()
        await self._ocsp.stop()
        await self._tasks.wait()
        self._tokens.stop()
        await self._pkilint.stop()
        await self._database.close()
        if self._ledger is not None:
            self._ledger.close()

    def _build_scheduler(self, kept: Kept, handlers: Mapping[str, Handler], *, at_once: int = 20) -> Scheduler:
        return Scheduler(
            self._stores.jobs,
            handlers,
            owner=kept.owner,
            clock=self._clock,
            reactor=self._reactor,
            tasks=self._tasks,
            at_once=at_once,
        )

    def _loop(self, seconds: float, deed: Any) -> None:
        def run() -> Deferred[None]:
            return Deferred.fromCoroutine(deed()).addErrback(
                lambda failure: self._log.failure("{deed} failed", failure, deed=deed.__name__)
            )

        loop = LoopingCall(run)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(seconds)

    def _elsewhere(self, function: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function)

    def _note_status(self, record: CertificateRecord) -> None:
        self._ocsp.note_revoked(record.issuer_id, record.serial)
        self._scheduler.kick()  # the CRL is owed since the change

    async def _obtain_responder(self, issuer: Issuer) -> Responder:
        own = await self._own.responder(issuer)
        scheme = responder_scheme(own.key.public_key(), issuer)
        signer = SoftwareSigner(own.key, self._elsewhere, scheme)
        return Responder.of(own.chain_der[0], signer, by_name=self._settings.status.responder_by == "name")

    def _build_tls(self) -> ServerTls:
        chain_pem, key_pem = self._tls_pair(self._own.kept_tls(self._settings.tls_names()))
        return ServerTls(chain_pem, key_pem, client_anchors=self._client_anchors(self.authority.issuers))

    def _client_anchors(self, issuers: Issuers) -> tuple[x509.Certificate, ...]:
        """Whose certificates clients may show: this CA's, and those of devices' manufacturers."""
        roots = itertools.chain.from_iterable(self._manufacturer_roots.values())
        return tuple(dict.fromkeys((*client_anchors(issuers), *roots)))

    def _tls_pair(self, own: OwnCertificate | None) -> tuple[bytes, bytes]:
        """The listener's chain and key: brought by settings, else `own`."""
        if self._settings.tls_cert and self._settings.tls_key:
            return self._settings.tls_cert.read_bytes(), self._settings.tls_key.read_bytes()
        if own is None:
            raise AssertionError("first start has made the listener's certificate")
        return pem.encode_certificates(own.chain_der), encode_private_key(own.key, None)

    async def _renew_tls(self) -> None:
        """Show the certificate that is on disk; when it is due, a new one."""
        own = None if self._settings.tls_cert else await self._own.tls(self._settings.tls_names())
        self._tls.reload(*self._tls_pair(own))

    async def _publish_anchors(self) -> None:
        """What clients are to trust changes when issuers do, and when the window of a rollover ends."""
        async with self._publishing:
            content = pem.encode_certificates(self.authority.issuers.anchors_der(self._clock.now()))
            await self._elsewhere(lambda: self._state.publish_trust_anchors(content))

    async def _ensure_crls(self) -> None:
        await self._tasks.shield(self._crls.ensure())

    async def _look_at_known_keys(self) -> None:
        await self._known_keys.look_again(self._elsewhere)

    async def _tidy(self) -> None:
        await self._stores.jobs.enqueue(clean_up.JOB_KIND, clean_up.JOB_KEY, self._clock.now())

    async def _owe_checkpoints(self) -> None:
        await self._stores.jobs.enqueue(WRITE_CHECKPOINT, AUDIT_CHAIN, self._clock.now())

    def _build_checkpoints(self, state: StateDirectory) -> CheckpointKeeper:
        return CheckpointKeeper(
            audit=self._stores.audit,
            own=self._own,
            file=state.path / CHECKPOINTS,
            node=self._node,
            clock=self._clock,
            elsewhere=self._elsewhere,
            rows=self._settings.audit.checkpoint_rows,
            period=timedelta(minutes=self._settings.audit.checkpoint_minutes),
        )

    def _build_validator(self) -> ControlValidator:
        settings = self._settings
        validator = build_validator(
            settings.validation,
            reactor=self._reactor,
            clock=self._clock,
            dns_server=settings.dns_server,
            http01_port=settings.http01_port,
            tlsalpn01_port=settings.tlsalpn01_port,
            allow=settings.validation_allow,
            caa_identities=settings.caa_identity,
            base_url=settings.base_url(),
        )
        return validator if self._faults is None else SlowValidator(validator, self._faults, self._reactor)

    def _build_edges(self, kept: Kept) -> tuple[Edge, ...]:
        return build_edges(
            Parts(
                settings=self._settings,
                state=self._state,
                stores=self._stores,
                authority=self.authority,
                status=self._ocsp,
                crls=self._crls,
                work=self._work,
                hands=self._validations,
                ledger=self._ledger,
                owner=kept.owner,
                secret=kept.secret,
                clock=self._clock,
                tasks=self._tasks,
                reactor=self._reactor,
                elsewhere=self._elsewhere,
                manufacturer_roots=self._manufacturer_roots,
            )
        )
