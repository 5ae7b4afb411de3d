"""URLs in settings."""

from __future__ import annotations

from urllib.parse import urlsplit


def http_url(value: str) -> str:
    """An absolute URL that a certificate may bear. Raises ValueError in words."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not value.isascii() or " " in value:
        raise ValueError("must be an http:// or https:// URL")
    return value
