"""OCSP: whether a certificate is good, revoked or unknown, answered from memory whenever possible, with a nonce too.

May import: levels 0 to 4. Serves RFC 6960 (delegated responders, §4.2.2.2), RFC 9919 (caching, GET; RFC 5019
before it) and RFC 9654 (nonces). Leaves out: requests whose certificates come from several of our issuers (no one
responder may sign for them).
"""
