"""`opencert cert`: what is said of the CA's answers, and what is wrong before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest

import opencertd.cli.ca_session
from tests.cli.shell import opencert

SERVER = ("--server", "https://ca.test", "--cert", "operator.pem")
HELD: dict[str, Any] = {
    "serial": "01A5",
    "subject": "CN=a\x1b[31m",
    "issuer": "ecdsa",
    "profile": "default",
    "requester": "ann",
    "notBefore": "2026-01-01T00:00:00Z",
    "notAfter": "2027-01-01T00:00:00Z",
    "names": [{"type": "dns", "value": "a.test"}],
    "status": "held",
    "revocation": {
        "at": "2026-02-01T00:00:00Z",
        "reason": "certificateHold",
        "invalidityDate": "2026-01-31T00:00:00Z",
    },
}
STEP = {"status": "held", "changed": "2026-02-01T00:00:00Z", "by": "CN=op", "revocation": HELD["revocation"]}


class PlayedCa:
    """Answers `answer` to everything and keeps what was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    async def certificates(self, *words: Any) -> Any:
        self.asked.append(("show", *words))
        return self.answer

    async def revoke(self, *words: Any, **others: Any) -> Any:
        self.asked.append(("revoke", *words, others))
        return self.answer

    async def reinstate(self, *words: Any, **others: Any) -> Any:
        self.asked.append(("reinstate", *words, others))
        return self.answer


@pytest.fixture
def ca(monkeypatch: pytest.MonkeyPatch) -> PlayedCa:
    played = PlayedCa(HELD)

    def run_ca(connection: Any, deed: Any) -> Any:
        assert connection.server == "https://ca.test"
        try:
            deed(played).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    monkeypatch.setattr(opencertd.cli.ca_session, "run_ca", run_ca)
    return played


def test_a_deed_is_reported_in_one_line(ca: PlayedCa) -> None:
    done = opencert("cert", "hold", "01A5", *SERVER, "--invalidity-date", "2026-01-31T00:00:00Z")
    assert done.exit_code == 0
    assert done.stderr == (
        "certificate 01A5 (CN=a?[31m) is held since 2026-02-01T00:00:00Z (certificateHold),"
        " not good since 2026-01-31T00:00:00Z\n"
    )
    said = {"invalidity_date": "2026-01-31T00:00:00Z", "issuer": None}
    assert ca.asked == [("revoke", "01A5", "certificateHold", said)]


def test_reasons_are_rfc_names_in_any_case(ca: PlayedCa) -> None:
    assert opencert("cert", "revoke", "01A5", *SERVER, "--reason", "KEYCOMPROMISE", "--issuer", "rsa").exit_code == 0
    assert opencert("cert", "revoke", "01A5", *SERVER).exit_code == 0
    assert [asked[2] for asked in ca.asked] == ["keyCompromise", "unspecified"]
    for reason in ("certificateHold", "removeFromCRL", "boredom"):
        assert opencert("cert", "revoke", "01A5", *SERVER, "--reason", reason).exit_code == 2


def test_show_prints_lines(ca: PlayedCa) -> None:
    ca.answer = (HELD | {"history": [STEP]},)
    lines = opencert("cert", "show", "01A5", *SERVER).stdout.splitlines()
    assert lines[0] == "Serial number: 01A5"
    assert "Subject: CN=a?[31m" in lines
    assert "Name: dns:a.test" in lines
    assert lines[-1].startswith("History: 2026-02-01T00:00:00Z held since ") and lines[-1].endswith(" by CN=op")


@pytest.mark.parametrize("answer", [{}, HELD, HELD | {"history": 5}, HELD | {"history": [5]}, HELD | {"names": [1]}])
def test_show_of_something_else_fails_in_words(ca: PlayedCa, answer: dict[str, Any]) -> None:
    ca.answer = (answer,)
    done = opencert("cert", "show", "01A5", *SERVER)
    assert done.exit_code == 1
    assert "does not describe a certificate" in done.stderr


@pytest.mark.parametrize("deed", ["revoke", "hold", "reinstate", "show"])
def test_what_is_missing_is_said_before_anybody_is_asked(deed: str) -> None:
    for words in ((), ("01A5",), ("01A5", "--server", "https://ca.test"), SERVER):
        assert opencert("cert", deed, *words).exit_code == 2
    done = opencert("cert", deed, "01A5", "--server", "http://ca.test", "--cert", "operator.pem")
    assert done.exit_code == 1 and "must be https://" in done.stderr
    assert opencert("cert", deed, "--help").exit_code == 0
