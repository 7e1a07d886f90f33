"""One instance of a type for several columns: each column is a field of its own, also if the type was used before."""

from __future__ import annotations

import sqlalchemy as sa

from sealwax import Records
from sealwax.records import UNBOUND, MemoryKeys
from sealwax.sqlalchemy import Sealed, use_records
from tests.fakes import FakeKeyring


def test_a_type_that_has_sealed_is_used_for_another_column() -> None:
    metadata, kind = sa.MetaData(), Sealed(str)
    engine = sa.create_engine("sqlite://")
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records, engine.begin() as connection:
        use_records(metadata, records)
        for name in ("first", "second", "third"):
            table = sa.Table(name, metadata, sa.Column("text", kind))
            # Used directly, as the dialect has a copy of it.
            own = table.c.text.type
            assert isinstance(own, Sealed)
            record = own.process_bind_param("a secret", connection.dialect)
            table.create(connection)
            connection.execute(table.insert(), [{"text": "a secret"}])
            (stored,) = connection.execute(sa.text(f"SELECT text FROM {name}")).scalars()
            for each in (record, stored):
                assert each is not None
                assert records.field(f"{name}.text", row=UNBOUND).open(each, row=UNBOUND) == "a secret"
    engine.dispose()
