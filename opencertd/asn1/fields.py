"""The fields of a SEQUENCE, taken one after another: optional ones may be absent, and nothing may be left over."""

from __future__ import annotations

from opencertd.asn1 import der


class Fields:
    """The elements inside the SEQUENCE `parent` of `data`. Raises DerError when it is none."""

    def __init__(self, data: bytes, parent: der.Element) -> None:
        if parent.tag != der.SEQUENCE:
            raise der.DerError(f"tag {parent.tag:#04x} stands where a SEQUENCE must")
        self._left = list(reversed(der.children(data, parent)))

    def take(self, tag: int) -> der.Element:
        """The next element, which must have this tag."""
        element = self.skip(tag)
        if element is None:
            raise der.DerError(f"an element of tag {tag:#04x} is missing")
        return element

    def skip(self, tag: int) -> der.Element | None:
        """The next element if it has this tag."""
        if self._left and self._left[-1].tag == tag:
            return self._left.pop()
        return None

    def end(self) -> None:
        """Raise DerError when anything is left."""
        if self._left:
            raise der.DerError(f"an element of tag {self._left[-1].tag:#04x} is too many")
