"""The inventory as `/ca/inventory` lists it, page by page."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, answer_of, connect


@dataclass(frozen=True)
class Entry:
    """One certificate: what the tests compare."""

    serial: int
    subject: str
    names: tuple[str, ...]
    status: str
    issuer: str
    profile: str


def inventory(ca: Daemon, limit: int = 1000) -> list[Entry]:
    """Every issued certificate, in the order of issuance."""
    entries: list[Entry] = []
    path: str | None = f"/ca/inventory?limit={limit}"
    connection = connect(ca)
    try:
        while path:
            connection.request("GET", path, headers=BASIC)
            answer = answer_of(connection)
            assert answer.status == 200, answer
            page = json.loads(answer.body)
            entries += [read_entry(item) for item in page["certificates"]]
            path = page.get("next")
    finally:
        connection.close()
    return entries


def read_entry(item: dict[str, object]) -> Entry:
    names = item["names"]
    assert isinstance(names, list)
    return Entry(
        serial=int(str(item["serial"]), 16),
        subject=str(item["subject"]),
        names=tuple(name["value"] for name in names),
        status=str(item["status"]),
        issuer=str(item["issuer"]),
        profile=str(item["profile"]),
    )
