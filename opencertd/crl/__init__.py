"""CRLs: one full CRL for each issuer, published after every revocation, hold and release, and once a day.

May import: levels 0 to 4. Serves RFC 5280 §5 (CRL version 2) and RFC 2585 (`application/pkix-crl`).
Leaves out: delta CRLs, indirect CRLs, partitions.
"""
