"""A key that somebody else may have gets no certificate, whoever asks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.known_keys import KnownKeys
from opencertd.model.certificates import RevocationReason
from opencertd.model.request import IssuedCertificate, RevocationRequest
from opencertd.store.certificates import SqlCertificateStore
from tests.ca import TestCa, make_ca, request, requester, rsa_key, spki_of


async def revoke(ca: TestCa, issued: IssuedCertificate, reason: RevocationReason) -> None:
    record = issued.record
    await ca.authority.revoke(RevocationRequest(record.issuer_id, record.serial, reason, requester()))


async def refused(ca: TestCa, key: ec.EllipticCurvePrivateKey, **changes: object) -> Refusal:
    for deed in (ca.authority.check_key(spki_of(key)), ca.authority.issue(request(key=key, **changes))):
        with pytest.raises(Refusal) as caught:
            await deed
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_key_that_was_compromised_here_is_refused_for_ever() -> None:
    ca = make_ca()
    key = ec.generate_private_key(ec.SECP256R1())
    first = await ca.authority.issue(request(key=key))
    await ca.authority.issue(request(key=key))
    await revoke(ca, first, RevocationReason.KEY_COMPROMISE)
    for changes in ({}, {"profile": "rsa"}, {"requester": requester(id="another")}):
        refusal = await refused(ca, key, **changes)
        assert refusal.kind is RefusalKind.BAD_PUBLIC_KEY
        assert "compromised" in refusal.detail
    later = make_ca(issuers=ca.issuers, store=SqlCertificateStore(ca.database, ca.clock), database=ca.database)
    assert (await refused(later, key)).kind is RefusalKind.BAD_PUBLIC_KEY
    await ca.authority.issue(request())
    assert await ca.store.abandon_intents(owner=None, before=None) == 0, "no intent was written"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reason", [RevocationReason.SUPERSEDED, RevocationReason.UNSPECIFIED])
async def test_a_key_whose_certificate_was_revoked_for_less_may_be_used_again(reason: RevocationReason) -> None:
    ca = make_ca()
    key = ec.generate_private_key(ec.SECP256R1())
    await revoke(ca, await ca.authority.issue(request(key=key)), reason)
    await ca.authority.issue(request(key=key))


@pytest_twisted.ensureDeferred
async def test_a_key_on_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocklist"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_text(hashlib.sha256(spki_of(key)).hexdigest())
    ca = make_ca()
    ca.authority._known_keys = KnownKeys(path)
    ca.authority._known_keys.read()
    assert "list" in (await refused(ca, key)).detail
    await ca.authority.issue(request(key=rsa_key()))
