"""What can be wrong with a token, in words for whoever runs the CA and, apart from them, for whoever asks it."""

from __future__ import annotations


class TokenError(Exception):
    """A token does not do what it should until somebody acts. `plain` holds no path and no name."""

    def __init__(self, detail: str, plain: str) -> None:
        super().__init__(detail, plain)
        self.detail = detail
        self.plain = plain

    def __str__(self) -> str:
        return self.detail


class TokenAway(TokenError):  # noqa: N818  (it is a state, which may pass by itself)
    """The token is not there, or does not answer. It is looked for again, and used when it is back."""


class KeyNotThere(TokenError):  # noqa: N818  (as above)
    """The token is there and does not have the key."""
