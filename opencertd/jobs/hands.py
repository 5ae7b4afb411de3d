"""What a room that owes a job asks of the scheduler beside it: to do that job now, in this worker, without a claim."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.jobs.store import Job


class Hands(Protocol):
    """The workers' work is anybody's; this is for whoever has just owed some and could do it at once."""

    @property
    def free(self) -> bool:
        """Whether another job could begin now."""

    def take_on(self, job: Job) -> None:
        """Do a job that was owed leased to this worker. It is done even if the hands have filled up meanwhile."""

    def ending(self, key: str) -> Deferred[None] | None:
        """Of the job of this key, if these hands are at it: fires when they are done, however it went. Else None."""

    def kick(self) -> None:
        """Something is due now, which anybody may claim."""
