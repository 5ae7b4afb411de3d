"""An operator makes one-time passwords beside three running workers, and curl enrols by them: each is good once."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import new_csr, new_key, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, certs_only, request
from tests.interop.site import Site, site
from tests.interop.test_approval import est
from tests.interop.test_est_clients import curl, print_certs, sending
from tests.interop.wire import Answer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("otp"), workers=3) as running:
        yield running


@pytest.fixture(scope="module")
def ca(running: Site) -> Daemon:
    return running.ca


def password(ca: Daemon, *options: str) -> str:
    """NAME:PASSWORD of a new one."""
    return est(ca, "otp", "add", *options).stdout.decode().strip()


def ask(ca: Daemon, words: str, method: str, path: str, body: bytes | None = None) -> Answer:
    headers = {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}
    if body is not None:
        headers["Content-Type"] = "application/pkcs10"
    return request(ca, method, path, body, headers)


def csr(directory: Path, name: str, number: int = 0) -> bytes:
    return new_csr(new_key(directory / f"{name}-{number}.key"), name).read_bytes()


def had(ca: Daemon, words: str) -> int:
    """How many certificates a password was good for."""
    listed = est(ca, "otp", "list").stdout.decode().splitlines()
    (line,) = [line for line in listed if line.startswith(words.partition(":")[0] + "  ")]
    return int(line.split("/")[0].split()[-1])


def test_curl_enrols_once(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "printer7.test")
    wish = new_csr(new_key(tmp_path / "p.key"), "printer7.test")
    url = f"https://{ca.host}:{ca.port}{EST}/simpleenroll"
    (first,) = print_certs(curl(ca, "-u", words, *sending(wish), url))
    assert "printer7.test" in first.subject.rfc4514_string()
    assert print_certs(curl(ca, "-u", words, *sending(wish), url)) == [first], "an answer may get lost"
    other = new_csr(new_key(tmp_path / "q.key"), "printer7.test")
    refused = run("curl", "-sS", "--cacert", ca.trust_anchors, "-w", "%{http_code}", "-u", words, *sending(other), url)
    assert refused.stdout.endswith(b"401") and b"used up" in refused.stdout
    assert had(ca, words) == 1


def test_ca_csr_takes_it_and_a_refusal_does_not_use_it_up(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "*.cams.test", "--profile", "iot-device")
    path = "/ca/csr?profile=iot-device"
    assert ask(ca, words, "POST", path, csr(tmp_path, "other.test")).status == 403
    assert ask(ca, words, "POST", "/ca/csr", csr(tmp_path, "a.cams.test")).status == 403, "another profile"
    assert ask(ca, words, "POST", path, b"no request").status == 400
    assert ask(ca, words + "x", "POST", path, csr(tmp_path, "a.cams.test")).status == 401
    assert had(ca, words) == 0
    answer = ask(ca, words, "POST", path, csr(tmp_path, "a.cams.test"))
    assert answer.status == 200
    leaf = x509.load_pem_x509_certificates(answer.body)[0]
    shown = json.loads(request(ca, "GET", f"/ca/inventory/{leaf.serial_number:x}", headers=BASIC).body)
    assert shown["certificates"][0]["requester"] == words.partition(":")[0]


def test_of_many_at_once_on_three_workers_as_many_get_one_as_it_is_good_for(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "race.test", "--uses", "2")
    wishes = [csr(tmp_path, "race.test", number) for number in range(24)]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda wish: ask(ca, words, "POST", f"{EST}/simpleenroll", wish), wishes))
    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] == 2
    assert set(statuses) <= {200, 401, 409}
    assert len({certs_only(answer)[0].serial_number for answer in answers if answer.status == 200}) == 2
    assert had(ca, words) == 2


def test_it_opens_nothing_else(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "*")
    assert ask(ca, words, "GET", "/ca/inventory").status == 403
    assert ask(ca, words, "GET", "/ca/inventory/01").status == 403
    assert ask(ca, words, "DELETE", "/ca/revoke?sn=01&reason=superseded&signature=AA").status == 401
    assert ask(ca, words, "POST", f"{EST}/simplereenroll", csr(tmp_path, "r.test")).status == 401
    assert ask(ca, words, "GET", f"{EST}/csrattrs").status in {200, 204}
    assert had(ca, words) == 0


def test_a_revoked_one_is_good_for_nothing_at_once(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "*")
    est(ca, "otp", "revoke", words.partition(":")[0])
    answer = ask(ca, words, "POST", f"{EST}/simpleenroll", csr(tmp_path, "late.test"))
    assert answer.status == 401 and b"was revoked" in answer.body


def test_a_key_is_made_once(ca: Daemon, tmp_path: Path) -> None:
    words = password(ca, "--allow-name", "keygen.test")
    wish = csr(tmp_path, "keygen.test")
    assert ask(ca, words, "POST", f"{EST}/serverkeygen", wish).status == 200
    assert ask(ca, words, "POST", f"{EST}/serverkeygen", wish).status == 401
