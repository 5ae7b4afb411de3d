"""What the asker keeps in the very transactions in which the core keeps its own.

An order is begun with the intent to issue for it, and ended with its certificate: neither is ever there alone, and
there is one commit to wait for where there would be two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Along:
    """`begin` runs where the intent is written, `end` where the certificate is, which it is given the record's id of.

    Both are the store's own: they get its handle of the transaction, may run more than once, and what they raise undoes
    the transaction and reaches the asker as it is. `begin` None: that was done before.

    `begun`, `ended`: whether they are durable. They are not when somebody else had begun the same transaction, or was
    the one who completed it.
    """

    def __init__(self, begin: Callable[[Any], None] | None, end: Callable[[Any, int], None]) -> None:
        self.begin = begin
        self.end = end
        self.begun = begin is None
        self.ended = False
