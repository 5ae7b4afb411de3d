"""What every room keeps, in SQL: one schema and two engines, SQLite (one file) and PostgreSQL (many nodes).

Each `Sql…Store` fulfils the Protocol in its room's `store.py`; `Database` runs their functions in threads and answers
by Deferreds. May import: everything below level 6. Serves no RFC itself. Leaves out: rules, which are the rooms' own
(a store only keeps each of them by constraint or compare-and-swap), and private keys, which are never in the database.
"""
