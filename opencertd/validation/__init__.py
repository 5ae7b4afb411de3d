"""Control of a name: evidence is gathered over the network (async), then judged (pure).

Serves RFC 8555 §8 (http-01, dns-01), RFC 8737 (tls-alpn-01) and RFC 8738 (IP identifiers). `validator.Validator`
answers a `verdict.ControlQuestion` with None (proven) or a `verdict.FailedProof`. `verdict` and `addresses` are pure.
May import: `errors`, `clock`, `tasks`, `model`, `asn1`, Twisted, dnspython, pyOpenSSL and cryptography.
Leaves out: tokens, key authorizations' making, retries and states (the edge that asks keeps those); CAA.
"""
