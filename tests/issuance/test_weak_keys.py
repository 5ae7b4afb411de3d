"""Moduli that can be factored are told from good ones: by published keys, and by keys made the same faulty way."""

from __future__ import annotations

import functools
import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.key_checks import check_public_key
from opencertd.issuance.weak_keys import FERMAT_ROUNDS, has_close_primes, is_roca
from tests.ca import rsa_key

PUBLISHED_ROCA = {
    # Test vectors of public detectors: titanous/rocacheck and letsencrypt/boulder (goodkey).
    "rocacheck 1": b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlze9c7qGdjDLVR/ntk+4
ZkfMcYsAnmfTFHfe3Xv7jRQqPCXCULtr0y0jG3aRJmEenoXO9uDveqr43gFB9yvA
dLEhu0aJqpB7lNZ+yXsvfVp/96dkSN8oWYL/dd9Z7GQOvVniHUY3Xsd7zdw2eYOy
HSXhhA2Ttwnj3c1jEYfC0y9q1cU99aL0ogGDqolcOvlkJu+mGb+6+WyboFa1gwRu
kYxBHZWKiHCt/eihvXsPTzTlXmTXWdGJtA1xZDnCBWuZ90b5R0agXVIESTl0cCyH
aQM/tLZmktJIU+Eu7ALBXemPg9kh3SCnYd3/YvDGCtYSXOWthHwlP5CImRBcQaNn
cQIDAQAB
-----END PUBLIC KEY-----""",
    "rocacheck 2": b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAnDSwGO+LetuWIPxBrWIV
EZhfr8VB7tnXBnFaNev61bT1lViBUAN8rmMBw2rd/a6Lw4SjDi+3Fc7hpQtccMyr
z3Z52VVsuS1Df94/2GJ2J+B8qw0dTHQoVjPGaOrRads5cjrI1fvgcKNhfwXHd8jh
6fCHwVIruU8E2wgTu91ceTzAODzCe1aWbE0QMYTV11E0t2+vt808AWsYMDOWMIOa
0sFZD1DzQSw1YC74YV92yDGsHA4JNZVl6JB0H21lxENKrkOF9MJx+doXHiEEfwNC
3F7kf2QDd+3oyRcrrGZt9rhfRPQckUnYM495nfaQcHzTXyIySnY0s6PkwbgL4B44
dQIDAQAB
-----END PUBLIC KEY-----""",
}
BOULDER_ROCA = int(
    "19089470491547632015867380494603366846979936677899040455785311493700173635637619562546319438505971838982429681121352"
    "96839479266570495145413231144183173212404413518199276877422285289566440068127089744541559985190046131607097202201831"
    "79628895657318666015572383457863162354562998137726078690098732795859124307693323752394448921050646082550892989437072"
    "14066350230292124208314161171265468111771687514518823144499250339825049199688099820304852696380797616737008621384107"
    "235756455735861506433065173933123259184114000282435500939123478591192413006994709825840573671701120771013072419520134"
    "975733578923370992644987545261926257"
)


def modulus_of(pem: bytes) -> int:
    key = load_pem_public_key(pem)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_numbers().n


def is_prime(number: int) -> bool:
    """Miller and Rabin's test; a few bases do for numbers that nobody chose to deceive it."""
    if any(number % small == 0 for small in (2, 3, 5, 7, 11, 13, 17, 19, 23)):
        return False
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for base in (2, 3, 5, 7):
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True


def next_prime(number: int) -> int:
    number |= 1
    while not is_prime(number):
        number += 2
    return number


def refusal_of(modulus: int) -> str:
    numbers = rsa.RSAPublicNumbers(65537, modulus)
    with pytest.raises(Refusal) as caught:
        check_public_key(numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert caught.value.kind is RefusalKind.BAD_PUBLIC_KEY
    return caught.value.detail


@functools.cache
def good_moduli() -> tuple[int, ...]:
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(5)]
    return tuple(key.public_key().public_numbers().n for key in (*keys, rsa_key(), rsa_key(3072)))


@pytest.mark.parametrize("name", PUBLISHED_ROCA)
def test_published_roca_keys_are_refused(name: str) -> None:
    assert "ROCA" in refusal_of(modulus_of(PUBLISHED_ROCA[name]))


def test_the_roca_key_of_another_ca_is_refused() -> None:
    assert BOULDER_ROCA.bit_length() == 2048
    assert "ROCA" in refusal_of(BOULDER_ROCA)


@pytest.mark.parametrize(("bits", "primes"), [(1024, 126), (1536, 126)])
def test_keys_made_as_the_chips_did_are_refused(bits: int, primes: int) -> None:
    """p = k·M + (65537^a mod M), M the product of the first primes: how many goes by the size of the key."""
    product = math.prod([p for p in range(2, 2000) if all(p % d for d in range(2, math.isqrt(p) + 1))][:primes])
    draw = random.Random(bits)

    def faulty_prime() -> int:
        while True:
            k = draw.randrange((3 << bits - 2) // product, (1 << bits) // product)
            candidate = k * product + pow(65537, draw.randrange(1 << 200), product)
            if is_prime(candidate):
                return candidate

    modulus = faulty_prime() * faulty_prime()
    assert modulus.bit_length() == 2 * bits
    assert "ROCA" in refusal_of(modulus)


def test_good_keys_have_neither_fault() -> None:
    for modulus in good_moduli():
        assert not is_roca(modulus)
        assert not has_close_primes(modulus)


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=1 << 2047, max_value=(1 << 2048) - 1))
def test_no_number_is_a_roca_modulus_by_chance(modulus: int) -> None:
    assert not is_roca(modulus)


@pytest.mark.parametrize("apart", [0, 2, 1 << 100, 1 << 500, 1 << 514])
def test_close_primes_are_refused(apart: int) -> None:
    draw = random.Random(apart)
    first = next_prime(draw.getrandbits(1024) | 3 << 1022)
    second = first if apart == 0 else next_prime(first + apart)
    assert "close" in refusal_of(first * second)


def test_fermat_says_no_more_than_it_found() -> None:
    """A small modulus that needs a known number of rounds: found by so many and not by one less."""
    p, q = 1_000_003, 1_010_003 | 1
    q = next_prime(q)
    modulus = p * q
    needed = (p + q) // 2 - (math.isqrt(modulus - 1) + 1) + 1
    assert 1 < needed < FERMAT_ROUNDS
    assert has_close_primes(modulus, needed)
    assert not has_close_primes(modulus, needed - 1)


@given(st.integers(min_value=3, max_value=1 << 40), st.integers(min_value=0, max_value=200))
def test_every_close_pair_is_found(half: int, apart: int) -> None:
    """The filter by residues modulo 64 loses no square: factors so close always fall in the first rounds."""
    first, second = half | 1, (half | 1) + 2 * apart
    needed = (first + second) // 2 - (math.isqrt(first * second - 1) + 1) + 1
    assert has_close_primes(first * second, max(needed, 1))
