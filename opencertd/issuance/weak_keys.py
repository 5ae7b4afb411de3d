"""RSA moduli that anybody can factor, because of how their primes were made. Pure arithmetic on the modulus.

ROCA (CVE-2017-15361): chips made primes as k·M + (65537^a mod M), M being a product of small primes. The modulus is
then a power of 65537 modulo each of them. Whether it is needs no discrete logarithm: the powers modulo a small prime
are few (Nemec et al., The Return of Coppersmith's Attack, ACM CCS 2017, §3.1).

Fermat: primes that are close to each other, as some printers and a library made them, fall to Fermat's method in a few
rounds (CVE-2022-26320).
"""

from __future__ import annotations

import math
from functools import lru_cache

FERMAT_ROUNDS = 100
"""Every broken generator seen so far fell within a few; two good primes of 1024 bits would take about 2^1000."""


def _powers(base: int, prime: int) -> frozenset[int]:
    return frozenset(pow(base, exponent, prime) for exponent in range(prime - 1))


_ROCA_RESIDUES = tuple(
    (prime, _powers(65537, prime)) for prime in range(3, 168) if all(prime % d for d in range(2, math.isqrt(prime) + 1))
)
"""The primes from 3 to 167, which divide M for keys of every size. A good modulus fits all by a chance of 2^-27."""


def is_roca(modulus: int) -> bool:
    """Whether the modulus bears the fingerprint of the chips' faulty generator."""
    return all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES)


_SQUARES_MODULO_64 = sum(1 << residue for residue in {n * n % 64 for n in range(64)})


def has_close_primes(modulus: int, rounds: int = FERMAT_ROUNDS) -> bool:
    """Whether Fermat's method factors the odd modulus in so many rounds: whether a² - modulus is a square."""
    a = math.isqrt(modulus - 1) + 1
    rest = a * a - modulus
    for _ in range(rounds):
        # Most numbers are no square modulo 64, and a root costs a hundred times more than to see that.
        if _SQUARES_MODULO_64 >> (rest & 63) & 1 and math.isqrt(rest) ** 2 == rest:
            return True
        rest += 2 * a + 1
        a += 1
    return False


@lru_cache(maxsize=256)  # the steps of one issuance ask for the same key
def weakness(modulus: int) -> str | None:
    """Why the modulus can be factored, in words that follow "the key was refused:"; None when no reason is known."""
    if is_roca(modulus):
        return "its RSA modulus comes from a faulty chip and can be factored (ROCA, CVE-2017-15361)"
    if has_close_primes(modulus):
        return "its RSA primes are so close to each other that they can be found (Fermat's method)"
    return None
