"""Alembic's entry: migrates over the connection that `Database.upgrade` hands in, within its transaction."""

from alembic import context

from webapp.storage.schema import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
