"""HTTP manners all edges share: dispatch, limits, refusals as answers, TLS, and who is asking.

May import: levels 0 to 3, Twisted, Klein, treq, pyOpenSSL, argon2, PyJWT. Knows no protocol edge by name: edges are
handed in as `site.Edge` values. Serves RFC 9110 and 9112 (HTTP), RFC 9457 (problem documents), RFC 7617 (Basic),
RFC 7616 (Digest), RFC 6750 (bearer tokens), RFC 5280 §4.2.1.12 and RFC 8446 (client certificates).
Leaves out: HTTP/2, trusted proxies that vouch for client certificates, and every route: those are the edges' own.
"""
