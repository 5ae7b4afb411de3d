"""An edge behind the real root, asked without a socket and with nothing tidying its URLs."""

from __future__ import annotations

from typing import Any

import treq
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from opencertd.web.site import Edge, Root


@implementer(IBodyProducer)
class Body:
    """All of a body at once; Twisted's own producer would wait for a reactor that is not there."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self.content)
        return succeed(None)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class Browser:
    """Asks one edge."""

    def __init__(self, edge: Edge) -> None:
        self._agent = RequestTraversalAgent(Root([edge]))

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """The response and its content."""
        asked = self._agent.request(
            method.encode(),
            b"https://ca.test" + path.encode(),
            Headers({name: [value] for name, value in (headers or {}).items()}),
            None if body is None else Body(body),
        )
        self._agent.flush()
        assert asked.called, "no answer to " + path
        response = await asked
        reading = treq.content(response)
        self._agent.flush()
        assert reading.called, "no content of " + path
        return response, await reading


def header(response: Any, name: str) -> str | None:
    """A response header's value."""
    values = response.headers.getRawHeaders(name)
    return None if values is None else ", ".join(values)
