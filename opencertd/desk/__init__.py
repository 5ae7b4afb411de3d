"""The operator's desk: deeds on the CA's own machine, without its daemon or beside it, that `opencert ca` calls.

It opens the state directory, the store, the keys and the token, and has the core do the rest: making and retiring
issuers, rollovers, imports, keys that leave and come back, the ceremony of an offline root. It may import everything
but `cli`; nothing but `cli` imports it. Each deed is one transaction, so that workers see it whole, and each says in
the audit chain who did it.
"""
