"""Code of an application that has the daemon inside, where it may have its say."""

from __future__ import annotations

from dataclasses import dataclass

from opencertd.issuance.approvals import Decide
from opencertd.ocsp.inquiry import CheckInquiry


@dataclass(frozen=True)
class Hooks:
    """`decide`: about requests that wait for approval. `check_ocsp`: which OCSP requests are answered."""

    decide: Decide | None = None
    check_ocsp: CheckInquiry | None = None


NO_HOOKS = Hooks()
