"""The core: one door through which every certificate is issued and every revocation made.

Holds the authority, profiles, policy, key checks, lint, issuers and the ceremony of first start. Knows no protocol.
May import: levels 0 to 2 (`model`, `asn1`, `keys`, `jobs`). Serves RFC 5280 §4. Leaves out: OCSP and CRL encoding
(`asn1`, `ocsp`, `crl`), who asks and how they proved it (the edges and `web`).
"""
