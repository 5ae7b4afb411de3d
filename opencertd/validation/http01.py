"""http-01 (RFC 8555 §8.3): the challenge's resource below `/.well-known/acme-challenge/` on the name's host."""

from __future__ import annotations

import re

from opencertd.validation.attempt import Attempt
from opencertd.validation.fetch import Fetcher, WebAddress
from opencertd.validation.verdict import ControlQuestion, FailureKind, HttpEvidence, Unproven

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\Z")  # RFC 8555 §8.1: base64url


async def gather_answer(attempt: Attempt, fetcher: Fetcher, question: ControlQuestion, port: int) -> HttpEvidence:
    """The answer by plain HTTP at `port` and wherever it redirects. Raises `Unproven`."""
    if not _TOKEN.match(question.token):  # it becomes part of a URL
        raise Unproven(FailureKind.MALFORMED, "the challenge's token is not base64url")
    path = f"/.well-known/acme-challenge/{question.token}"
    return await fetcher.get(attempt, WebAddress("http", question.name, port, path))
