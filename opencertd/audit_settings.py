"""What the daemon goes by, for the audit chain: a digest, and which keys differ from what it went by before.

No value is written down, not even one by one as a hash that could be guessed: the digest of a key is a MAC under a
secret that the store keeps, and a password in a database URL does not go into it at all.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import make_url

from opencertd.clock import Clock
from opencertd.config import Settings
from opencertd.issuance.store import CertificateStore
from opencertd.model.audit import AuditEntry, AuditEvent, Deed
from opencertd.model.requester import Proof
from opencertd.store.audit import SqlAuditStore


async def note_settings(
    settings: Settings,
    node: str,
    certificates: CertificateStore,
    audit: SqlAuditStore,
    clock: Clock,
    *,
    reloaded: bool = False,
) -> None:
    """Write down with which settings `node` starts; or, `reloaded`, goes on: once, though each of its workers asks."""
    secret = await certificates.secret("settings-digest", secrets.token_bytes(32))
    before = await audit.latest_settings(node)
    event = settings_event(settings, node, before, secret, clock.now(), label="reload" if reloaded else "start")
    if event.what["changed"] or not reloaded:
        await audit.record(event)


def settings_event(
    settings: Settings, node: str, before: AuditEntry | None, secret: bytes, at: datetime, *, label: str = "start"
) -> AuditEvent:
    """What `node` goes by; `before`: the last such entry of it, if there is one. `secret`: the MAC's key."""
    keys = {
        key: hmac.digest(secret, json.dumps([key, value]).encode(), "sha256").hex()[:16]
        for key, value in sorted(_flat("", _shown(settings)))
    }
    digest = hashlib.sha256(json.dumps(keys).encode()).hexdigest()
    known = None if before is None else json.loads(before.what)["keys"]
    changed = [] if known is None else sorted(key for key in keys | known if keys.get(key) != known.get(key))
    what = {"digest": digest, "changed": changed, "keys": keys}
    return AuditEvent(Deed.SETTINGS, Proof.DAEMON.value, node, label, at, what)


def _shown(settings: Settings) -> dict[str, Any]:
    shown = settings.model_dump(mode="json")
    if settings.database:
        shown["database"] = make_url(settings.database).render_as_string(hide_password=True)
    return shown


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys as people write them, tables by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
