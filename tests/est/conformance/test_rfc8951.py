"""RFC 8951: bodies are base64, whatever headers say, and errors are text."""

from __future__ import annotations

import base64

from opencertd.asn1 import der
from tests.conformance import shows
from tests.est.conformance.people import EST, asked, certified, is_sentence, parts, post
from tests.est.conformance.test_rfc7030_csrattrs import csrattrs
from tests.est.rig import holder, new_csr
from tests.est.test_csrattrs import judged

CSR = new_csr("CN=device")
ENCODED = base64.b64encode(CSR)


def is_base64_of_der(body: bytes) -> bool:
    data = base64.b64decode(b"".join(body.split()), validate=True)
    return der.read_only(data, der.SEQUENCE).end == len(data)


@shows("8951 §3/1")
async def test_3_base64() -> None:
    rig = asked()
    rig.door.who = holder(await certified(rig, ENCODED))
    for operation in ("simpleenroll", "simplereenroll"):
        response, body = await post(rig, operation, ENCODED)
        assert response.code == 200 and is_base64_of_der(body)
    for part in parts(await post(rig, "serverkeygen", ENCODED)):
        assert is_base64_of_der(part.get_payload().encode())
    for operation in ("cacerts", "csrattrs"):
        assert is_base64_of_der((await rig.ask("GET", f"{EST}/{operation}"))[1])


@shows("8951 §3/2")
async def test_3_header() -> None:
    rig = asked()
    for said in ("base64", "binary", "7bit", "8bit", "quoted-printable", "nonsense"):
        for body in (ENCODED, CSR):
            response, _ = await post(rig, "simpleenroll", body, Content_Transfer_Encoding=said)
            assert response.code == 200, said


@shows("8951 §3.1/1")
async def test_3_1_white_space() -> None:
    rig = asked()
    pieces = [ENCODED[start : start + 7] for start in range(0, len(ENCODED), 7)]
    for space in (b"\n", b"\r\n", b"\r", b" ", b"\t", b" \t\r\n"):
        for operation in ("simpleenroll", "serverkeygen"):
            body = space + space.join(pieces) + space
            assert (await post(rig, operation, body))[0].code == 200, space


@shows("8951 §4/1")
async def test_4_csr_attrs() -> None:
    _, body = await csrattrs(key_types=frozenset({"rsa"}))
    assert judged(base64.b64decode(body))  # by the module of this RFC


@shows("8951 §5.1/1")
async def test_5_1_text() -> None:
    rig = asked()
    for operation in ("simpleenroll", "simplereenroll"):
        assert is_sentence(await post(rig, operation, b"rubbish"))


@shows("8951 §5.2/1")
async def test_5_2_text() -> None:
    assert is_sentence(await post(asked(), "serverkeygen", b"rubbish"))
