"""What is asked for and deliberately not done, and why. `docs/crl-conformance.md` tells users the same."""

from __future__ import annotations

from collections.abc import Mapping

NOT_DONE: Mapping[str, str] = {
    "5280 §5.2.2/1": "CRLs have no issuerAltName: their issuer is known by its name and its key.",
    "5280 §5.2.7/1": (
        "CRLs have no authorityInfoAccess: the key that signed the certificates signs their CRLs, so whoever can check "
        "a certificate can check its CRL."
    ),
    "5280 §5.2.7/2": "For the same reason: certificates say where their issuer's is.",
    "5280 §5.3.3/1": "Each issuer signs CRLs of its own certificates only, so no entry has to say whose it is.",
}
