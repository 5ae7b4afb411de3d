"""Where a redirect may lead: within the origin without asking, elsewhere only when a person says so (RFC 7030 §3.2.1).

Whatever it leads to is spoken to over TLS that is verified anew, for the name that stands in the new URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from opencertd.client.errors import ClientError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
_SEE_OTHER = 303
_WRITTEN = re.compile(r"[!-~]+")  # RFC 3986 §2: what is not ASCII, and spaces, are written otherwise


@dataclass(frozen=True)
class Redirect:
    """`method` for `url` is sent on to `target`, another server."""

    method: str
    url: str
    target: str


Follow = Callable[[Redirect], bool]
"""Whether to go to another server; who we are will be proven there too, if it asks."""


def never(_: Redirect) -> bool:
    """Nobody is there to be asked."""
    return False


def redirected(method: str, url: str, status: int, location: str | None, follow: Follow) -> str:
    """The URL to send the same request to. Raises ClientError when it is not to be followed."""
    if location is None:
        raise ClientError(f"{host(url)} redirects without saying where")
    try:
        target = urljoin(url, location)
    except ValueError:
        target = location
    there, here = origin(target), origin(url)
    if there == here and not _WRITTEN.fullmatch(target):
        raise ClientError(f"{host(url)} redirects to {readable(target)!r}, which is no URL")
    if there != here and (there[0] != "https" or not there[1] or not _WRITTEN.fullmatch(target)):
        raise ClientError(f"{host(url)} redirects to {readable(target)}, which is no https:// URL")
    if status == _SEE_OTHER and method != "GET":
        raise ClientError(f"{host(url)} answers this request by HTTP 303, which is no answer to it")
    if there != here and not follow(Redirect(method, url, target)):
        raise ClientError(f"{host(url)} redirects to another server ({readable(target)}), which is not followed")
    return target


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port (RFC 6454 §4)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)


def host(url: str) -> str:
    """Host and port as they stand in the URL."""
    return urlsplit(url).netloc


def readable(text: str, length: int = 300) -> str:
    """Words of a stranger as one printable line of at most `length` characters."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:length]
