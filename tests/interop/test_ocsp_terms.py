"""A running CA that answers only who signs, and says all that settings let OCSP say: OpenSSL goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import openssl
from tests.interop.daemon import Daemon
from tests.interop.https import Identity, enrol
from tests.interop.revoking import revoke
from tests.interop.site import site
from tests.interop.test_status import issuer_file

SETTINGS = """[status]
require_signature = true
extended_revoke = true
archive_cutoff = "7y"
responder_by = "name"
window = "2h"
windows = { rsa = "6h" }
"""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site(tmp_path_factory.mktemp("terms"), 2, settings=SETTINGS) as running:
        yield running.ca


def ask(ca: Daemon, issuer: Path, *asked: str | Path, signer: Identity | None = None) -> str:
    """All that `openssl ocsp` says; it looks at the answer's signature and nonce, too."""
    who = ("-signer", signer.certificate_file, "-signkey", signer.key_file) if signer else ()
    responder = ("-url", f"{ca.http_url}/ca/ocsp", "-CAfile", ca.trust_anchors, "-verify_other", issuer)
    done = openssl("ocsp", "-issuer", issuer, *asked, *who, *responder, "-resp_text", ok=False)
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(("kind", "hours"), [("ec", 2), ("rsa", 6)])
def test_who_signs_is_answered_by_these_terms(ca: Daemon, tmp_path: Path, kind: str, hours: int) -> None:
    device, partner = (enrol(ca, tmp_path, f"{word}.terms.test", kind) for word in ("device", "partner"))
    issuer = issuer_file(ca, device.certificate, tmp_path)
    about = ("-cert", device.certificate_file)
    for _ in range(3):  # nothing that was prepared is given to who does not sign
        assert "sigrequired" in ask(ca, issuer, *about)
        assert "sigrequired" in ask(ca, issuer, *about, "-no_nonce")
        said = ask(ca, issuer, *about, signer=partner)
        assert "device.terms.test.pem: good" in said and "Response verify OK" in said
        assert "Archive Cutoff" in said and "Responder Id: CN = OCSP responder of" in said
    begins, ends = (line.split()[4] for line in said.splitlines() if "Update: " in line and line.startswith("    "))
    assert (int(ends[:2]) - int(begins[:2])) % 24 == hours
    never = ask(ca, issuer, "-serial", "0x1234567890abcdef1234567890abcdef", signer=partner)
    assert ": revoked" in never and "certificateHold" in never and "Jan  1 00:00:00 1970 GMT" in never
    revoke(ca, partner, "superseded")
    assert "unauthorized" in ask(ca, issuer, *about, signer=partner)
