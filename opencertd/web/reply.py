"""What the express lane would answer, answered in the ordinary way."""

from __future__ import annotations

from twisted.web.iweb import IRequest

from opencertd.web.express import Reply


def send_reply(request: IRequest, reply: Reply) -> bytes:
    """Give the request the reply's status and header fields; its body, as what renders a resource answers it."""
    request.setResponseCode(int(reply.status[:3]))  # type: ignore[no-untyped-call]
    for line in reply.head.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        request.responseHeaders.setRawHeaders(name, [value])
    return reply.body
