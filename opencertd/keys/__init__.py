"""Who signs and with what: the kinds of keys, signers over private keys, and the files that keep them.

May import: level 0, `asn1`. Leaves out: what is signed and whether it may be (`issuance`, `crl`, `ocsp`).
"""
