"""PEM is read as people send it, and hostile text costs no more than any other."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.pem import encode_pem, parse_pem


@given(
    st.lists(
        st.tuples(st.sampled_from(["CERTIFICATE", "X509 CRL", "PRIVATE KEY"]), st.binary(max_size=300)), max_size=4
    )
)
def test_what_is_written_is_read(blocks: list[tuple[str, bytes]]) -> None:
    text = b"some text\n" + b"between\n".join(encode_pem(label, der) for label, der in blocks)
    assert parse_pem(text) == tuple(blocks)
    assert parse_pem(text.replace(b"\n", b"\r\n")) == tuple(blocks)


def test_broken_base64_is_said() -> None:
    with pytest.raises(ValueError, match="not valid base64"):
        parse_pem(b"-----BEGIN CERTIFICATE-----\nMII*\n-----END CERTIFICATE-----\n")


def test_old_encrypted_keys_are_said() -> None:
    with pytest.raises(ValueError, match="old form"):
        parse_pem(b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_pem(data)


def test_many_beginnings_are_read_in_linear_time() -> None:
    def seconds(count: int) -> float:
        text = b"-----BEGIN A-----\n" * count
        begun = time.process_time()
        parse_pem(text)
        return time.process_time() - begun

    seconds(100)
    # Sixteen times the text in a hundred times the time or less: quadratic reading would need 256 times.
    assert seconds(64_000) < 100 * max(seconds(4_000), 1e-4)
