"""A CRL built and looked over before anybody sees it; how HTTP clients ask for its form. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs

from cryptography import x509

from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.crl import Scope, entries_at, entry_serials, frame_tbs_cert_list, split_entries
from opencertd.asn1.signed import assemble
from opencertd.crl.store import Entries
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import PublicKey, verifies

_PORTION = 2 << 20
_NEAR = 1 << 18


class UnsoundCrl(Exception):  # noqa: N818  (what it is, as `Refusal` is)
    """A CRL that must not be published; says what is wrong with it."""


class CrlForm(enum.Enum):
    """DER or PEM; the value is the media type (RFC 2585 §4.2 for DER; PEM has none registered)."""

    DER = "application/pkix-crl"
    PEM = "application/x-pem-file"


_FORMS: Mapping[str, CrlForm] = {"der": CrlForm.DER, "pem": CrlForm.PEM}


def choose_form(uri: bytes, accept: str | None) -> CrlForm:
    """`?format=der|pem` decides, else whether `Accept` names PEM; DER otherwise. Refusal MALFORMED."""
    asked = parse_qs(uri.partition(b"?")[2].decode("latin-1")).get("format")
    if asked is not None:
        form = _FORMS.get(asked[-1].lower())
        if form is None:
            raise Refusal(RefusalKind.MALFORMED, f"format is der or pem, not {asked[-1][:40]!r}")
        return form
    offered = {part.partition(";")[0].strip().lower() for part in (accept or "").split(",")}
    if CrlForm.PEM.value in offered and CrlForm.DER.value not in offered:
        return CrlForm.PEM
    return CrlForm.DER


@dataclass(frozen=True)
class Draft:
    """A CRL about to be signed by `issuer`, but for its entries, which may be many megabytes."""

    issuer: Issuer
    number: int
    this_update: datetime
    next_update: datetime
    scope: Scope


def build_tbs(draft: Draft, entries: Entries) -> bytes:
    """Its TBSCertList, which lists the entries: blocks of whole ones, in an order that lasts."""
    before, after = _frame(draft, sum(map(len, entries)))
    return b"".join((before, *entries, after))


def _frame(draft: Draft, size: int) -> tuple[bytes, bytes]:
    return frame_tbs_cert_list(
        algorithm_der=draft.issuer.signer.algorithm_der,
        issuer_der=subject_and_key(draft.issuer.certificate_der)[0],
        authority_key_identifier=draft.issuer.subject_key_identifier,
        number=draft.number,
        this_update=draft.this_update,
        next_update=draft.next_update,
        size=size,
        scope=draft.scope,
    )


def build_crl(draft: Draft, sizes: Sequence[int], tbs_der: bytes, signature: bytes) -> bytes:
    """The signed CRL, checked as a relying party would: it verifies, it parses, its issuer, number and scope are
    those of the draft. `sizes`: of the blocks of entries. Raises UnsoundCrl.
    """
    issuer = draft.issuer
    # Over the bytes at hand: a CRL's own check would encode all entries anew, for seconds, and hold the GIL.
    key = issuer.certificate.public_key()
    if not isinstance(key, PublicKey) or not verifies(key, signature, tbs_der, issuer.signer.algorithm_der):
        raise UnsoundCrl(f"the signature of the CRL of {issuer.name} does not verify")
    size = sum(sizes)
    before, after = _frame(draft, size)
    fits = tbs_der.startswith(before) and tbs_der.endswith(after) and len(tbs_der) == len(before) + size + len(after)
    if not fits:
        raise UnsoundCrl(f"what was signed is not the CRL of {issuer.name} that was to be")
    for start, end in _portions(sizes):
        _check(draft, memoryview(tbs_der)[len(before) + start : len(before) + end], signature)
    return assemble(tbs_der, issuer.signer.algorithm_der, signature)


def _portions(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """From where to where whole entries lie that are parsed in milliseconds: parsing holds the GIL to its end."""
    start = end = 0
    for size in sizes:
        end += size
        if end - start >= _PORTION:
            yield start, end
            start = end
    if end > start or not end:
        yield start, end


def _check(draft: Draft, entries: memoryview, signature: bytes) -> None:
    """That a CRL of these entries alone parses, and is the issuer's of that number."""
    name = draft.issuer.name
    before, after = _frame(draft, len(entries))
    crl_der = assemble(b"".join((before, entries, after)), draft.issuer.signer.algorithm_der, signature)
    try:
        crl = x509.load_der_x509_crl(crl_der)
        named = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        same_issuer = crl.issuer == draft.issuer.certificate.subject
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise UnsoundCrl(f"the CRL of {name} does not parse: {error}") from error
    if named != draft.number or not same_issuer:
        raise UnsoundCrl(f"the CRL of {name} bears another number or issuer than it should")


def lost_serials(before_der: bytes, entries: Entries) -> set[int]:
    """The serials that an earlier CRL of the same part lists and `entries`, in the same order, do not.

    Blocks that have not changed are compared as bytes, so that a million entries take no time.
    """
    position, end = entries_at(before_der)
    gaps: list[tuple[int, int]] = []
    for block in entries:
        if before_der.startswith(block, position, end):
            position += len(block)
        else:
            position = _follow(before_der, position, end, block, gaps)
    gaps.append((position, end))
    lost = {serial for start, stop in gaps for serial in entry_serials(before_der[start:stop])}
    if lost:  # what only changed its reason is not lost
        lost -= {serial for block in entries for serial in entry_serials(block) if serial in lost}
    return lost


def _follow(before_der: bytes, position: int, end: int, block: bytes, gaps: list[tuple[int, int]]) -> int:
    """Where the earlier entries go on after those of a block that are among them; what was passed over is a gap."""
    entries = list(split_entries(block))
    met = False
    for entry in entries:
        found = before_der.find(entry, position, min(end, position + _NEAR))
        if found >= 0:
            gaps.append((position, found))
            position, met = found + len(entry), True
    if met:
        return position
    # All of the block is new, or more than a little was passed over.
    first = before_der.find(entries[0], position, end)
    if first >= 0:
        gaps.append((position, first))
        return _follow(before_der, first, end, block, gaps)
    last = before_der.find(entries[-1], position, end)
    if last >= 0:
        gaps.append((position, last))
        return last + len(entries[-1])
    return position


def serials_of(crl_der: bytes) -> set[int]:
    """The serials a CRL lists."""
    start, end = entries_at(crl_der)
    return set(entry_serials(crl_der[start:end]))
