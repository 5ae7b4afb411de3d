"""Enrolment over Secure Transport: certificates for whoever proves who it is, in one request and one answer.

May import: levels 0 to 4; no other edge, and no SQL. Serves RFC 7030 §4.1 (cacerts), §4.2 (simpleenroll and
simplereenroll), §4.4 (serverkeygen), §4.5 (csrattrs, by RFC 9908) and §3.5 (channel binding), with the encodings of RFC
8951. Leaves out: full CMC (§4.3); who is asking (`web`) and who may have which names (`issuance`).
"""
