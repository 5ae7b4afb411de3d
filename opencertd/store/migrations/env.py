"""Alembic's entry: runs the steps on the connection, and in the transaction, that `migrate` hands over."""

from __future__ import annotations

from alembic import context

from opencertd.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, once the driver leaves transactions to us
    render_as_batch=True,
)
context.run_migrations()
