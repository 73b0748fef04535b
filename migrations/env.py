"""Runs the migrations on the connection that mosaik hands over; it never opens one itself."""

from __future__ import annotations

from alembic import context

from mosaik.storage.schema import metadata, version_table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=False,
    version_table=version_table(connection).name,
)
context.run_migrations()
