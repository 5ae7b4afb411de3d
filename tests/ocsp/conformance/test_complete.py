"""Nothing that the RFCs ask of a responder is without a check, but what is left out on purpose and said so."""

from __future__ import annotations

import tests.ocsp.conformance as package
from tests.conformance import Table
from tests.ocsp.conformance.not_done import NOT_DONE
from tests.ocsp.conformance.requirements import RFC_6960, RFC_9654, RFC_9919

TABLE = Table(package, (*RFC_6960, *RFC_9919, *RFC_9654), NOT_DONE, "ocsp-conformance.md")


def test_every_requirement_has_its_check_or_a_reason_why_not() -> None:
    TABLE.check_complete()


def test_the_document_says_what_is_not_done_and_why() -> None:
    TABLE.check_document()
