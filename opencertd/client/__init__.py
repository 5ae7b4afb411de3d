"""Asking other servers: clients of EST and the `/ca` API on Twisted's Agent and treq, for command line and relaying.

May import: levels 0 to 3 (`model`, `asn1`, `errors`, `clock`). Serves RFC 7030 §3.3 (TLS and HTTP authentication), §3.6
(explicit trust anchors), §4.1 and §4.2 from the client's side, RFC 7617 and RFC 7616 (Basic and Digest).
Everything that goes wrong is a `ClientError`: one sentence for a person. Every exchange has a size and a time limit.
Leaves out: linking identity to the TLS channel (RFC 7030 §3.5), CSR attributes, server-side key generation.
"""
