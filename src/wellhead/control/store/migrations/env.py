"""Alembic's entry point. The connection comes from ``control.store.database``; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from wellhead.control.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
