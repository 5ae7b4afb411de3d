"""Nothing that the RFCs ask of a server is without a check, but what is left out on purpose and said so."""

from __future__ import annotations

import tests.est.conformance as package
from tests.conformance import Table
from tests.est.conformance.not_done import NOT_DONE
from tests.est.conformance.requirements import RFC_7030, RFC_8951, RFC_9908

TABLE = Table(package, (*RFC_7030, *RFC_8951, *RFC_9908), NOT_DONE, "est-conformance.md")


def test_every_requirement_has_its_check_or_a_reason_why_not() -> None:
    TABLE.check_complete()


def test_the_document_says_what_is_not_done_and_why() -> None:
    TABLE.check_document()
