"""A request's body that is in memory already."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
class WholeBody:
    """Writes everything at once: the length is known, so nothing is chunked, and no cooperator is needed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802  (Twisted)
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802  (Twisted)
        """Nothing is left to hold back."""

    def resumeProducing(self) -> None:  # noqa: N802  (Twisted)
        """Nothing is left to send."""

    def stopProducing(self) -> None:  # noqa: N802  (Twisted)
        """Nothing is left to stop."""
