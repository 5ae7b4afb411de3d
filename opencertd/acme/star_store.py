"""What is kept of orders whose certificates renew themselves, beside what `store.py` keeps of every order."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.acme.auto_renewal import AutoRenewal
from opencertd.acme.states import AccountStatus, OrderStatus, Problem

RENEW = "acme-renew"
"""Kind of the job that issues the next certificate of an order; its key is the order's id."""


class Canceling(enum.Enum):
    """What came of the wish to cancel an order."""

    DONE = "done"
    BUSY = "a certificate is being issued for it this very moment"
    NOT_VALID = "the order is not valid"


@dataclass(frozen=True)
class Published:
    """The newest certificate of an order: the last three are None until there is one. `number`: its place."""

    account_status: AccountStatus
    order_status: OrderStatus
    renewal: AutoRenewal
    renews_from: datetime | None
    number: int | None
    issuer_id: str | None
    certificate_der: bytes | None
    not_before: datetime | None
    not_after: datetime | None


class StarStore(Protocol):
    """As every store: each method is one transaction, and each change of state a compare-and-swap."""

    def publish(
        self, order_id: str, certificate_id: int, number: int, end: datetime, next_at: datetime | None
    ) -> Deferred[bool]:
        """Make this the order's certificate, if it has none of a higher number: PROCESSING → VALID, or VALID as it is.

        The order is useful, and expires, at its `end`. From PROCESSING on, its FINALIZE job is done with, and its RENEW
        job is owed at `next_at`, if there is to be another. False when the order is in another state.
        """

    def give_up(self, order_id: str, problem: Problem) -> Deferred[None]:
        """VALID → INVALID with its error: no further certificate comes of it. Nothing when it is not VALID."""

    def cancel(self, order_id: str, now: datetime) -> Deferred[Canceling]:
        """VALID → CANCELED, and its RENEW job is done with; not while some worker is at that job.

        The order then expires with its last certificate.
        """

    def published(self, order_id: str) -> Deferred[Published | None]:
        """What there is to be had of the order; None when it is no order of this kind."""

    def is_of_series(self, certificate_id: int) -> Deferred[bool]:
        """Whether the certificate came of such an order."""
