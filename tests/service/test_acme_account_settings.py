"""`[acme]`, the part about accounts: what is wrong is said by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.config import read_settings
from opencertd.errors import StartError


def read(tmp_path: Path, content: str) -> object:
    file = tmp_path / "opencertd.toml"
    file.write_text(f'dn = "CN=X"\n[acme]\n{content}\n')
    return read_settings({}, {}, file).acme


def test_they_are_off_until_they_are_set(tmp_path: Path) -> None:
    found = read_settings({"dn": "CN=X"}, {}, None).acme
    assert (found.terms_of_service, found.website, found.external_account_required) == (None, None, False)
    url = "https://ca.example.com/terms?v=1"
    assert read(tmp_path, f'terms_of_service = "{url}"').terms_of_service == url  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('terms_of_service = "terms"', "acme.terms_of_service"),
        ('terms_of_service = "https://ca.example/ä"', "acme.terms_of_service"),
        ('terms_of_service = "https://ca.example/>;rel=x"', "acme.terms_of_service"),
        ('terms_of_service = "https://ca.example/\\n"', "acme.terms_of_service"),
        ('website = "ftp://x"', "acme.website"),
        ('external_account_required = "perhaps"', "acme.external_account_required"),
        ("terms = 1", "acme.terms"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(StartError, match=key.replace(".", r"\.")):
        read(tmp_path, line)
