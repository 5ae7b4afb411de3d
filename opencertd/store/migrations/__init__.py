"""The steps by which a database reaches the present schema, run at open by `opencertd.store.migrate`.

A step that has been released is never changed: it says what older databases look like, so it imports no schema.
"""
