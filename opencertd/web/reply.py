"""An answer made of bytes, so that the express lane and the ordinary way can give the same one."""

from __future__ import annotations

from typing import NamedTuple

from twisted.web.iweb import IRequest

OK = b"200 OK"


class Reply(NamedTuple):
    """An answer but for what all answers have: status line, date, security headers, what ends the connection.

    `head`: its own header lines, Content-Length among them, each with its CRLF. `status`: as `200 OK`.
    """

    head: bytes
    body: bytes
    status: bytes = OK


def send_reply(request: IRequest, reply: Reply) -> bytes:
    """Give the request the reply's status and header fields; its body, as what renders a resource answers it."""
    request.setResponseCode(int(reply.status[:3]))  # type: ignore[no-untyped-call]
    for line in reply.head.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        request.responseHeaders.setRawHeaders(name, [value])
    return reply.body
