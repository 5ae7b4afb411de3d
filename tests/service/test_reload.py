"""New rules are read when the file has settled; a bad file changes nothing and is said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from opencertd.config import RuleSettings, read_rules
from opencertd.errors import StartError
from opencertd.reload import RulesFile
from opencertd.worker import Lifeline

GOOD = '[profiles.web]\nvalidity = "1d"\n'
OTHER = '[profiles.web]\nvalidity = "2d"\n[policy.deny]\ndns = ["x.test"]\n'


@pytest.fixture
def said() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Rig:
    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, Clock()
        self.adopted: list[RuleSettings] = []
        self.refuse = False
        path.write_text(GOOD)
        self.file = RulesFile(path, read_rules(path), self.adopt, self.clock)
        self.file.start()
        self.pass_seconds()

    def adopt(self, rules: RuleSettings) -> None:
        if self.refuse:
            raise StartError("the profile 'web' contradicts itself")
        self.adopted.append(rules)

    def pass_seconds(self, count: int = 4) -> None:
        self.clock.pump([1.0] * count)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "opencertd.toml")


def errors(said: list[LogEvent]) -> list[str]:
    return [event["why"] for event in said if "stay as they were" in (event.get("log_format") or "")]


def test_what_did_not_change_is_not_adopted(rig: Rig) -> None:
    rig.pass_seconds(10)
    rig.path.write_text(f"# a comment\n{GOOD}")
    rig.pass_seconds()
    assert rig.adopted == []


def test_a_change_is_adopted_once(rig: Rig) -> None:
    rig.path.write_text(OTHER)
    rig.pass_seconds(10)
    assert [rules.profiles["web"].validity for rules in rig.adopted] == ["2d"]
    assert rig.adopted[0].policy.deny.dns == ("x.test",)


def test_a_file_that_is_being_written_is_left_alone(rig: Rig) -> None:
    """Half of a file may be good TOML with half of the rules."""
    for end in range(len(OTHER)):
        rig.path.write_text(OTHER[:end])
        rig.clock.advance(1.0)
    assert rig.adopted == []
    rig.path.write_text(OTHER)
    rig.pass_seconds()
    assert len(rig.adopted) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.web\n", "not valid TOML"),
        ('[profiles.web]\nvalidity = "soon"\n', "'profiles.web.validity'"),
        ('[profiles.web]\nvalidty = "1d"\n', "'profiles.web.validty'"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_said_once(rig: Rig, said: list[LogEvent], text: str, words: str) -> None:
    rig.path.write_text(text)
    rig.pass_seconds(10)
    assert rig.adopted == []
    assert len(errors(said)) == 1 and words in errors(said)[0]
    rig.path.write_text(OTHER)
    rig.pass_seconds()
    assert len(rig.adopted) == 1


def test_rules_that_do_not_fit_change_nothing(rig: Rig, said: list[LogEvent]) -> None:
    rig.refuse = True
    rig.path.write_text(OTHER)
    rig.pass_seconds(10)
    assert rig.adopted == [] and errors(said) == ["the profile 'web' contradicts itself"]
    rig.refuse = False
    rig.file.read_again()
    assert len(rig.adopted) == 1


def test_a_file_that_is_gone(rig: Rig, said: list[LogEvent]) -> None:
    rig.path.unlink()
    rig.pass_seconds()
    assert errors(said) == []
    rig.file.read_again()
    assert len(errors(said)) == 1 and "No such file" in errors(said)[0]
    rig.path.write_text(OTHER)
    rig.pass_seconds()
    assert len(rig.adopted) == 1


def test_a_worker_takes_rules_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that came with its order, and those that come in pieces."""
    adopted: list[RuleSettings] = []
    lines = []
    for text in (GOOD, OTHER):
        (tmp_path / "o.toml").write_text(text)
        lines.append(json.dumps(read_rules(tmp_path / "o.toml").model_dump(mode="json")).encode() + b"\n")
    reading = iter((lines[1][:30], lines[1][30:], b""))
    monkeypatch.setattr("opencertd.worker.os.read", lambda descriptor, size: next(reading))
    monkeypatch.setattr(Lifeline, "fileno", lambda self: 0)
    reactor = Reactor()
    lifeline = Lifeline(reactor, lines[0], adopted.append)
    assert [rules.profiles["web"].validity for rules in adopted] == ["1d"]
    lifeline.doRead()
    assert len(adopted) == 1
    lifeline.doRead()
    assert [rules.profiles["web"].validity for rules in adopted] == ["1d", "2d"]
    lifeline.doRead()
    assert reactor.stopped


class Reactor:
    stopped = False

    def removeReader(self, reader: Any) -> None:
        """Nothing reads here."""

    def stop(self) -> None:
        self.stopped = True
