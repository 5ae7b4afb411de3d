"""`[acme.test_faults]`: which mistakes are made on purpose once `--test-faults` is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from opencertd.acme.faults import FaultTerms

_USUAL = FaultTerms()
Percent = Annotated[int, Field(ge=0, le=100)]


class FaultSettings(BaseModel):
    """The table; of no effect by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nonces_refused: Annotated[int, Field(ge=0, le=90)] = _USUAL.nonces
    validation_seconds: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] = _USUAL.seconds
    authorizations_reused: Percent = _USUAL.reuse
    orders_invalid: Percent = _USUAL.orders
    order_invalid_every: Annotated[int, Field(ge=0, le=1_000_000)] = _USUAL.every_order

    def terms(self) -> FaultTerms:
        """For the ACME edge."""
        return FaultTerms(
            self.nonces_refused,
            self.validation_seconds,
            self.authorizations_reused,
            self.orders_invalid,
            self.order_invalid_every,
        )
