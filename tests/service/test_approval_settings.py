"""`[approval]` is checked key by key, and so is `approval` of a profile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.issuance.approvals import ApprovalTerms
from opencertd.model.approval import ApprovalRequest, Decision
from opencertd.service import make_daemon
from tests.ca import make_rules


def read(tmp_path: Path, lines: str) -> Settings:
    file = tmp_path / "o.toml"
    file.write_text(f'dn = "CN=x"\n{lines}\n')
    return read_settings({}, {}, file)


def test_what_is_set_is_what_counts(tmp_path: Path) -> None:
    lines = '[approval]\nexpires = "36h"\nretry_after = "5m"\nwaiting_per_requester = 3'
    assert read(tmp_path, lines).approval.terms() == ApprovalTerms(timedelta(hours=36), 300, 3)
    assert read(tmp_path, "").approval.terms() == ApprovalTerms(timedelta(days=7), 60, 10)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[approval]\nexpires = "0s"', "approval.expires"),
        ('[approval]\nexpires = "2y"', "approval.expires"),
        ('[approval]\nexpires = "soon"', "approval.expires"),
        ('[approval]\nretry_after = "0s"', "approval.retry_after"),
        ('[approval]\nretry_after = "2d"', "approval.retry_after"),
        ("[approval]\nwaiting_per_requester = 0", "approval.waiting_per_requester"),
        ("[approval]\nwho = 1", "approval.who"),
        ("[retention]\napprovals_days = 0", "retention.approvals_days"),
        ('[profiles.x]\napproval = "yes"', "profiles.x.approval"),
        ("[profiles.x]\napproval = true", "profiles.x.approval"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        read(tmp_path, lines)


def test_profiles_want_approval_where_they_say_so_and_where_they_begin_with_one_that_does() -> None:
    rules = make_rules(
        '[profiles.a]\napproval = "person"\n[profiles.b]\nlike = "a"\n[profiles.c]\nlike = "a"\napproval = "none"'
    )
    wanting = {name for name, profile in rules.profiles.items() if profile.approval}
    assert wanting == {"a", "b"}


def test_code_that_decides_is_not_left_out_by_several_workers(tmp_path: Path) -> None:
    async def decide(waiting: ApprovalRequest) -> Decision | None:
        return None

    settings = Settings(dn="CN=x", state_dir=tmp_path / "state", workers=2)
    with pytest.raises(StartError, match="--workers at 1"):
        make_daemon(settings, decide=decide)
    assert not (tmp_path / "state").exists()
