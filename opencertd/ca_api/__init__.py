"""The CA's own API under `/ca`: its certificates for everybody; enrolment, inventory and revocation for the proven,
and what waits for approval for those who may decide.

May import: levels 0 to 4; no other edge, and no SQL. Serves the CA certificates that RFC 5280 §4.2.2.1 (caIssuers)
points at, problem documents of RFC 9457, and JSON. Leaves out: OCSP and CRLs, which also live under `/ca` but are
edges of their own; who is asking (`web`).
"""
