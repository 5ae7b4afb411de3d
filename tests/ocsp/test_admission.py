"""Who asks is answered, but for signers that this CA does not know, and where settings or an application say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as peer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Reactor

from opencertd.asn1 import der
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.ocsp.admission import CHECK_SECONDS
from opencertd.ocsp.inquiry import OcspInquiry
from opencertd.ocsp.messages import OcspAnswer
from tests.ocsp.people import abandoned, admission, person, signed, signed_by_openssl
from tests.ocsp.pki import NOW, build_ca, rsa_key
from tests.ocsp.rig import Rig

Status = peer.OCSPResponseStatus
NONCE = b"0123456789abcdef0123456789abcdef"


def status_of(answer: OcspAnswer) -> Status:
    return peer.load_der_ocsp_response(answer.body).response_status


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest_twisted.ensureDeferred
async def test_what_openssl_signs_is_answered(kind: str, tmp_path: Path) -> None:
    who = person(key=rsa_key() if kind == "rsa" else None)
    rig = Rig(admission=admission(who.record(), required=True))
    ca = rig.pki.ecdsa
    answer = await rig.server.answer(signed_by_openssl(tmp_path, ca.issue(1), ca.certificate, who))
    assert peer.load_der_ocsp_response(answer.body).certificate_status is peer.OCSPCertStatus.GOOD


@pytest_twisted.ensureDeferred
async def test_where_signatures_are_required_nobody_else_is_answered_and_nothing_is_shared() -> None:
    who = person()
    rig = Rig(admission=admission(who.record(), required=True))
    request = signed(rig.request(1), who)
    for _ in range(2):
        answer = await rig.server.answer(request)
        assert status_of(answer) is Status.SUCCESSFUL
        assert answer.freshness is None
        for open_request in (rig.request(1), rig.request(1, nonce=NONCE), rig.request(1, 2)):
            assert rig.server.at_hand(open_request, rig.clock.now()) is None
            assert status_of(await rig.server.answer(open_request)) is Status.SIG_REQUIRED


STRANGER = person(build_ca("stranger", ec.generate_private_key(ec.SECP256R1())))
KNOWN = person()
HELD = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)
EXPIRED = person(not_after=NOW.replace(year=2021))


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda request: signed(request, KNOWN), Status.SUCCESSFUL),
        (lambda request: signed(request, KNOWN, spoil=lambda bits: bits[:-1] + b"?"), Status.MALFORMED_REQUEST),
        (lambda request: signed(request, KNOWN, spoil=lambda bits: b""), Status.MALFORMED_REQUEST),
        (lambda request: signed(request, KNOWN, name=None), Status.MALFORMED_REQUEST),
        (lambda request: signed(request, KNOWN, name=STRANGER.certificate.issuer.public_bytes()), Status.UNAUTHORIZED),
        (lambda request: signed(request, KNOWN, certificates=()), Status.UNAUTHORIZED),
        (lambda request: signed(request, KNOWN, certificates=(b"\x30\0",)), Status.UNAUTHORIZED),
        (lambda request: signed(request, KNOWN, certificates=(KNOWN.der,) * 9), Status.MALFORMED_REQUEST),
        (lambda request: signed(request, person(), certificates=(KNOWN.der,)), Status.MALFORMED_REQUEST),
        (lambda request: signed(request, STRANGER), Status.UNAUTHORIZED),
        (lambda request: signed(request, person()), Status.UNAUTHORIZED),
        (lambda request: signed(request, EXPIRED), Status.UNAUTHORIZED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_signers_who_are_not_known_are_not_answered(
    make: Callable[[bytes], bytes], expected: Status, required: bool
) -> None:
    rig = Rig(admission=admission(KNOWN.record(), EXPIRED.record(), STRANGER.record(), required=required))
    assert status_of(await rig.server.answer(make(rig.request(1)))) is expected
    assert status_of(await rig.server.answer(rig.request(1))) is (
        Status.SIG_REQUIRED if required else Status.SUCCESSFUL
    )


@pytest_twisted.ensureDeferred
async def test_a_signer_who_is_on_hold_or_never_got_the_certificate_is_not_answered() -> None:
    for record in (KNOWN.record(HELD), abandoned(KNOWN)):
        rig = Rig(admission=admission(record))
        assert status_of(await rig.server.answer(signed(rig.request(1), KNOWN))) is Status.UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_whoever_asks_is_answered_whatever_name_they_give_themselves() -> None:
    rig = Rig(admission=admission(KNOWN.record()))
    tbs = rig.request(1)[2:]
    name = der.explicit(1, der.tlv(0x81, b"partner@example.com"))
    content = der.read_only(tbs, der.SEQUENCE).content(tbs)
    assert status_of(await rig.server.answer(der.sequence(der.sequence(name, content)))) is Status.SUCCESSFUL


# An application's own check.


def asking(check: Any, **options: Any) -> tuple[Rig, list[OcspInquiry]]:
    asked: list[OcspInquiry] = []

    def noting(inquiry: OcspInquiry) -> Any:
        asked.append(inquiry)
        return check(inquiry)

    return Rig(admission=admission(KNOWN.record(), check=noting, **options)), asked


async def later(inquiry: OcspInquiry) -> bool:
    return 1 in inquiry.serials


@pytest.mark.parametrize("check", [lambda inquiry: 1 in inquiry.serials, later])
@pytest_twisted.ensureDeferred
async def test_it_says_at_once_or_later_what_is_answered(check: Any) -> None:
    rig, asked = asking(check)
    for _ in range(2):
        assert status_of(await rig.server.answer(rig.request(1, 3))) is Status.SUCCESSFUL
        assert status_of(await rig.server.answer(signed(rig.request(1), KNOWN))) is Status.SUCCESSFUL
        assert status_of(await rig.server.answer(rig.request(2))) is Status.UNAUTHORIZED
    first, second, third, *_ = asked
    assert first == OcspInquiry("ecdsa", (1, 3), None)
    assert second == OcspInquiry("ecdsa", (1,), KNOWN.record())
    assert third.serials == (2,)
    assert len(asked) == 6, "nobody is answered without it"


def fails(inquiry: OcspInquiry) -> bool:
    raise KeyError("a fault of the application's")


@pytest.mark.parametrize(
    ("check", "expected"),
    [(lambda inquiry: None, Status.UNAUTHORIZED), (lambda inquiry: "yes", Status.UNAUTHORIZED)],
)
@pytest_twisted.ensureDeferred
async def test_only_true_is_yes(check: Any, expected: Status) -> None:
    rig, _ = asking(check)
    assert status_of(await rig.server.answer(rig.request(1))) is expected


@pytest_twisted.ensureDeferred
async def test_a_check_that_fails_is_an_internal_error() -> None:
    rig, _ = asking(fails)
    assert status_of(await rig.server.answer(rig.request(1))) is Status.INTERNAL_ERROR


@pytest_twisted.ensureDeferred
async def test_a_check_that_takes_too_long_is_try_later() -> None:
    async def never(inquiry: OcspInquiry) -> bool:
        await Deferred()
        return True

    clock = Reactor()
    rig = Rig(admission=admission(reactor=clock, check=never))
    answering = Deferred.fromCoroutine(rig.server.answer(rig.request(1)))
    clock.advance(CHECK_SECONDS - 1)
    assert not answering.called
    clock.advance(2)
    assert status_of(await answering) is Status.TRY_LATER
