"""The key types that a CA can be made with: `--key-type` in words, and the hierarchy each stands for.

Each makes a root and an issuing CA under it, named by family: `ecdsa-root` and `ecdsa`, `ml-dsa-root` and `ml-dsa`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from opencertd.keys.kinds import KINDS, RSA_PSS, PrivateKey, PublicKey, label_of, new_rsa_key
from opencertd.model.certificates import IssuerRecord

DEFAULT_KEY_TYPES = ("ecdsa", "rsa")
SPELLINGS = (
    "rsa, rsa-BITS, rsa-pss, rsa-pss-BITS, ecdsa, ecdsa-p256, ecdsa-p384, ecdsa-p521, ed25519, ed448, ml-dsa-44, "
    "ml-dsa-65 or ml-dsa-87"
)
_USUAL_RSA_BITS = 3072


@dataclass(frozen=True)
class NewKey:
    """A key to be made. `label`: as `label_of` will call it."""

    label: str
    make: Callable[[], PrivateKey]


WORDS: Mapping[str, str] = {
    "ecdsa": "ECDSA",
    "rsa": "RSA",
    "rsa-pss": "RSA-PSS",
    "ed25519": "Ed25519",
    "ed448": "Ed448",
    "ml-dsa": "ML-DSA",
}
"""The issuing CAs that key types make, by name, as their common names have it."""


@dataclass(frozen=True)
class KeyType:
    """`issuer`: the name of the issuing CA, one of `WORDS`. `scheme`: None for the keys' usual way to sign."""

    issuer: str
    root: NewKey
    issuing: NewKey
    scheme: str | None = None

    @property
    def words(self) -> str:
        """The name as it is in common names."""
        return WORDS[self.issuer]

    def made(self, records: Mapping[str, IssuerRecord]) -> bool:
        """Whether the CAs of its names, among these by name, have such keys and sign in this way."""
        pair = ((f"{self.issuer}-root", self.root), (self.issuer, self.issuing))
        return all(name in records and self._fits(records[name], key) for name, key in pair)

    def _fits(self, record: IssuerRecord, key: NewKey) -> bool:
        held = x509.load_der_x509_certificate(record.certificate_der).public_key()
        return label_of(held) == key.label and record.scheme == self.scheme


def parse_key_type(text: str) -> KeyType:
    """The key type of that spelling. Raises ValueError in words."""
    rsa = re.fullmatch(r"(rsa|rsa-pss)(?:-([1-9][0-9]{3}))?", text)
    if rsa:
        return _rsa_type(rsa[1], int(rsa[2] or _USUAL_RSA_BITS))
    if text == "ecdsa":
        return KeyType("ecdsa", _new("p-384"), _new("p-256"))
    if curve := re.fullmatch(r"ecdsa-p(256|384|521)", text):
        key = _new(f"p-{curve[1]}")
        return KeyType("ecdsa", key, key)
    kind = KINDS.get(text)
    if kind is None or kind.family not in WORDS or kind.family in {"rsa", "ecdsa"}:
        raise ValueError(f"{text!r} is no key type: it is {SPELLINGS}")
    return KeyType(kind.family, _new(text), _new(text))


def key_like(public_key: PublicKey) -> NewKey:
    """A new key of the same kind and size, RSA of 2048 bits at least. Raises ValueError for a kind not made here."""
    label = label_of(public_key)
    if isinstance(public_key, rsa.RSAPublicKey):
        bits = max(2048, public_key.key_size)
        return NewKey(f"RSA {bits}", functools.partial(new_rsa_key, bits))
    for kind in KINDS.values():
        if kind.label == label:
            return NewKey(kind.label, kind.make)
    raise ValueError(f"no {label} key is made here: give --key-type, which is {SPELLINGS}")


def _new(kind: str) -> NewKey:
    return NewKey(KINDS[kind].label, KINDS[kind].make)


def _rsa_type(name: str, bits: int) -> KeyType:
    if not 2048 <= bits <= 8192 or bits % 8:
        raise ValueError(f"{bits} is no size for an RSA key here: 2048 to 8192 are, in steps of 8")
    key = NewKey(f"RSA {bits}", functools.partial(new_rsa_key, bits))
    return KeyType(name, key, key, RSA_PSS.name if name == RSA_PSS.name else None)


def parse_key_types(texts: Iterable[str]) -> tuple[KeyType, ...]:
    """Several key types in order, the usual ones when none is given. Raises ValueError when two would bear one name."""
    types: dict[str, KeyType] = {}
    for text in tuple(texts) or DEFAULT_KEY_TYPES:
        made = parse_key_type(text)
        if made.issuer in types:
            raise ValueError(f"there would be two CAs named {made.issuer!r}: give one key type of each family")
        types[made.issuer] = made
    return tuple(types.values())
