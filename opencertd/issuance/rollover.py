"""A rollover gives an issuer a new key: another issuer of the same name in certificates takes its place for good.

The new one bears the old one's subject, limits and length of validity; in this CA it is called NAME-2, NAME-3 and so
on. For a root, two more certificates let old and new vouch for each other until everybody has the new one (RFC 4210
§4.4): NewWithOld for those who trust the old root only, OldWithNew for those who trust the new one only. All of it
becomes so in one change of the store: before it there are keys and at most a certificate that nobody uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from twisted.internet.defer import succeed

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.ca_certificates import CaSigning, CaTerms, cross_terms, valid_from
from opencertd.issuance.ceremony import HeldKey, issuer_record
from opencertd.issuance.issuers import Issuer, Issuers, is_open
from opencertd.issuance.key_types import KeyType, NewKey, key_like
from opencertd.issuance.store import HierarchyStore
from opencertd.keys.kinds import PublicKey, scheme_of
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.certificates import (
    CrossCertificate,
    CrossKind,
    HierarchyChange,
    IssuerRecord,
    IssuerRole,
    IssuerState,
)
from opencertd.model.requester import Requester

DEFAULT_WINDOW = timedelta(days=365)
DEED = "rollover"
CLOSE = "rollover-close"


@dataclass(frozen=True)
class Wish:
    """What is asked. `key_type`: None for a key as before. `window`: how long old and new are published together.

    `with_issuing`: for a root, also roll over the issuing CAs under it, so that they stand under the new root.
    """

    name: str
    window: timedelta = DEFAULT_WINDOW
    key_type: KeyType | None = None
    with_issuing: bool = False


@dataclass(frozen=True)
class Succession:
    """Who took whose place, until when both are published, and when the last certificate under the old one expires."""

    before: Issuer
    after: Issuer
    until: datetime
    last_expiry: datetime | None


HoldSuccessor = Callable[[Issuer, str, NewKey], HeldKey]
"""Makes the key of an issuer's successor, of the name given. It is durable when this returns."""


CheckRules = Callable[[tuple[IssuerRecord, ...]], None]
"""Raises StartError when profiles would contradict themselves, were there these issuers too."""


class Rollover:
    """Rolls issuers over. `by` is who asks.

    `check` sees records like those to come before anything is made: a daemon goes by no issuers that its profiles do
    not fit.
    """

    def __init__(
        self,
        issuers: Issuers,
        *,
        hold: HoldSuccessor,
        signing: CaSigning,
        store: HierarchyStore,
        by: Requester,
        clock: Clock,
        check: CheckRules = lambda added: None,
    ) -> None:
        self._issuers = issuers
        self._check = check
        self._hold = hold
        self._signing = signing
        self._store = store
        self._by = by
        self._clock = clock

    async def roll_over(self, wish: Wish) -> tuple[tuple[Succession, ...], tuple[Issuer, ...]]:
        """Do what is asked, as a whole or not at all; answers what took place, and the issuing CAs left under a root.

        Refusals: NOT_FOUND, CONFLICT (rolled over already, not active, or changed meanwhile), UNAVAILABLE (a key that
        is not here, or does not sign), MALFORMED. Raises StartError when profiles do not fit the new kind of key.
        """
        old = named(self._issuers, wish.name)
        check_active(self._issuers, old)
        now = self._clock.now().replace(microsecond=0)
        until = now + wish.window
        made: dict[str, Succession] = {}
        crossed: list[CrossCertificate] = []
        below = issuing_under(self._issuers, old)
        rolled = (old, *(below if wish.with_issuing else ()))
        if wish.key_type is not None:
            self._check(tuple([await self._rehearsed(before, wish.key_type) for before in rolled]))
        for before in rolled:
            after = await self._successor(before, wish.key_type, made)
            made[before.id] = Succession(before, after, until, await self._last_expiry(before))
            if is_root(before):
                crossed += await self._cross(made[before.id])
        retired = [
            (one.before.record, replace(one.before.record, state=IssuerState.RETIRED, published_until=until))
            for one in made.values()
        ]
        change = HierarchyChange(
            DEED, added=tuple(one.after.record for one in made.values()), changed=tuple(retired), crossed=tuple(crossed)
        )
        await self._store.change(change, self._by, issuer=old.name, window_ends=until.isoformat())
        left = () if wish.with_issuing else tuple(one for one in below if one.record.parent_id == old.id)
        return tuple(made.values()), left

    async def close(self, name: str) -> datetime | None:
        """End the window of a rollover now, for a root also those of the retired issuing CAs under it.

        Answers when the last certificate under it expires. Nothing is changed when all is closed already. Refusals:
        NOT_FOUND, CONFLICT.
        """
        old = named(self._issuers, name)
        new = self._issuers.successor(old)
        if new is None:
            raise Refusal(RefusalKind.CONFLICT, f"{name} was not rolled over: there is no window to close")
        below = children(self._issuers, old)
        standing = ", ".join(issuer.name for issuer in below if issuer.active)
        if standing:
            raise Refusal(
                RefusalKind.CONFLICT,
                f"{standing} still stand under {name}, and need it published: roll them over first",
            )
        now = self._clock.now().replace(microsecond=0)
        crosses = (c for c in self._issuers.cross_certificates if {c.subject_id, c.signer_id} == {old.id, new.id})
        change = HierarchyChange(
            CLOSE,
            changed=tuple(
                (issuer.record, replace(issuer.record, published_until=now))
                for issuer in (old, *below)
                if is_open(issuer.record.published_until, now)
            ),
            closed=tuple(replace(c, published_until=now) for c in crosses if is_open(c.published_until, now)),
        )
        if change.changed or change.closed:
            await self._store.change(change, self._by, issuer=old.name)
        return await self._last_expiry(old)

    async def _last_expiry(self, issuer: Issuer) -> datetime | None:
        found = [await self._store.last_expiry(one.id) for one in (issuer, *children(self._issuers, issuer))]
        return max((expiry for expiry in found if expiry is not None), default=None)

    async def _successor(self, before: Issuer, key_type: KeyType | None, made: dict[str, Succession]) -> Issuer:
        parent = None if is_root(before) else self._parent(before, made)
        name = successor_name(self._issuers, before)
        held = self._hold(before, name, _new_key(before, key_type))
        public_key = held.key.public_key()
        scheme = before.record.scheme if key_type is None else key_type.scheme
        signer = SoftwareSigner(held.key, lambda sign: succeed(sign()), scheme_of(public_key, scheme))
        terms = successor_terms(before.certificate, public_key, self._clock.now())
        if parent is None:
            certificate_der = await self._signing.self_sign(terms, signer)
        elif self._issuers.by_id(parent.id) is None:  # the root that is made in the same deed
            terms = replace(terms, not_after=min(terms.not_after, parent.certificate.not_valid_after_utc))
            certificate_der = await self._signing.sign_ahead(terms, parent)
        else:
            issued = await self._signing.sign(terms, parent, by=self._by, recorded_as=before.role.value)
            certificate_der = issued.certificate_der or b""
        certificate = x509.load_der_x509_certificate(certificate_der)
        record = issuer_record(
            name,
            before.role,
            certificate,
            parent_id=None if parent is None else parent.id,
            scheme=scheme,
            key_reference=held.reference,
        )
        record = replace(record, predecessor_id=before.id)
        if parent is None:
            return Issuer(record, certificate, signer, (certificate_der,), certificate_der)
        above = () if is_root(parent) else parent.chain_der
        return Issuer(record, certificate, signer, (certificate_der, *above), parent.root_der)

    async def _rehearsed(self, before: Issuer, key_type: KeyType) -> IssuerRecord:
        """The successor's record with a key that nobody keeps."""
        key = _new_key(before, key_type).make()
        signer = SoftwareSigner(key, lambda sign: succeed(sign()))
        terms = successor_terms(before.certificate, key.public_key(), self._clock.now())
        certificate = x509.load_der_x509_certificate(await self._signing.self_sign(terms, signer))
        name = successor_name(self._issuers, before)
        record = issuer_record(name, before.role, certificate, parent_id=None, scheme=None, key_reference=None)
        return replace(record, predecessor_id=before.id)

    def _parent(self, before: Issuer, made: dict[str, Succession]) -> Issuer:
        """Who signs the new certificate of an issuing CA: its root, or who took that one's place."""
        above = self._issuers.by_id(before.record.parent_id or "")
        if above is None:
            raise Refusal(
                RefusalKind.UNAVAILABLE,
                f"{before.name} stands under a CA that is not here: have that one sign a request for a new key",
            )
        if above.id in made:
            return made[above.id].after
        parent = self._issuers.current(above.name)
        if parent is None:
            raise Refusal(RefusalKind.CONFLICT, f"{above.name}, which {before.name} stands under, signs no more")
        return parent

    async def _cross(self, one: Succession) -> tuple[CrossCertificate, CrossCertificate]:
        """NewWithOld holds until the window ends, OldWithNew as long as the old root itself (RFC 4210 §4.4.1)."""
        old, new = one.before, one.after
        begin, end = new.certificate.not_valid_before_utc, old.certificate.not_valid_after_utc
        with_old = await self._signing.sign(
            cross_terms(new.certificate, begin, min(one.until, end)),
            old,
            by=self._by,
            recorded_as=CrossKind.NEW_WITH_OLD.value,
        )
        with_new = await self._signing.sign_ahead(
            cross_terms(old.certificate, old.certificate.not_valid_before_utc, end), new
        )
        return (
            CrossCertificate(new.id, CrossKind.NEW_WITH_OLD, with_old.certificate_der or b"", old.id, one.until),
            CrossCertificate(old.id, CrossKind.OLD_WITH_NEW, with_new, new.id, one.until),
        )


def named(issuers: Issuers, name: str) -> Issuer:
    """The issuer of that name. Refusal NOT_FOUND in words."""
    issuer = issuers.by_name(name)
    if issuer is None:
        names = ", ".join(one.name for one in issuers.all()) or "there are none"
        raise Refusal(RefusalKind.NOT_FOUND, f"there is no issuer {name!r} in this CA: {names}")
    return issuer


def check_active(issuers: Issuers, issuer: Issuer) -> None:
    """Raise CONFLICT unless the issuer may be rolled over. That it was already is how a repetition is told."""
    successor = issuers.successor(issuer)
    if successor is not None:
        latest = issuers.current(issuer.name) or successor
        raise Refusal(
            RefusalKind.CONFLICT,
            f"{issuer.name} was rolled over already, to {successor.name}; nothing was changed. "
            f"To give it another key once more, name {latest.name}.",
        )
    if issuer.record.state is not IssuerState.ACTIVE:
        raise Refusal(RefusalKind.CONFLICT, f"{issuer.name} is {issuer.record.state.value}, and stays so")
    if issuer.distrusted and is_root(issuer):  # it would have to vouch for the one that takes its place
        words = f"{issuer.name} is distrusted: make another root beside it, and CAs under that, by `opencert ca create`"
        raise Refusal(RefusalKind.CONFLICT, words)


def is_root(issuer: Issuer) -> bool:
    """Whether it signed its own certificate, whatever it signs beside that."""
    return issuer.certificate_der == issuer.root_der


def issuing_under(issuers: Issuers, above: Issuer) -> tuple[Issuer, ...]:
    """The active issuers under one, or under those whose place it took; parents before their children."""
    known = {issuer.id for issuer in lineage(issuers, above)}
    found = []
    for issuer in issuers.all():
        if issuer.active and issuer.record.parent_id in known:
            known.add(issuer.id)
            found.append(issuer)
    return tuple(found)


def children(issuers: Issuers, parent: Issuer) -> tuple[Issuer, ...]:
    """The issuers whose certificates this one signed."""
    return tuple(issuer for issuer in issuers.all() if issuer.record.parent_id == parent.id)


def lineage(issuers: Issuers, issuer: Issuer) -> Iterator[Issuer]:
    """The issuer, then whoever had its place before it."""
    current: Issuer | None = issuer
    while current is not None:
        yield current
        current = issuers.by_id(current.record.predecessor_id or "")


def successor_name(issuers: Issuers, issuer: Issuer) -> str:
    """NAME-2 for the successor of NAME, NAME-3 for the one after; the next number when that is taken."""
    line = list(lineage(issuers, issuer))
    number = len(line) + 1
    while issuers.by_name(f"{line[-1].name}-{number}") is not None:
        number += 1
    return f"{line[-1].name}-{number}"


def successor_terms(old: x509.Certificate, public_key: PublicKey, now: datetime) -> CaTerms:
    """The same name and limits for a new key, from now on and for as long as the old certificate was made for."""
    begin, end = valid_from(now, old.not_valid_after_utc - old.not_valid_before_utc + timedelta(seconds=1))
    return replace(cross_terms(old, begin, end), public_key=public_key, key_identifier=None)


def _new_key(before: Issuer, key_type: KeyType | None) -> NewKey:
    if key_type is not None:
        return key_type.root if before.role is IssuerRole.ROOT else key_type.issuing
    try:
        return key_like(before.signer.public_key)
    except ValueError as error:
        raise Refusal(RefusalKind.BAD_PUBLIC_KEY, str(error)) from None
