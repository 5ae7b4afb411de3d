"""est-server-certificates --bootstrap, and the options of linking, against a fake server with real TLS."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from twisted.internet.threads import deferToThread

from opencertd.cli import est_session
from opencertd.client.redirects import Redirect
from tests.cli.shell import ROOT, opencert, opencert_process
from tests.cli.test_est import PICTURE, SERVER, Here
from tests.client import pki
from tests.client.fake_est import FakeEst, listening

OPTIONS = ["--bootstrap", "--out"]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    fake = FakeEst()
    with listening(fake, SERVER) as port:
        yield Here(tmp_path, fake, port)


def fingerprint(pair: pki.Pair) -> str:
    return pair.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_makes_a_stranger_known(here: Here) -> None:
    """And nothing is asked of it, or proven to it, but cacerts; its TLS certificate leads nowhere."""
    server = ["--server", f"127.0.0.1:{here.port}"]
    words = ["est-server-certificates", *server, *OPTIONS, here / "ca", "--fingerprint", fingerprint(here.fake.root)]
    status, out, err = await opencert_process(*words)
    assert (status, out) == (0, ""), err
    assert err.splitlines() == [f"1 confirmed certificate and 1 issued below written to {here / 'ca'}"]
    found = x509.load_pem_x509_certificates((here / "ca").read_bytes())
    assert found == [here.fake.root.certificate, here.fake.issuing.certificate]
    assert here.fake.seen == [("GET", "/.well-known/est/cacerts", None)]


@pytest_twisted.ensureDeferred
async def test_another_fingerprint_leaves_no_file(here: Here) -> None:
    server = ["--server", f"127.0.0.1:{here.port}"]
    words = ["est-server-certificates", *server, *OPTIONS, here / "ca", "--fingerprint", fingerprint(SERVER)]
    status, _, err = await opencert_process(*words)
    assert (status, "somebody stands in between" in err) == (1, True)
    assert here.names() == set()


@pytest_twisted.ensureDeferred
async def test_what_leads_to_nothing_confirmed_is_said(here: Here) -> None:
    server = ["--server", f"127.0.0.1:{here.port}"]
    words = ["est-server-certificates", *server, *OPTIONS, here / "ca", "--fingerprint", fingerprint(here.fake.issuing)]
    status, _, err = await opencert_process(*words)
    assert status == 0
    assert f"left out, since it leads to nothing confirmed: CN=Fake Root, {fingerprint(here.fake.root)}" in err


@pytest_twisted.ensureDeferred
async def test_a_server_that_wants_a_password_first_gets_none(here: Here) -> None:
    server = ["--server", f"https://127.0.0.1:{here.port}/.well-known/est/negotiate"]
    words = ["est-server-certificates", *server, *OPTIONS, here / "ca", "--fingerprint", fingerprint(here.fake.root)]
    status, _, err = await opencert_process(*words)
    assert (status, "wants a password" in err) == (1, True)
    assert [proof for *_, proof in here.fake.seen] == [None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bootstrap",), "there is no terminal"),
        (("--bootstrap", "--fingerprint", "00" * 32, "--trust-anchors", "x"), "is not known"),
        (("--bootstrap", "--fingerprint", "00" * 32, "--user", "x"), "is not known"),
        (("--bootstrap", "--fingerprint", "00" * 32, "--cert", "x"), "is not known"),
        (("--fingerprint", "00" * 32), "belongs to --bootstrap"),
    ],
)
def test_contradictions_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = opencert("est-server-certificates", "--server", "https://localhost:1", *words, "--out", "ca")
    assert done.exit_code == 2 and said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_fingerprint_is_said(tmp_path: Path) -> None:
    words = ("--bootstrap", "--fingerprint", "abc", "--out", tmp_path / "ca")
    done = opencert("est-server-certificates", "--server", "https://localhost:1", *words)
    assert done.exit_code == 1 and "'abc' is no fingerprint" in done.stderr


def at_a_terminal(answer: bytes, *words: str | Path) -> tuple[int, str]:
    """Exit code, and all that the person sees, who answers the first question."""
    person, terminal = pty.openpty()
    code = "from opencertd.cli import main; main(prog_name='opencert')"
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-c", code, *map(str, words)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as asking:
        os.close(terminal)
        said, answered, until = b"", False, time.monotonic() + 30
        while time.monotonic() < until:
            if not select.select([person], [], [], 0.5)[0]:
                if answered and answer == b"\x03":  # Python does not see one that comes just before it reads
                    os.write(person, answer)
                continue
            try:
                said += os.read(person, 4096)
            except OSError:  # nobody has the other end any more
                break
            if b"[y/N]" in said and not answered:
                answered = bool(os.write(person, answer))
        else:
            asking.kill()
        os.close(person)
        return asking.wait(10), said.decode()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x03", 1)])
@pytest_twisted.ensureDeferred
async def test_a_person_compares_the_fingerprint(here: Here, answer: bytes, code: int) -> None:
    words = ["est-server-certificates", "--server", f"127.0.0.1:{here.port}", *OPTIONS, here / "ca"]
    status, said = await deferToThread(at_a_terminal, answer, *words)
    assert status == code, said
    assert "CN=Fake Root" in said and fingerprint(here.fake.root) in said
    assert said.count("[y/N]") == 1  # only the root is asked about
    assert here.names() == ({"ca"} if code == 0 else set())


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest_twisted.ensureDeferred
async def test_requests_are_linked_as_the_ca_asks_and_by_option(here: Here, tls: str) -> None:
    wish = [*here.user, *PICTURE, "--tls", tls]
    for label, options in (("linked", []), ("unkept", ["--channel-binding"])):
        files = ["--new-key", here / f"{label}.key", "--out", here / f"{label}.pem"]
        status, _, err = await opencert_process("est-enroll", *here.server(label), *wish, *options, *files)
        assert status == 0, err
    posted = len(here.fake.connections)
    files = ["--new-key", here / "k", "--out", here / "c"]
    status, _, err = await opencert_process("est-enroll", *here.server("linked"), *wish, "--no-channel-binding", *files)
    assert (status, len(here.fake.connections)) == (1, posted + 1)  # the fake wants what it was not given
    assert not (here / "c").exists()


@pytest_twisted.ensureDeferred
async def test_a_request_in_a_file_cannot_be_linked(here: Here) -> None:
    opencert("generate-keys", "--out", here / "k")
    opencert("create-csr", "--key", here / "k", "--san", "www.example.com", "--out", here / "r")
    words = ["est-enroll", *here.server(), *here.user, "--csr", here / "r", "--out", here / "c", "--channel-binding"]
    status, _, err = await opencert_process(*words)
    assert (status, "made already cannot be linked" in err, here.fake.seen) == (1, True, [])


def test_a_redirect_elsewhere_is_asked_about_at_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    redirect = Redirect("POST", "https://a.example/x", "https://b.example/\x1b[2Jy")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert not est_session.follow(redirect)
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer in (True, False):
        monkeypatch.setattr("click.confirm", lambda text, err, answer=answer: asked.append(text) or answer)
        assert est_session.follow(redirect) is answer
    assert asked[0].startswith("a.example sends this POST on to another server, https://b.example/?[2Jy. Go there")
