"""What is asked for and deliberately not done, and why. `docs/ocsp-conformance.md` tells users the same."""

from __future__ import annotations

from collections.abc import Mapping

NOT_DONE: Mapping[str, str] = {
    "9919 §7.2/2": (
        "Only answers to GET are for caches, and those do not say so. Answers to POST and those with a nonce are for "
        "whoever asked: Cache-Control: no-store keeps proxies from giving them to others."
    ),
}
