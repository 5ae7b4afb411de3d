"""What is kept of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from twisted.internet.defer import Deferred


@dataclass(frozen=True)
class Job:
    """One thing to do. `(kind, key)` is unique: asking again for what is already owed changes only its time.

    `generation` grows each time the job is asked for again, so that what was asked while a worker was at it is not
    forgotten when that worker finishes. `attempts` counts claims; `failures` counts those that failed since one last
    went well.
    """

    kind: str
    key: str
    run_at: datetime
    generation: int
    attempts: int
    failures: int = 0


class JobStore(Protocol):
    """Jobs and their leases. Rooms that owe work in the same transaction as a deed do so through their own store."""

    def enqueue(self, kind: str, key: str, run_at: datetime) -> Deferred[None]:
        """Owe the job. If it is owed already: its generation grows and `run_at` becomes the earlier of the two."""

    def claim(
        self, kinds: tuple[str, ...], owner: str, now: datetime, lease: timedelta, limit: int
    ) -> Deferred[tuple[Job, ...]]:
        """Take up to `limit` due jobs nobody holds (or whose lease has ended), oldest first, for `lease` from `now`.

        No job is ever given to two owners within its lease, whatever the number of processes.
        """

    def finish(self, job: Job, owner: str) -> Deferred[None]:
        """The job is done: forget it, or, when it was asked for again meanwhile, give up the lease only.

        Nothing happens when `owner` holds the job no longer.
        """

    def postpone(self, job: Job, owner: str, run_at: datetime, *, failed: bool = False) -> Deferred[None]:
        """Give up the lease and owe the job again at `run_at`. Nothing when `owner` holds the job no longer.

        When the job was asked for again meanwhile, its `run_at` stays as asked, if that is earlier. `failures` grows
        by one when it `failed`, and is 0 otherwise.
        """

    def release(self, owner: str) -> Deferred[None]:
        """Give up every lease of `owner`: called at start by the worker of that name, whose forerunner is dead."""
