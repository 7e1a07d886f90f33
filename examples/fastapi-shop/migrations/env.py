"""Alembic, on the application's database and metadata."""

import sqlalchemy as sa
from alembic import context
from sealwax.sqlalchemy import render_item
from shop import settings
from shop.models import Base

with sa.create_engine(settings.DATABASE_URL).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_item=render_item)
    with context.begin_transaction():
        context.run_migrations()
