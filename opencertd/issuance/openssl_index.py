"""Lines of `index.txt`, the text database of `openssl ca` and easy-rsa, as values. Pure.

Six fields with tabs between them (OpenSSL, apps/ca.c and crypto/txt_db): status `V`, `R` or `E`; notAfter; for `R` when
it was revoked, and perhaps why; serial in hex; a file name that nobody fills in; subject in the slash form of
`X509_NAME_oneline`. Times are UTCTime or GeneralizedTime in UTC. What `openssl ca` itself refuses is refused here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.errors import StartError
from opencertd.model.certificates import REASONS_BY_NAME, Revocation, RevocationReason

LONGEST_LINE = 65_536
"""Octets; a subject has some hundreds."""

_FIELDS = 6
_MOST_SERIAL = 1 << 160  # RFC 5280 §4.1.2.2: at most 20 octets
_FIELD_ENDS = re.compile(r"(?<!\\)\t")
_TIME = re.compile(r"(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?Z", re.ASCII)
_ATTRIBUTE_BEGINS = re.compile(r"/(?=[A-Za-z][A-Za-z0-9-]*=|\d+(?:\.\d+)+=)")
_OCTET = re.compile(r"\\x([0-9A-Fa-f]{2})")
_SPECIAL = re.compile(r'[,+"\\<>;]|^[ #]| $')  # RFC 4514 §2.4
_BACKSLASHED = r"\\\g<0>"


@dataclass(frozen=True)
class IndexEntry:
    """A certificate as the index knows it. `subject`: RFC 4514 as well as the slash form lets it be known."""

    line: int
    serial: int
    not_after: datetime
    revocation: Revocation | None
    subject: str


def read_index(file: BinaryIO, where: str) -> Iterator[IndexEntry]:
    """Every entry, one line at a time. `where` names the file. Raises StartError that names the line."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise StartError(f"{where}, line {number}: it is longer than {LONGEST_LINE} bytes")
        if not line.strip() or line.startswith(b"#"):  # `openssl ca` passes over comments too
            continue
        try:
            yield parse_line(line.decode("utf-8", "backslashreplace").rstrip("\r\n"), number)
        except ValueError as error:
            raise StartError(f"{where}, line {number}: {error}") from None


def parse_line(line: str, number: int = 1) -> IndexEntry:
    """One line without its end. Raises ValueError in words."""
    fields = [field.replace("\\\t", "\t") for field in _FIELD_ENDS.split(line)]
    if len(fields) != _FIELDS:
        raise ValueError(f"there are {len(fields)} fields where an index of `openssl ca` has {_FIELDS}, with tabs")
    status, expires, revoked, serial, _, subject = fields
    if status not in {"V", "R", "E"}:
        raise ValueError(f"the status {status[:20]!r} is none of V (valid), R (revoked) and E (expired)")
    if status == "R" and not revoked:
        raise ValueError("the certificate is revoked, but not when")
    if status != "R" and revoked:
        raise ValueError(f"the certificate has the status {status}, but a revocation date ({revoked[:40]!r})")
    return IndexEntry(
        line=number,
        serial=_serial(serial),
        not_after=parse_time(expires),
        revocation=parse_revocation(revoked) if revoked else None,
        subject=parse_subject(subject),
    )


def _serial(text: str) -> int:
    if not re.fullmatch(r"[0-9A-Fa-f]{1,64}", text):
        raise ValueError(f"{text[:80]!r} is not a serial number in hex")
    serial = int(text, 16)
    if serial >= _MOST_SERIAL:
        raise ValueError(f"the serial number {text[:80]} is longer than 20 octets")
    return serial


def parse_time(text: str) -> datetime:
    """UTCTime (years 1950 to 2049) or GeneralizedTime, both in UTC. Raises ValueError."""
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        if len(found[1]) == 2:
            year += 2000 if year < 50 else 1900
        if year < 1950:  # no certificate's time, and no UTCTime can say it
            raise ValueError
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time such as 300131120000Z or 20300131120000Z") from None


def parse_revocation(text: str) -> Revocation:
    """`TIME`, `TIME,REASON`, `TIME,holdInstruction,OID`, `TIME,keyTime,SINCE` or `TIME,CAkeyTime,SINCE`.

    Raises ValueError.
    """
    when, _, rest = text.partition(",")
    word, comma, more = rest.partition(",")
    revoked_at, name = parse_time(when), word.lower()
    if name in _COMPROMISES:
        return Revocation(revoked_at, _COMPROMISES[name], parse_time(more))
    if name == "holdinstruction":  # the instruction itself is out of use (RFC 5280 §5.3.1)
        return Revocation(revoked_at, RevocationReason.CERTIFICATE_HOLD)
    reason = REASONS_BY_NAME.get(name) if word else RevocationReason.UNSPECIFIED
    if reason is None or comma:
        raise ValueError(f"{rest[:60]!r} is not a reason that `openssl ca` writes")
    if reason is RevocationReason.REMOVE_FROM_CRL:  # means nothing in a full CRL, where `openssl ca` would put it
        reason = RevocationReason.UNSPECIFIED
    return Revocation(revoked_at, reason)


_COMPROMISES = {"keytime": RevocationReason.KEY_COMPROMISE, "cakeytime": RevocationReason.CA_COMPROMISE}
"""Words of `openssl ca -crl_compromise` and `-crl_CA_compromise`, which give since when."""


def parse_subject(text: str) -> str:
    """`/C=DE/CN=a` as `CN=a,C=DE`, octets in `\\xHH` read as UTF-8, else as Latin-1.

    Slashes are not escaped in that form, so that one before a `word=` counts as a beginning. A text of another form
    is answered as it is.
    """
    beginnings = [match.start() for match in _ATTRIBUTE_BEGINS.finditer(text)]
    if not beginnings or beginnings[0] != 0:
        return _octets(text)
    ends = [*beginnings[1:], len(text)]
    parts = [text[begin + 1 : end] for begin, end in zip(beginnings, ends, strict=True)]
    return ",".join(_attribute(part) for part in reversed(parts))


def _attribute(part: str) -> str:
    word, _, value = part.partition("=")
    return f"{_WORDS.get(word.upper(), word)}={_SPECIAL.sub(_BACKSLASHED, _octets(value))}"


_WORDS = {word: x509.NameAttribute(oid, "xx").rfc4514_attribute_name for word, oid in dn.ATTRIBUTES.items()}
"""Attribute types as `dn.format_dn` writes them, so that an index and a certificate say the same."""


def _octets(text: str) -> str:
    """The characters that `\\xHH` stand for."""
    if "\\x" not in text:
        return text
    data = _OCTET.sub(lambda match: chr(int(match[1], 16)), text)
    try:
        shown = data.encode("latin-1").decode("utf-8")
    except UnicodeError:
        shown = data
    return "".join(c if c.isprintable() else "\ufffd" for c in shown)
