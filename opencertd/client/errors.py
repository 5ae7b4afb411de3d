"""What a client says when it did not get what it asked for: one sentence a person can act on."""

from __future__ import annotations


class ClientError(Exception):
    """The exchange failed; `str()` is one sentence without a final full stop, safe to show."""


class ServerNotTrusted(ClientError):  # noqa: N818  (it names the finding, as Refusal does)
    """The server's certificate does not lead to a trust anchor, or is not for the host that was asked."""


class StillPending(ClientError):  # noqa: N818
    """The CA has taken the request and decides later; `retry_after` is the seconds it asked us to wait."""

    def __init__(self, words: str, retry_after: int) -> None:
        super().__init__(words)
        self.retry_after = retry_after
