"""The ACME edge (RFC 8555): accounts, orders, authorizations, challenges, certificates, revocation, key change.

May import: levels 0 to 4 (`model`, `asn1`, `keys`, `validation`, `jobs`, `issuance`, `web`); no other edge, no `store`.
Serves RFC 8555 with RFC 7515 (JWS), RFC 7517 (JWK), RFC 7638 (thumbprints); RFC 8037, 9864 and 9964 for kinds of keys.
RFC 9773 (renewal information), RFC 9444 (subdomains), draft-ietf-acme-profiles-01.
Leaves out: notBefore and notAfter in orders, short-term renewal (RFC 8739).
"""
