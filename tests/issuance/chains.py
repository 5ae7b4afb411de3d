"""Audit chains for tests, and ways to spoil them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from opencertd.issuance.audit_verdict import Examination, Finding
from opencertd.issuance.checkpoints import Checkpoint
from opencertd.model.audit import AuditEntry, AuditEvent, AuditHead, Deed, hash_of, next_entry

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)

Chain = list[AuditEntry]


def chain(length: int) -> Chain:
    entries: Chain = []
    head = AuditHead()
    for number in range(length):
        at = NOW + timedelta(seconds=number)
        entry = next_entry(head, AuditEvent(Deed.ISSUE, "password", "ann", "Ann", at, {"serial": f"{number:x}"}))
        entries.append(entry)
        head = AuditHead(entry.sequence, entry.hash)
    return entries


def checkpoint(entry: AuditEntry) -> Checkpoint:
    return Checkpoint(entry.sequence, entry.hash, entry.at, "node")


def rehashed(entry: AuditEntry) -> AuditEntry:
    return dataclasses.replace(entry, hash=hash_of(entry.previous, entry.canonical()))


def findings(entries: Iterable[AuditEntry], checkpoints: Iterable[Checkpoint] = ()) -> list[Finding]:
    examination = Examination(checkpoints)
    found = [one for entry in entries for one in examination.examine(entry)]
    return found + list(examination.finish())


def relinked(entries: Chain, start: int) -> Chain:
    """As somebody does who knows the rule: numbers, links and hashes made anew from index `start` on."""
    result = entries[:start]
    for entry in entries[start:]:
        previous = result[-1].hash if result else bytes(32)
        result.append(rehashed(dataclasses.replace(entry, sequence=len(result) + 1, previous=previous)))
    return result


EDITS: dict[str, Callable[[AuditEntry], AuditEntry]] = {
    "at": lambda e: dataclasses.replace(e, at=e.at + timedelta(milliseconds=1)),
    "deed": lambda e: dataclasses.replace(e, deed="revoke"),
    "proof": lambda e: dataclasses.replace(e, proof="daemon"),
    "who": lambda e: dataclasses.replace(e, who="bob"),
    "label": lambda e: dataclasses.replace(e, label=""),
    "what": lambda e: dataclasses.replace(e, what=e.what.replace("{", "{ ")),
    "result": lambda e: dataclasses.replace(e, result="unauthorized"),
    "tbs_sha256": lambda e: dataclasses.replace(e, tbs_sha256=""),
    "previous": lambda e: dataclasses.replace(e, previous=bytes(31) + b"\1"),
    "hash": lambda e: dataclasses.replace(e, hash=bytes(32)),
}
"""One change for every column."""
