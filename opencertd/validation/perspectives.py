"""Control seen from several places: an attacker near the CA can bend its routes and its DNS, hardly everybody's.

The first perspective is the CA's own and must always agree. The others repeat what it found, at once, and enough of
them must agree too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from opencertd.validation.validator import ControlValidator
from opencertd.validation.verdict import ControlQuestion, FailedProof, ProvenUntil

Answer = FailedProof | ProvenUntil | None
Look = Callable[[ControlValidator], Coroutine[Deferred[Any], Any, Answer]]


@dataclass(frozen=True)
class Perspective:
    """A further place to look from. `name`: for messages."""

    name: str
    validator: ControlValidator


class SeveralPerspectives:
    """A `ControlValidator` of several: `own` and at least `quorum` of `others` have to agree."""

    def __init__(self, own: ControlValidator, others: Sequence[Perspective], *, quorum: int) -> None:
        if not 0 <= quorum <= len(others):
            raise ValueError(f"{quorum} of {len(others)} perspectives cannot agree")
        self._own = own
        self._others = tuple(others)
        self._quorum = quorum

    async def validate(self, question: ControlQuestion) -> Answer:
        """See `ControlValidator`."""
        return await self._agreed(lambda validator: validator.validate(question))

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        """See `ControlValidator`."""
        answer = await self._agreed(lambda validator: validator.check_caa(question))
        return answer if isinstance(answer, FailedProof) else None

    async def _all(self, look: Look) -> list[Answer]:
        try:
            return await gatherResults(
                [Deferred.fromCoroutine(look(other.validator)) for other in self._others], consumeErrors=True
            )
        except FirstError as error:  # the others do not raise, so this is somebody cancelling
            error.subFailure.raiseException()

    async def _agreed(self, look: Look) -> Answer:
        own = await look(self._own)
        if isinstance(own, FailedProof):
            return own
        answers = await self._all(look)
        agreeing = [answer for answer in answers if not isinstance(answer, FailedProof)]
        if len(agreeing) >= self._quorum:
            ends = [answer for answer in (own, *agreeing) if isinstance(answer, ProvenUntil)]
            return min(ends, key=lambda each: each.end, default=None)
        failed = [
            (other.name, answer)
            for other, answer in zip(self._others, answers, strict=True)
            if isinstance(answer, FailedProof)
        ]
        told = "; ".join(f"from {name}: {proof.detail}" for name, proof in failed[:3])
        return FailedProof(
            failed[0][1].kind,
            f"this CA saw the proof, but only {len(agreeing)} of its {len(self._others)} further perspectives did, "
            f"and {self._quorum} must: {told}",
        )
