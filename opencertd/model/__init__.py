"""Frozen values every room speaks: names, requesters, requests, records of certificates.

May import: `errors`, `clock`, the standard library and `cryptography.x509`. No Twisted, no I/O.
Leaves out: anything that only one protocol knows (its own `messages.py` and `states.py` keep that).
"""
