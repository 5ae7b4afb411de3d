"""GET's base64 in every disguise, and the table of refusals."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.ocsp import ResponseStatus
from opencertd.errors import Refusal, RefusalKind
from opencertd.ocsp.messages import OCSP_STATUS, build_refusal, request_of_uri

requests = st.binary(min_size=1, max_size=120).map(lambda tail: b"\x30" + tail)
AWKWARD = b"\x30\xff\xff\xfb\xef\xbe\xff"
"""Its base64 has `/`, `//` and `+`."""


def disguises(request: bytes) -> list[str]:
    text = base64.b64encode(request).decode()
    quoted = quote(text, safe="")
    return [
        text,
        quoted,
        quoted.replace("%2F", "%2f").replace("%2B", "%2b"),
        text.rstrip("="),
        quote(text, safe="/"),
        quote(text, safe="+="),
        quote(quoted, safe=""),
        "/" + text,
        "//" + quoted,
        text.replace("+", "%20"),
        base64.urlsafe_b64encode(request).decode(),
        text + "?ignored=1",
    ]


def test_the_awkward_request_is_awkward() -> None:
    text = base64.b64encode(AWKWARD)
    assert b"//" in text
    assert b"+" in text


@given(requests | st.just(AWKWARD))
def test_every_disguise_is_seen_through(request: bytes) -> None:
    for disguise in disguises(request):
        assert request_of_uri(f"/ca/ocsp/{disguise}".encode(), 2) == request, disguise
        assert request_of_uri(f"/ca/rsa/ocsp/{disguise}".encode(), 3) == request, disguise


@pytest.mark.parametrize("text", ["", "/", "//", "?", "%", "%%%", "M", "MFE!", "%ff%fe", "Mé", "MF=E", "%2525"])
def test_what_is_no_base64_is_malformed(text: str) -> None:
    for uri in (f"/ca/ocsp/{text}", "/ca/ocsp"):
        with pytest.raises(Refusal) as caught:
            request_of_uri(uri.encode(), 2)
        assert caught.value.kind is RefusalKind.MALFORMED


def test_every_refusal_has_a_status_and_none_is_success() -> None:
    assert set(OCSP_STATUS) == set(RefusalKind)
    assert ResponseStatus.SUCCESSFUL not in OCSP_STATUS.values()


def test_refusals_as_clients_know_them() -> None:
    assert build_refusal(Refusal(RefusalKind.MALFORMED, "")).body == b"\x30\x03\x0a\x01\x01"
    assert build_refusal(Refusal(RefusalKind.INTERNAL, "")).body == b"\x30\x03\x0a\x01\x02"
    assert build_refusal(Refusal(RefusalKind.UNAVAILABLE, "")).body == b"\x30\x03\x0a\x01\x03"
    assert build_refusal(Refusal(RefusalKind.UNAUTHORIZED, "")).body == b"\x30\x03\x0a\x01\x06"
