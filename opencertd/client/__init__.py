"""Asking other servers: clients of EST and the `/ca` API on Twisted's Agent and treq, for command line and relaying.

May import: levels 0 to 3 (`model`, `asn1`, `keys`, `errors`, `clock`). Serves RFC 7030 from the client's side: §3.2.1
(redirects), §3.3 (TLS and HTTP authentication), §3.5 (channel binding), §3.6 (explicit trust anchors), §4.1 (with
bootstrap, §4.1.1), §4.2, §4.4 and §4.5; RFC 7617 and RFC 7616 (Basic and Digest).
Everything that goes wrong is a `ClientError`: one sentence for a person. Every exchange has a size and a time limit.
Leaves out: full CMC (RFC 7030 §4.3).
"""
