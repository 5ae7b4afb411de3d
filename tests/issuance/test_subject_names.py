"""What a subject says of mailboxes and domains is what RFC 5280 and RFC 2247 let it say, or is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.pkilint_child import linter
from opencertd.model.names import AltName, AltNameKind
from tests.ca import dns, make_ca, request

CA = make_ca(rules='[profiles.wide]\nsubject_attributes = ["CN", "O", "DC", "EMAIL"]')
LINT = linter()
MAILBOX = (AltName(AltNameKind.EMAIL, "Who@a.test"),)

FINE: dict[str, Any] = {
    "a mailbox that is among the names": ("EMAIL=Who@a.test", MAILBOX),
    "a domain": ("DC=example,DC=com", dns("a.test")),
    "a domain of one label, as some directories have": ("DC=local", dns("a.test")),
    "a person in a domain": ("CN=who,DC=a,DC=test", dns("a.test")),
}
REFUSED: dict[str, Any] = {
    "a mailbox that is not": ("EMAIL=Who@a.test", dns("a.test"), "must be in subjectAltName too"),
    "a mailbox that is there in another spelling": ("EMAIL=who@a.test", MAILBOX, "spelled alike"),
    "two of which one is": ("EMAIL=Who@a.test,EMAIL=b@a.test", MAILBOX, "'b@a.test' must be in"),
    "no mailbox": ("EMAIL=who", MAILBOX, "not an e-mail address"),
    "an address": ("DC=12", dns("a.test"), "last label is a number"),
    "a domain that ends in a number": ("DC=a,DC=12", dns("a.test"), "last label is a number"),
}


@pytest.mark.parametrize("how", FINE)
def test_what_is_fine(how: str) -> None:
    subject, names = FINE[how]
    issued = run_now(CA.authority.issue(request(profile="wide", subject=parse_dn(subject), names=names)))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert certificate.subject == parse_dn(subject)
    if how != "a domain of one label, as some directories have":
        assert LINT(issued.certificate_der) == []


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_refused(how: str) -> None:
    subject, names, words = REFUSED[how]
    with pytest.raises(Refusal) as caught:
        run_now(CA.authority.issue(request(profile="wide", subject=parse_dn(subject), names=names)))
    assert caught.value.kind is RefusalKind.REJECTED_NAME and words in caught.value.detail
