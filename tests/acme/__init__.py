"""Rules of the ACME edge (RFC 8555)."""
