"""`[crls]`: what cannot be served is refused before it starts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from opencertd.config import read_settings
from opencertd.errors import StartError
from opencertd.model.crl_parts import Partition

PART = 'crl = ["http://ca.test/ca/{issuer}/crl/{part}"]'


def read(tmp_path: Path, top: str, table: str = "") -> object:
    path = tmp_path / "opencertd.toml"
    path.write_text(f'dn = "CN=x"\n{top}\n[crls]\n{table}\n')
    return read_settings({}, {}, path)


def test_terms_are_as_the_table_has_them(tmp_path: Path) -> None:
    delta = 'delta = ["http://ca.test/ca/{issuer}/crl/delta"]'
    settings = read(tmp_path, PART, f"shards = 64\napart = true\nwait_seconds = 60\nvalidity_hours = 48\n{delta}")
    terms = settings.crls.terms(settings.crl)  # type: ignore[attr-defined]
    assert (terms.partition, terms.wait, terms.validity) == (Partition(64, True), 60, timedelta(days=2))
    assert terms.points == ("http://ca.test/ca/{issuer}/crl/{part}",)
    assert terms.delta == ("http://ca.test/ca/{issuer}/crl/delta",)


@pytest.mark.parametrize(
    ("top", "table", "said"),
    [
        ("", "shards = 4", "need a URL of crl"),
        ("", "apart = true", "need a URL of crl"),
        (PART, "", "makes parts"),
        ('crl = ["http://ca.test/{part}"]', "shards = 4", "{issuer} too"),
        ('crl = ["http://ca.test/{issuer}?p={part}"]', "shards = 4", "slash before it"),
        ('crl = ["http://a.test/{issuer}/{part}", "http://a.test/{issuer}"]', "shards = 4", "either all"),
        (PART, "shards = 1025", "crls.shards"),
        (PART, "shards = -1", "crls.shards"),
        ("", "interval_hours = 200", "interval_hours must be less"),
        ("", "wait_seconds = 5", "wait_seconds needs shards or delta"),
        (PART, "shards = 2\nwait_seconds = 86400", "less than interval_hours"),
        ("", 'delta = ["http://ca.test/{part}"]', "without {part}"),
        ("", 'delta = ["ftp://ca.test/"]', "http:// or https://"),
        ("", "sharts = 4", "unknown setting 'crls.sharts'"),
        (PART, "shards = 4\n[profiles.default]\ncrl = ['http://a.test/{issuer}/{part}']", "profiles.default.crl"),
    ],
)
def test_what_is_wrong_is_said(top: str, table: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        read(tmp_path, top, table)
    assert said in str(caught.value)
