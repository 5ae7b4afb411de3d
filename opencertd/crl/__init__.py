"""CRLs: for each issuer one of all its certificates, and by settings also by parts of them, and delta CRLs.

Published after every revocation, hold and release, and at their times. A `Line` is a succession of CRLs.
May import: levels 0 to 4. Serves RFC 5280 §5 (CRL version 2) and RFC 2585 (`application/pkix-crl`).
Leaves out: indirect CRLs, parts by reason.
"""
