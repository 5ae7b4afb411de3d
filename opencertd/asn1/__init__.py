"""Bytes ↔ values: DER, PEM, PKCS#10, CMS, OCSP, CRLs and distinguished names; all pure.

May import: level 0, `cryptography`, `pyasn1`. Serves RFC 2986 (PKCS#10), RFC 5652 (CMS), RFC 6960 (OCSP),
RFC 5280 §5 (CRL), RFC 4514 (names as text), RFC 7468 (PEM). Leaves out: keys, clocks and every decision.
"""
