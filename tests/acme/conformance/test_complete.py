"""Nothing that the RFCs ask of a server is without a check, but what is left out on purpose and said so."""

from __future__ import annotations

import tests.acme.conformance as package
from tests.acme.conformance.not_done import NOT_DONE
from tests.acme.conformance.requirements_8555 import RFC_8555
from tests.acme.conformance.requirements_others import RFC_8737, RFC_8738, RFC_8739, RFC_9444, RFC_9773
from tests.conformance import Table

TABLE = Table(
    package,
    (*RFC_8555, *RFC_8737, *RFC_8738, *RFC_9773, *RFC_9444, *RFC_8739),
    NOT_DONE,
    "acme-conformance.md",
)


def test_every_requirement_has_its_check_or_a_reason_why_not() -> None:
    TABLE.check_complete()


def test_the_document_says_what_is_not_done_and_why() -> None:
    TABLE.check_document()
