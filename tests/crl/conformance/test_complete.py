"""Nothing that RFC 5280 asks of a CRL issuer is without a check, but what is left out on purpose and said so."""

from __future__ import annotations

import tests.crl.conformance as package
from tests.conformance import Table
from tests.crl.conformance.not_done import NOT_DONE
from tests.crl.conformance.requirements import RFC_5280

TABLE = Table(package, RFC_5280, NOT_DONE, "crl-conformance.md")


def test_every_requirement_has_its_check_or_a_reason_why_not() -> None:
    TABLE.check_complete()


def test_the_document_says_what_is_not_done_and_why() -> None:
    TABLE.check_document()
