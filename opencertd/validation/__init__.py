"""Control of a name: evidence is gathered over the network (async), then judged (pure); and CAA's permission.

Serves RFC 8555 §8 (http-01, dns-01), RFC 8737 (tls-alpn-01), RFC 8738 (IP identifiers), RFC 8659 and 8657 (CAA), and
the drafts of dns-account-01, dns-persist-01 and device-attest-01. `validator.Validator` answers a
`verdict.ControlQuestion` with None (proven), `ProvenUntil` or a `FailedProof`; `perspectives` asks several of them;
`attestation` judges what devices say. It, `verdict`, `addresses`, `caa` and `dns_persist` are pure. May import:
`errors`, `clock`, `tasks`, `model`, `asn1`, Twisted, dnspython, pyOpenSSL and cryptography. Leaves out: tokens, key
authorizations' making, retries and states (the edge that asks keeps those); email-reply-00.
"""
