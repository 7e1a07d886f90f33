"""Alembic renders sealed columns by their types in the database, and finds nothing to change afterwards."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, select

from sealwax import Records
from sealwax.sqlalchemy import use_records
from tests.orm.models import Base, notes
from tests.records.test_migrations import _empty as empty

ENV = """
from sealwax.sqlalchemy import render_item
from tests.orm.models import Base
target_metadata = Base.metadata
"""


def test_autogenerate_twice_gives_no_change(database: str, records: Records, tmp_path: Path) -> None:
    url = empty(database)
    settings = Config(tmp_path / "alembic.ini")
    command.init(settings, str(tmp_path / "migrations"))
    settings = Config()
    settings.set_main_option("script_location", str(tmp_path / "migrations"))
    settings.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    env = tmp_path / "migrations" / "env.py"
    text = env.read_text().replace("target_metadata = None", ENV)
    text = text.replace("target_metadata=target_metadata", "target_metadata=target_metadata, render_item=render_item")
    env.write_text(text)
    command.revision(settings, "tables", autogenerate=True)
    (made,) = (tmp_path / "migrations" / "versions").glob("*.py")
    stored = "mysql.MEDIUMBLOB()" if "mysql" in url else "sa.LargeBinary()"
    assert f"sa.Column('text', {stored}, nullable=True)" in made.read_text()
    assert "sealwax" not in made.read_text()
    command.upgrade(settings, "head")
    command.check(settings)

    use_records(Base.metadata, records)
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection, records.scope(tenant="acme"):
        connection.execute(insert(notes), [{"id": 1, "tenant_id": "acme", "text": "x" * 100_000}])
        assert connection.scalar(select(notes.c.text)) == "x" * 100_000


def test_a_renamed_column_opens_by_the_name_of_its_field(records: Records) -> None:
    from sealwax.sqlalchemy import Sealed

    engine = sa.create_engine("sqlite://")
    before, after = sa.MetaData(), sa.MetaData()
    for metadata in (before, after):
        use_records(metadata, records)
    old = sa.Table("t", before, sa.Column("text", Sealed(str)))
    new = sa.Table("t", after, sa.Column("body", Sealed(str, field="t.text")))
    with engine.begin() as connection:
        old.create(connection)
        connection.execute(insert(old), {"text": "x"})
        connection.exec_driver_sql("ALTER TABLE t RENAME COLUMN text TO body")
        assert connection.scalar(select(new.c.body)) == "x"
    engine.dispose()
