"""A certificate authority as one Twisted daemon: ACME, EST, OCSP, CRL and a `/ca` API over one core."""

__version__ = "0.1.0"
