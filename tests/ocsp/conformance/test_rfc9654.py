"""RFC 9654: nonces."""

from __future__ import annotations

from cryptography import x509

from opencertd.asn1 import der
from tests.conformance import shows
from tests.ocsp.conformance.answers import NONCE, Status, answered, extension, request_with
from tests.ocsp.rig import Rig

NONCE_OID = "1.3.6.1.5.5.7.48.1.2"


async def echoed(rig: Rig, nonce: bytes) -> bytes:
    response = await rig.ask(1, nonce=nonce)
    return response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce


@shows("9654 §2.1/1")
async def test_2_1_the_same() -> None:
    rig = Rig()
    for nonce in (NONCE, b"\0" * 32, NONCE):
        assert await echoed(rig, nonce) == nonce


@shows("9654 §2.1/2")
async def test_2_1_16_to_32() -> None:
    rig = Rig()
    for size in range(16, 33):
        assert await echoed(rig, b"n" * size) == b"n" * size


@shows("9654 §2.1/3")
async def test_2_1_1_to_128() -> None:
    rig = Rig()
    for size in (1, 15, 33, 100, 101, 127, 128):
        assert await echoed(rig, b"n" * size) == b"n" * size


@shows("9654 §2.1/4")
async def test_2_1_none_or_more() -> None:
    rig = Rig()
    for size in (0, 129, 1000):
        assert (await rig.ask(1, nonce=b"n" * size)).response_status is Status.MALFORMED_REQUEST


@shows("9654 §2.1/5")
async def test_2_1_encoded_twice() -> None:
    rig = Rig()
    bare = extension(NONCE_OID, NONCE)
    assert (await answered(rig, request_with(rig, whole=bare))).response_status is Status.MALFORMED_REQUEST
    body = (await rig.server.answer(rig.request(1, nonce=NONCE))).body
    assert der.sequence(der.oid(NONCE_OID), der.octet_string(der.octet_string(NONCE))) in body


@shows("9654 §2.1/6")
async def test_2_1_none_unasked() -> None:
    rig = Rig()
    await rig.ask(1, nonce=NONCE)
    assert len((await rig.ask(1)).extensions) == 0


@shows("9654 §3.1/1")
async def test_3_1_for_nobody_else() -> None:
    rig = Rig()
    answer = await rig.server.answer(rig.request(1, nonce=NONCE))
    assert answer.freshness is None
    assert (await rig.server.answer(rig.request(1, nonce=b"m" * 32))).body != answer.body
