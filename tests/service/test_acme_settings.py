"""`[acme]` is checked key by key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opencertd.acme.auto_renewal import StarTerms
from opencertd.acme.orders import OrderTerms
from opencertd.acme.renewal import RenewalTerms
from opencertd.asn1.dn import parse_dn
from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.first_start import rules_for
from opencertd.issuance.ceremony import make_authorities


def read(tmp_path: Path, lines: str) -> Settings:
    file = tmp_path / "o.toml"
    file.write_text(f'dn = "CN=x"\n[acme]\n{lines}\n')
    return read_settings({}, {}, file)


def test_what_is_set_is_what_clients_are_told(tmp_path: Path) -> None:
    text = 'renewal_window = [0.5, 0.9]\nrenewal_poll = "30m"\nexplanation_url = "https://ca.example/why"'
    terms = read(tmp_path, text).acme.renewal_terms()
    assert terms == RenewalTerms((0.5, 0.9), timedelta(minutes=30), "https://ca.example/why")
    assert read(tmp_path, "").acme.renewal_terms() == RenewalTerms()


def test_proofs_are_used_again_only_where_that_is_set(tmp_path: Path) -> None:
    assert read(tmp_path, "").acme.order_terms(("dns-01",), {}) == OrderTerms("default", challenges=("dns-01",))
    terms = read(tmp_path, 'authorization_reuse = "8h"\nsubdomains = true').acme.order_terms(("dns-01",), {})
    assert (terms.reuse, terms.subdomains) == (timedelta(hours=8), True)


def test_renewing_certificates_are_offered_where_that_is_set(tmp_path: Path) -> None:
    assert read(tmp_path, "").acme.order_terms((), {}).auto_renewal is None
    year = timedelta(days=365)
    assert read(tmp_path, '[acme.auto_renewal]\nmin_lifetime = "1h"').acme.order_terms((), {}).auto_renewal is None
    assert read(tmp_path, "[acme.auto_renewal]\nenabled = true").acme.order_terms((), {}).auto_renewal == StarTerms(
        min_lifetime=timedelta(days=1), max_duration=year
    )
    text = '[acme.auto_renewal]\nenabled = true\nmin_lifetime = "1h"\nmax_duration = "1y"\n'
    text += 'certificate_get = true\nprofiles = ["rsa"]'
    assert read(tmp_path, text).acme.order_terms((), {}).auto_renewal == StarTerms(
        timedelta(hours=1), year, by_get=True, profiles=frozenset({"rsa"})
    )


@pytest.mark.parametrize("name", ["nobody", "daemon-tls"])
def test_for_profiles_that_clients_can_name(tmp_path: Path, name: str) -> None:
    text = f"[acme.auto_renewal]\nprofiles = ['rsa', '{name}']\n"
    settings = read(tmp_path, text)
    records = tuple(authority.record for authority in make_authorities(parse_dn("CN=x"), datetime.now(UTC)))
    with pytest.raises(StartError, match=f"acme.auto_renewal.profiles.*{name}"):
        rules_for(settings, settings.rules(), records)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("renewal_window = [0.7, 0.6]", "acme.renewal_window"),
        ("renewal_window = [0.5, 0.5]", "acme.renewal_window"),
        ("renewal_window = [0.0, 0.5]", "acme.renewal_window"),
        ("renewal_window = [0.5, 1.1]", "acme.renewal_window"),
        ("renewal_window = [nan, 0.6]", "acme.renewal_window"),
        ("renewal_window = [0.5]", "acme.renewal_window"),
        ('renewal_poll = "1s"', "acme.renewal_poll"),
        ('renewal_poll = "soon"', "acme.renewal_poll"),
        ('authorization_reuse = "8d"', "acme.authorization_reuse"),
        ('authorization_reuse = "0s"', "acme.authorization_reuse"),
        ("subdomains = 5", "acme.subdomains"),
        ('explanation_url = "ca.example"', "acme.explanation_url"),
        ("renewal = 1", "acme.renewal"),
        ('[acme.auto_renewal]\nmin_lifetime = "9s"', "acme.auto_renewal.min_lifetime"),
        ('[acme.auto_renewal]\nmin_lifetime = "a day"', "acme.auto_renewal.min_lifetime"),
        ('[acme.auto_renewal]\nmax_duration = "11y"', "acme.auto_renewal.max_duration"),
        ('[acme.auto_renewal]\nmax_duration = "1h"', "less than min_lifetime"),
        ("[acme.auto_renewal]\ncertificate_get = 5", "acme.auto_renewal.certificate_get"),
        ('[acme.auto_renewal]\nprofiles = "default"', "acme.auto_renewal.profiles"),
        ("[acme.auto_renewal]\nlifetime = 5", "acme.auto_renewal.lifetime"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        read(tmp_path, line)
