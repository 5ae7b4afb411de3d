"""A rollover: old and new vouch for each other, requests go to the new key, and a deed broken off does no harm."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import pem
from opencertd.asn1.dn import parse_dn
from opencertd.clock import FixedClock
from opencertd.config import RuleSettings
from opencertd.desk.rollover import hold_in_file
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.first_start import at_once, run_now
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ca_certificates import CaSigning, CaTerms, valid_from
from opencertd.issuance.ceremony import (
    HeldKey,
    NewAuthority,
    issuer_record,
    keep,
    make_authorities,
    record_ca_certificates,
)
from opencertd.issuance.issuers import Issuer, Issuers, load_issuers
from opencertd.issuance.key_types import NewKey, parse_key_type, parse_key_types
from opencertd.issuance.profile_file import build_rules
from opencertd.issuance.rollover import Rollover, Succession, Wish
from opencertd.issuance.shipped import responder_profile
from opencertd.keys.files import write_private_key
from opencertd.keys.kinds import label_of
from opencertd.model.certificates import CrossKind, HierarchyChange, IssuerRole, IssuerState
from opencertd.model.request import IssuedCertificate
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.audit import SqlAuditStore
from opencertd.store.database import Database
from opencertd.stores import Stores
from tests.ca import NOW, PUBLICATION, request

DAEMON = Requester(Proof.DAEMON, "daemon", "opencertd", ANY_NAME)
OPERATOR = Requester(Proof.OPERATOR, "alice", "alice", ANY_NAME)
MADE = make_authorities(parse_dn("CN=Test CA"), NOW - timedelta(days=30), parse_key_types(("ecdsa",)))
WINDOW = timedelta(days=100)


class BrokenOffError(Exception):
    """The process ends here."""


class Rig:
    """A CA in files and a database in memory, as commands and workers see it. `steps`: what to survive before dying."""

    def __init__(self, path: Path, made: tuple[NewAuthority, ...] = MADE) -> None:
        self.path, self.clock = path, FixedClock(NOW)
        self.database = Database.in_memory()
        self.stores = Stores.over(self.database, self.clock)
        self.steps: int | None = None
        run_now(keep(made, path, None, self.stores.certificates))
        self.record()

    def record(self) -> None:
        run_now(record_ca_certificates(self.issuers(), self.stores.certificates, "node/start", self.clock.now()))

    def issuers(self) -> Issuers:
        hierarchy = run_now(self.hierarchy())
        crosses = hierarchy.cross_certificates
        return load_issuers(hierarchy.issuers, self.path, None, at_once, cross_certificates=crosses)

    async def hierarchy(self) -> Any:
        return await self.stores.hierarchy.hierarchy()

    def issuer(self, name: str) -> Issuer:
        issuer = self.issuers().by_name(name)
        assert issuer is not None
        return issuer

    def rollover(self) -> Rollover:
        issuers = self.issuers()
        signing = CaSigning(
            _Dying(self.stores.certificates, self),  # type: ignore[arg-type]
            clock=self.clock,
            random=secrets.token_bytes,
            owner="node/command",
            publication=PUBLICATION,
        )
        return Rollover(
            issuers,
            hold=lambda before, name, wanted: self.hold(name, wanted, issuers),
            signing=signing,
            store=_Dying(self.stores.hierarchy, self),  # type: ignore[arg-type]
            by=OPERATOR,
            clock=self.clock,
        )

    def hold(self, name: str, wanted: NewKey, issuers: Issuers) -> HeldKey:
        self.step()
        held = hold_in_file(self.path, None, name, wanted, {i.record.key_reference for i in issuers.all()})
        self.step()
        return held

    def step(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise BrokenOffError

    def roll_over(self, name: str, **wish: Any) -> tuple[Succession, ...]:
        made, _ = run_now(self.rollover().roll_over(Wish(name, WINDOW, **wish)))
        self.record()
        return made

    def close(self, name: str) -> datetime | None:
        return run_now(self.rollover().close(name))

    def authority(self) -> CertificateAuthority:
        issuers = self.issuers()
        rules = build_rules({}, RuleSettings().policy, tuple(i.record for i in issuers.all()), PUBLICATION)
        return CertificateAuthority(
            issuers=issuers,
            profiles=rules.profiles,
            policies=rules.policies,
            publication=PUBLICATION,
            store=self.stores.certificates,
            clock=self.clock,
            reactor=None,  # type: ignore[arg-type]  # nothing waits here
            random=secrets.token_bytes,
            owner="node/0",
        )

    def issue(self, **changes: Any) -> IssuedCertificate:
        return run_now(self.authority().issue(request(**changes)))

    def verify(self, leaf: IssuedCertificate, anchors: Sequence[bytes], untrusted: Sequence[bytes] = ()) -> bool:
        """What OpenSSL says, which trusts only these anchors."""
        files = {"leaf": [leaf.certificate_der], "anchors": anchors, "untrusted": [*leaf.chain_der[1:], *untrusted]}
        for name, ders in files.items():
            (self.path / f"{name}.pem").write_bytes(pem.encode_certificates(tuple(ders)))
        command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-attime", str(int(self.clock.now().timestamp()))]
        for option, name in (("-CAfile", "anchors"), ("-untrusted", "untrusted")):
            command += [option, str(self.path / f"{name}.pem")]
        done = subprocess.run([*command, str(self.path / "leaf.pem")], capture_output=True, timeout=20, check=False)
        return done.returncode == 0


class _Dying:
    """A store before and after each of whose deeds the process may end."""

    def __init__(self, store: Any, rig: Rig) -> None:
        self._store, self._rig = store, rig

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self._rig.step()
            result = await method(*arguments, **options)
            self._rig.step()
            return result

        return call


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def parsed(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def crosses(rig: Rig) -> dict[str, x509.Certificate]:
    return {cross.kind.value: parsed(cross.certificate_der) for cross in rig.issuers().cross_certificates}


def refused(rig: Rig, name: str, **wish: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        rig.roll_over(name, **wish)
    return caught.value


def test_an_issuing_ca_gets_a_new_key_under_the_same_name_and_root(rig: Rig) -> None:
    rig.roll_over("ecdsa")
    old, new = rig.issuer("ecdsa"), rig.issuer("ecdsa-2")
    assert (old.record.state, new.record.state) == (IssuerState.RETIRED, IssuerState.ACTIVE)
    assert new.certificate.subject == old.certificate.subject
    assert new.certificate.public_key() != old.certificate.public_key()
    assert label_of(new.certificate.public_key()) == label_of(old.certificate.public_key())
    assert old.record.published_until == NOW + WINDOW
    for extension in (x509.BasicConstraints, x509.KeyUsage):
        assert new.certificate.extensions.get_extension_for_class(
            extension
        ) == old.certificate.extensions.get_extension_for_class(extension)
    assert rig.issue().chain_der[1:] == (new.certificate_der,)


def test_a_new_issuer_lasts_as_long_as_the_old_one_was_made_for_and_no_longer_than_its_root(rig: Rig) -> None:
    rig.clock.advance(timedelta(days=15 * 365))
    refusal = refused(rig, "ecdsa-root-9")
    assert refusal.kind is RefusalKind.NOT_FOUND
    rig.roll_over("ecdsa")
    new = rig.issuer("ecdsa-2").certificate
    assert new.not_valid_after_utc == rig.issuer("ecdsa-root").certificate.not_valid_after_utc


def test_old_and_new_root_vouch_for_each_other_as_rfc_4210_says(rig: Rig) -> None:
    rig.roll_over("ecdsa-root")
    old, new = rig.issuer("ecdsa-root").certificate, rig.issuer("ecdsa-root-2").certificate
    with_old, with_new = crosses(rig)["new-with-old"], crosses(rig)["old-with-new"]
    with_old.verify_directly_issued_by(old)
    with_new.verify_directly_issued_by(new)
    assert (with_old.public_key(), with_new.public_key()) == (new.public_key(), old.public_key())
    assert (with_new.not_valid_before_utc, with_new.not_valid_after_utc) == (
        old.not_valid_before_utc,
        old.not_valid_after_utc,
    )
    assert (with_old.not_valid_before_utc, with_old.not_valid_after_utc) == (new.not_valid_before_utc, NOW + WINDOW)


def test_cacerts_hands_out_all_four_until_the_window_ends(rig: Rig) -> None:
    rig.roll_over("ecdsa-root", with_issuing=True)
    issuers = rig.issuers()
    old, new, two = (rig.issuer(n).certificate_der for n in ("ecdsa-root", "ecdsa-root-2", "ecdsa-2"))
    one = rig.issuer("ecdsa").certificate_der
    both = {c.public_bytes(Encoding.DER) for c in crosses(rig).values()}
    before = NOW + WINDOW - timedelta(seconds=1)
    assert set(issuers.authorities_der(before)) == {one, two, old, new} | both
    assert set(issuers.authorities_der(NOW + WINDOW)) == {two, new}
    assert set(issuers.anchors_der(before)) == {old, new}
    assert issuers.anchors_der(NOW + WINDOW) == (new,)


def test_a_root_that_issuing_cas_stand_under_is_handed_out_beyond_its_window(rig: Rig) -> None:
    rig.roll_over("ecdsa-root")
    root, issuing = rig.issuer("ecdsa-root").certificate_der, rig.issuer("ecdsa").certificate_der
    late = NOW + 2 * WINDOW
    assert {root, issuing} <= set(rig.issuers().authorities_der(late))
    assert root in rig.issuers().anchors_der(late)


def test_both_sides_verify_old_and_new_certificates_with_what_cacerts_hands_out(rig: Rig) -> None:
    leaves = [rig.issue()]
    rig.roll_over("ecdsa-root", with_issuing=True)
    leaves.append(rig.issue())
    assert [leaf.record.issuer_id for leaf in leaves] == [rig.issuer(name).id for name in ("ecdsa", "ecdsa-2")]
    published = rig.issuers().authorities_der(NOW)
    for leaf in leaves:
        for root in ("ecdsa-root", "ecdsa-root-2"):
            assert rig.verify(leaf, [rig.issuer(root).certificate_der], published)


def test_links_of_two_rollovers_lead_both_ways(rig: Rig) -> None:
    """OpenSSL takes the first link that fits and never turns back, so that it gets those of one direction."""
    roots = ("ecdsa-root", "ecdsa-root-2", "ecdsa-root-3")
    leaves = [rig.issue()]
    for root in roots[:2]:
        rig.roll_over(root, with_issuing=True)
        leaves.append(rig.issue())
    links = {
        kind: [c.certificate_der for c in rig.issuers().cross_certificates if c.kind is kind] for kind in CrossKind
    }
    for signed_under, leaf in enumerate(leaves):
        for trusted, root in enumerate(roots):
            kind = CrossKind.OLD_WITH_NEW if trusted > signed_under else CrossKind.NEW_WITH_OLD
            assert rig.verify(leaf, [rig.issuer(root).certificate_der], links[kind])


def test_the_chain_of_a_new_certificate_satisfies_who_trusts_the_old_root_only(rig: Rig) -> None:
    old = rig.issuer("ecdsa-root").certificate_der
    rig.roll_over("ecdsa-root", with_issuing=True)
    rig.roll_over("ecdsa-root-2", with_issuing=True)
    leaf = rig.issue()
    assert rig.verify(leaf, [old])
    assert rig.verify(leaf, [rig.issuer("ecdsa-root-3").certificate_der])
    longer, shorter = rig.authority().chains(leaf.record)
    assert longer == leaf.chain_der
    assert shorter == longer[:2]
    assert len(longer) == 4
    rig.clock.advance(WINDOW)
    assert rig.authority().chains(leaf.record) == (shorter,)


def test_a_retired_issuer_signs_nothing_but_the_certificate_of_its_responder(rig: Rig) -> None:
    rig.roll_over("ecdsa")
    authority = rig.authority()
    responder = run_now(authority.issue(request(profile=responder_profile("ecdsa").name, requester=DAEMON)))
    assert responder.record.issuer_id == rig.issuer("ecdsa").id
    for profile in authority.profiles.values():
        if profile.speaks_for is None and not profile.ca:
            assert authority.issuer_for(profile.name, None).name == "ecdsa-2"


def test_what_the_old_issuer_and_its_responder_signed_is_told_apart(rig: Rig) -> None:
    leaf = rig.issue()
    rig.roll_over("ecdsa")
    rig.clock.advance(timedelta(days=80))
    rig.issue(profile=responder_profile("ecdsa").name, requester=DAEMON)
    rig.issue()
    assert rig.close("ecdsa") == leaf.record.not_after


def test_the_ca_certificates_of_a_rollover_are_in_the_inventory_under_who_signed_them(rig: Rig) -> None:
    rig.roll_over("ecdsa-root", with_issuing=True)
    names = {issuer.id: issuer.name for issuer in rig.issuers().all()}
    records = run_now(inventory(rig))
    assert sorted((record.profile, names[record.issuer_id]) for record in records) == [
        ("issuing", "ecdsa-root"),
        ("issuing", "ecdsa-root-2"),
        ("new-with-old", "ecdsa-root"),
        ("old-with-new", "ecdsa-root-2"),
        ("root", "ecdsa-root"),
        ("root", "ecdsa-root-2"),
    ]


async def inventory(rig: Rig) -> Any:
    return await rig.stores.certificates.inventory(0, 100)


def test_an_issuing_ca_that_is_rolled_over_later_goes_under_the_new_root(rig: Rig) -> None:
    rig.roll_over("ecdsa-root")
    rig.roll_over("ecdsa")
    assert rig.issuer("ecdsa-2").root_der == rig.issuer("ecdsa-root-2").certificate_der


def test_issuing_cas_left_under_an_older_root_are_named_and_come_along_next_time(rig: Rig) -> None:
    _, left = run_now(rig.rollover().roll_over(Wish("ecdsa-root", WINDOW)))
    assert [issuer.name for issuer in left] == ["ecdsa"]
    made = rig.roll_over("ecdsa-root-2", with_issuing=True)
    assert [one.after.name for one in made] == ["ecdsa-root-3", "ecdsa-2"]


@pytest.mark.parametrize("key_type", ["rsa-2048", "rsa-pss-2048", "ed25519", "ml-dsa-44"])
def test_a_new_key_may_be_of_another_kind(rig: Rig, key_type: str) -> None:
    wanted = parse_key_type(key_type)
    rig.roll_over("ecdsa-root", with_issuing=True, key_type=wanted)
    for name, key in (("ecdsa-root-2", wanted.root), ("ecdsa-2", wanted.issuing)):
        assert label_of(rig.issuer(name).certificate.public_key()) == key.label
        assert rig.issuer(name).record.scheme == wanted.scheme
    leaf = rig.issue()
    if key_type != "ml-dsa-44":  # which OpenSSL before 3.5 does not know
        assert rig.verify(leaf, [rig.issuer("ecdsa-root").certificate_der])


def test_a_repetition_changes_nothing_and_says_what_to_name(rig: Rig) -> None:
    rig.roll_over("ecdsa")
    before = run_now(rig.hierarchy())
    refusal = refused(rig, "ecdsa")
    assert refusal.kind is RefusalKind.CONFLICT
    assert "ecdsa-2" in refusal.detail
    assert run_now(rig.hierarchy()) == before


def test_others_that_changed_the_issuer_meanwhile_win(rig: Rig) -> None:
    late = rig.rollover()
    rig.roll_over("ecdsa")
    before = run_now(rig.hierarchy())
    with pytest.raises(Refusal) as caught:
        run_now(late.roll_over(Wish("ecdsa", WINDOW)))
    assert caught.value.kind is RefusalKind.CONFLICT
    assert run_now(rig.hierarchy()) == before


@pytest.mark.parametrize("state", [IssuerState.RETIRED, IssuerState.REVOKED])
def test_only_who_signs_can_be_rolled_over(rig: Rig, state: IssuerState) -> None:
    record = rig.issuer("ecdsa").record
    run_now(changed(rig, HierarchyChange("retire", changed=((record, replace(record, state=state)),))))
    assert state.value in refused(rig, "ecdsa").detail


async def changed(rig: Rig, change: HierarchyChange) -> None:
    await rig.stores.hierarchy.change(change, OPERATOR)


@pytest.mark.parametrize("name", ["ecdsa", "ecdsa-root"])
def test_a_root_whose_key_was_taken_away_signs_nothing(rig: Rig, name: str) -> None:
    record = rig.issuer("ecdsa-root").record
    run_now(changed(rig, HierarchyChange("take", changed=((record, replace(record, key_reference=None)),))))
    before = run_now(rig.hierarchy())
    refusal = refused(rig, name)
    assert (refusal.kind, "is not here" in refusal.detail) == (RefusalKind.UNAVAILABLE, True)
    assert run_now(rig.hierarchy()) == before


def test_closing_ends_the_window_of_that_rollover_alone(rig: Rig) -> None:
    rig.roll_over("ecdsa-root", with_issuing=True)
    rig.roll_over("ecdsa-root-2", with_issuing=True)
    rig.close("ecdsa-root")
    now = rig.clock.now()
    offered = rig.issuers().authorities_der(now)
    names = ("ecdsa-2", "ecdsa-3", "ecdsa-root-2", "ecdsa-root-3")
    assert {spki(parsed(der)) for der in offered} == {spki(rig.issuer(name).certificate) for name in names}
    before = run_now(rig.hierarchy())
    rig.close("ecdsa")
    assert run_now(rig.hierarchy()) == before


def test_a_window_is_not_closed_while_issuing_cas_need_the_old_root(rig: Rig) -> None:
    rig.roll_over("ecdsa-root")
    with pytest.raises(Refusal, match="ecdsa still stand"):
        rig.close("ecdsa-root")
    with pytest.raises(Refusal, match="not rolled over"):
        rig.close("ecdsa")


def test_what_was_done_is_in_the_audit_log(rig: Rig) -> None:
    rig.roll_over("ecdsa-root")
    entries = run_now(page(rig))
    (entry,) = (entry for entry in entries if entry.deed == "change-ca")
    said = json.loads(entry.what)
    assert (entry.who, entry.proof, said["deed"], said["issuer"]) == ("alice", "operator", "rollover", "ecdsa-root")
    assert "state: active -> retired" in said["changed"][0]
    assert len(said["crossed"]) == 2


async def page(rig: Rig) -> Any:
    return await SqlAuditStore(rig.database, rig.clock).page(None, 200)


@pytest.mark.parametrize("name", ["ecdsa", "ecdsa-root"])
def test_a_rollover_broken_off_anywhere_is_finished_by_a_repetition(tmp_path: Path, name: str) -> None:
    for steps in range(100):
        (tmp_path / str(steps)).mkdir()
        rig = Rig(tmp_path / str(steps))
        rig.steps = steps
        try:
            rig.roll_over(name, with_issuing=name == "ecdsa-root")
        except BrokenOffError:
            pass
        else:
            break
        rig.steps = None
        after = run_now(rig.hierarchy())
        unchanged = {issuer.state for issuer in after.issuers} == {IssuerState.ACTIVE} and len(after.issuers) == 2
        done = rig.issuers().successor(rig.issuer(name)) is not None
        assert unchanged != done
        if unchanged:
            rig.roll_over(name, with_issuing=name == "ecdsa-root")
        rig.record()
        leaf = rig.issue()
        assert leaf.record.issuer_id == rig.issuer("ecdsa-2").id
        assert rig.verify(leaf, [rig.issuer("ecdsa-root").certificate_der])
        keys = {issuer.record.key_reference for issuer in rig.issuers().all()}
        assert {file.name for file in rig.path.glob("ecdsa*.pem")} == keys
    assert steps > 5


def test_a_key_of_another_kind_in_the_way_is_not_overwritten(rig: Rig) -> None:
    made = parse_key_type("ed25519").issuing.make()
    write_private_key(rig.path / "ecdsa-2.pem", made, None)
    before = (rig.path / "ecdsa-2.pem").read_bytes()
    with pytest.raises(StartError, match="holds another key"):
        rig.roll_over("ecdsa")
    assert (rig.path / "ecdsa-2.pem").read_bytes() == before


def test_a_self_signed_ca_that_issues_vouches_for_its_successor_too(tmp_path: Path) -> None:
    alone = replace(MADE[0], record=replace(MADE[0].record, name="office", role=IssuerRole.ISSUING))
    rig = Rig(tmp_path, (alone,))
    old = rig.issuer("office").certificate_der
    before = rig.issue()
    rig.roll_over("office")
    new = rig.issuer("office-2").certificate_der
    leaf = rig.issue()
    assert leaf.record.issuer_id == rig.issuer("office-2").id
    assert rig.verify(leaf, [old])
    assert rig.verify(leaf, [new])
    bare = replace(before, chain_der=before.chain_der[:1])  # its chain is the old root itself
    assert rig.verify(bare, [new], [c.public_bytes(Encoding.DER) for c in crosses(rig).values()])


def test_cas_between_root_and_issuing_ca_come_along(tmp_path: Path) -> None:
    """A CA for CAs has the role of a root, and stands under one all the same."""
    root, _ = MADE
    rig = Rig(tmp_path, (root,))
    run_now(add_below(rig, "middle", "ecdsa-root", IssuerRole.ROOT))
    run_now(add_below(rig, "office", "middle", IssuerRole.ISSUING))
    made = rig.roll_over("ecdsa-root", with_issuing=True)
    assert [one.after.name for one in made] == ["ecdsa-root-2", "middle-2", "office-2"]
    leaf = rig.issue()
    assert leaf.chain_der[1:3] == tuple(rig.issuer(name).certificate_der for name in ("office-2", "middle-2"))
    for trusted in ("ecdsa-root", "ecdsa-root-2"):
        assert rig.verify(leaf, [rig.issuer(trusted).certificate_der])
    rig.roll_over("middle-2")
    assert rig.issuer("middle-3").root_der == rig.issuer("ecdsa-root-2").certificate_der


async def add_below(rig: Rig, name: str, above: str, role: IssuerRole) -> None:
    key = parse_key_type("ecdsa").issuing.make()
    write_private_key(rig.path / f"{name}.pem", key, None)
    begin, end = valid_from(NOW, timedelta(days=1000))
    terms = CaTerms(parse_dn(f"CN={name}"), key.public_key(), begin, end)  # type: ignore[arg-type]
    signing = CaSigning(rig.stores.certificates, clock=rig.clock, random=secrets.token_bytes, owner="node/desk")
    issued = await signing.sign(terms, rig.issuer(above), by=OPERATOR, recorded_as=role.value)
    assert issued.certificate_der is not None
    record = issuer_record(name, role, parsed(issued.certificate_der), parent_id=rig.issuer(above).id)
    await rig.stores.hierarchy.change(HierarchyChange("create", added=(record,)), OPERATOR)
