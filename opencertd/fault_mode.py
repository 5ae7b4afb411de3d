"""`--test-faults` is for a CA that was made for it: never for one that anybody may rely on, and never in silence.

A CA whose first start had the flag is marked so in its state directory. Whatever else the flag is given with, and looks
like a CA in earnest, is refused: a CA that was made without it or brought along, a database that others can share, keys
in a token, logs of Certificate Transparency.
"""

from __future__ import annotations

import sys

from twisted.logger import Logger

from opencertd.acme.faults import HEADER
from opencertd.config import Settings
from opencertd.errors import StartError
from opencertd.keys.files import write_secret
from opencertd.state import StateDirectory
from opencertd.stores import Stores

MARK = "made-for-test-faults"
"""The file in the state directory that says so."""

_log = Logger()


async def check_fault_mode(settings: Settings, state: StateDirectory, stores: Stores) -> None:
    """Raise StartError where faults are asked for and something looks like production. Before a CA is made."""
    if not settings.test_faults:
        return
    earnest = _in_earnest(settings)
    if earnest is None and not (state.path / MARK).exists() and (await stores.hierarchy.hierarchy()).issuers:
        earnest = f"the CA in {state.path} was made without it, and somebody may rely on it"
    if earnest is not None:
        raise StartError(
            f"--test-faults makes mistakes on purpose: {earnest}. Leave the flag out, or give it with --dn and a new "
            "--state-dir to make a CA for tests"
        )


def _in_earnest(settings: Settings) -> str | None:
    if settings.rsa or settings.rsa_key or settings.ec or settings.ec_key:
        return "it is not for an existing CA (--rsa, --ec)"
    if settings.database is not None and not settings.database.startswith("sqlite:"):
        return "it is not for a database that others share (--database)"
    if settings.key_store == "pkcs11" or settings.pkcs11.module:
        return "it is not for keys in a token ([pkcs11])"
    if settings.ct.logs:
        return "it is not for certificates that are logged for ever ([ct] logs)"
    return None


def begin_fault_mode(settings: Settings, state: StateDirectory) -> None:
    """Mark the CA that was just made, and say loudly what it is. Nothing without faults."""
    if not settings.test_faults:
        return
    if not (state.path / MARK).exists():
        write_secret(state.path / MARK, b"This CA was made by --test-faults, for tests of ACME clients.\n")
    words = (
        "TEST FAULTS: this server makes mistakes on purpose ({terms}), for people who write ACME clients. Do not rely "
        "on it. Each of its ACME answers says so in the header {header}."
    )
    terms = settings.acme.test_faults.terms()
    _log.warn(words, terms=str(terms), header=HEADER)
    sys.stderr.write(f"opencert: {words.format(terms=terms, header=HEADER)}\n")
