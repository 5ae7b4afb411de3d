"""Whether a flow costs the same however much is stored: the ACME load on a daemon that has issued N orders before.

`python -m bench.stored [--seconds S] N…` prints a line for each N. The orders stand in the database as years of issuing
would have left them: each with its authorization, challenges and certificate.
"""

from __future__ import annotations

import argparse
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.plan import Amount, Bench

CLIENTS = 8
_ACCOUNTS = 1000
_TYPES = ("http-01", "dns-01", "tls-alpn-01")
_PART = 20_000
_BEGAN = 1_700_000_000  # when the first was made; one a second since
_DER = 500  # octets of a certificate, and of a CSR


def fill(database: Path, orders: int) -> None:
    """Put so many finished orders into the daemon's database, while the daemon is down."""
    with closing(sqlite3.connect(database)) as connection:
        (issuer,) = connection.execute("SELECT id FROM issuers WHERE name = 'ecdsa'").fetchone()
        now = int(time.time())
        connection.executemany(
            "INSERT INTO acme_accounts (id, status, jwk, thumbprint, contact, terms_agreed, created_at)"
            " VALUES (?, 'valid', '{}', ?, '[]', 1, ?)",
            [(f"stored-{n}", f"stored-{n}", now) for n in range(_ACCOUNTS)],
        )
        for first in range(0, orders, _PART):
            _fill_part(connection, issuer, now, range(first, min(first + _PART, orders)))
        connection.commit()


def _fill_part(connection: sqlite3.Connection, issuer: str, now: int, numbers: range) -> None:
    insert = connection.executemany
    der = secrets.token_bytes(_DER)
    insert(
        "INSERT INTO certificates (id, issuer_id, serial, state, transaction_key, profile, requester, requester_label,"
        " subject, names, spki_sha256, not_before, not_after, owner, intended_at, issued_at, certificate_der)"
        " VALUES (?, ?, ?, 'issued', ?, 'default', ?, '', '', ?, ?, ?, ?, 'stored/0', ?, ?, ?)",
        (
            (
                1_000_000_000 + n,
                issuer,
                f"1{secrets.token_hex(16)}",
                f"acme-order:{_id('o', n)}",
                f"acme-account:stored-{n % _ACCOUNTS}",
                f'[["dns","host{n}.test"]]',
                secrets.token_hex(32),
                now,
                now + 86400,
                now,
                now,
                der,
            )
            for n in numbers
        ),
    )
    insert(
        "INSERT INTO acme_orders (id, account_id, profile, names, status, expires, created_at, useful_until, csr_der,"
        " certificate_id) VALUES (?, ?, 'default', ?, 'valid', ?, ?, ?, ?, ?)",
        (
            (
                _id("o", n),
                f"stored-{n % _ACCOUNTS}",
                f'[["dns","host{n}.test"]]',
                now + 86400,
                now,
                now + 86400,
                der,
                1_000_000_000 + n,
            )
            for n in numbers
        ),
    )
    insert(
        "INSERT INTO acme_authorizations (id, order_id, position, account_id, name, wildcard, status, expires)"
        " VALUES (?, ?, 0, ?, ?, 0, 'valid', ?)",
        (
            (_id("a", n), _id("o", n), f"stored-{n % _ACCOUNTS}", f'[["dns","host{n}.test"]]', now + 86400)
            for n in numbers
        ),
    )
    insert(
        "INSERT INTO acme_challenges (id, authorization_id, position, type, token, status)"
        " VALUES (?, ?, ?, ?, 'token', 'pending')",
        _challenges(numbers),
    )


def _challenges(numbers: range) -> Iterator[tuple[str, str, int, str]]:
    for n in numbers:
        for place, kind in enumerate(_TYPES):
            yield _id(f"c{place}", n), _id("a", n), place, kind


def _id(kind: str, number: int) -> str:
    """As that of a real one: the second in which it was made, then scattered."""
    return f"{_BEGAN + number:08x}{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}-{kind}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.stored", description="Measure ACME with orders stored.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("orders", type=int, nargs="+")
    options = parser.parse_args()
    for orders in options.orders:
        with tempfile.TemporaryDirectory(prefix="opencertd-bench-") as directory:
            result = Bench(Path(directory), Amount(seconds=options.seconds), print).with_orders(
                CLIENTS, lambda database, count=orders: fill(database, count)
            )
        print(
            f"{orders:>9,} orders stored, {CLIENTS} clients: {result.rate:.0f}/s, {result.server_cpu_us:,.0f} µs CPU a "
            f"flow, finalize {result.finalize_p95_ms:.0f} ms at its 95th percentile, {result.errors} errors",
            flush=True,
        )


if __name__ == "__main__":
    main()
