"""``python -m benchmarks.bench_models``: sealed columns of models, in the processor's time that they add to a row.

Models of two columns of text in PostgreSQL are inserted and read, 2,000 rows at a time. A figure is what such a row
takes beyond one of the same model with plain columns; reading looks at both attributes. The server is another process,
and not counted. sqlalchemy-utils and django-fernet-encrypted-fields have one key, no key service, and bind nothing.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine, FernetEngine
from tests.fakes import FakeKeyring
from tests.records.servers import postgresql

from benchmarks.measure import Row, machine, table
from sealwax.records import MemoryKeys, Records
from sealwax.sqlalchemy import Scope, Sealed, sealed, use_records

_COUNT: Final = 2_000
_ROUNDS: Final = 31
_KEY: Final = "of a benchmark, and of 32 bytes."
_VALUES: Final = [(f"name.{number}@example.com", f"{number} Long Street, " + "x" * 80) for number in range(_COUNT)]
_AES, _FERNET, _GCM = "sqlalchemy-utils AesEngine", "sqlalchemy-utils FernetEngine", "sqlalchemy-utils AesGcmEngine"
_DJANGO: Final = "django-fernet-encrypted-fields"
# The most of what the peer adds; for Django, as the first run had it.
_AIMS: Final = {
    ("insert", "Sealed"): 0.7,
    ("read", "Sealed"): 0.25,
    ("insert", "sealed"): 0.75,
    ("read", "sealed"): 0.75,
    ("insert", "Django"): 1.35,
    ("read", "Django"): 1.0,
}

Act = Callable[[], object]
# What inserts, and what reads.
Model = tuple[Act, Act]


def rows() -> Iterator[Row]:
    with postgresql() as url, contextlib.closing(_records()) as records:
        yield from _of_sqlalchemy(url, records)
        yield from _of_django(url, records)


def _records() -> Records:
    # No look at the store beside.
    records = Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}, recheck=86_400)
    records.ensure(tenant="acme")
    return records


def _of_sqlalchemy(url: str, records: Records) -> Iterator[Row]:
    engine = sa.create_engine(url)
    added = _added({name: _mapped(engine, records, made) for name, made in _COLUMNS.items()})
    for act in ("insert", "read"):
        for name in ("Sealed", "sealed"):
            for peer in (_AES, _FERNET, _GCM):
                aim = _AIMS[act, name] if peer == _AES else None
                yield _row(f"models: {act}, {name}", added[act, name], peer, added[act, peer], aim)
    engine.dispose()


def _of_django(url: str, records: Records) -> Iterator[Row]:
    added = _added(_django_models(url, records))
    for act in ("insert", "read"):
        yield _row(f"models: {act}, Django", added[act, "Sealed"], _DJANGO, added[act, _DJANGO], _AIMS[act, "Django"])


def _row(what: str, ours: float, peer: str, theirs: float, share: float | None) -> Row:
    aim = "" if share is None else f">= {1 / share:.2f}"
    return Row(
        f"{what}, added to a row", ours, peer, theirs, None, aim, None if share is None else ours <= share * theirs
    )


def _added(models: Mapping[str, Model]) -> dict[tuple[str, str], float]:
    """Return the seconds that each model adds to a row of the one called plain."""
    took: dict[tuple[str, str], list[float]] = {}
    for _ in range(_ROUNDS + 1):
        for name, model in models.items():
            for act, do in zip(("insert", "read"), model, strict=True):
                took.setdefault((act, name), []).append(_timed(do))
    # Those of one round together, so that a machine that is slow for a while is so for both; the first is warming up.
    return {
        (act, name): statistics.median(
            mine - plain for mine, plain in zip(times[1:], took[act, "plain"][1:], strict=True)
        )
        for (act, name), times in took.items()
    }


def _timed(do: Act) -> float:
    gc.collect()
    start = time.process_time()
    do()
    return (time.process_time() - start) / _COUNT


# --- SQLAlchemy


_COLUMNS: Final[Mapping[str, Callable[[], Any]]] = {
    "plain": lambda: orm.mapped_column(sa.Text),
    "Sealed": lambda: orm.mapped_column(Sealed(str)),
    "sealed": lambda: sealed(str, row="id"),
    _AES: lambda: orm.mapped_column(StringEncryptedType(sa.Text, _KEY, AesEngine, "pkcs5")),
    _FERNET: lambda: orm.mapped_column(StringEncryptedType(sa.Text, _KEY, FernetEngine)),
    _GCM: lambda: orm.mapped_column(StringEncryptedType(sa.Text, _KEY, AesGcmEngine)),
}


def _mapped(engine: sa.Engine, records: Records, made: Callable[[], Any]) -> Model:
    class Base(orm.DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
        tenant_id: orm.Mapped[str]
        email: orm.Mapped[str] = made()
        address: orm.Mapped[str] = made()

    use_records(Base.metadata, records)
    name = f"people_{id(Person)}"
    Person.__table__.name = Person.__table__.fullname = name  # type: ignore[attr-defined]
    Base.metadata.create_all(engine)

    def insert() -> None:
        with records.scope(tenant="acme"), orm.Session(engine) as session:
            session.execute(sa.text(f"TRUNCATE {name}"))
            session.add_all(
                Person(id=number, tenant_id="acme", email=email, address=address)
                for number, (email, address) in enumerate(_VALUES)
            )
            session.commit()

    def read() -> None:
        with records.scope(tenant="acme"), orm.Session(engine) as session:
            people = session.scalars(sa.select(Person).order_by(Person.id)).all()
            assert [(person.email, person.address) for person in people] == _VALUES

    return insert, read


# --- Django


def _django_models(url: str, records: Records) -> dict[str, Model]:
    from django.conf import settings

    import django

    socket = sa.make_url(url).query["host"]
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": socket,
                "USER": "app",
                "NAME": "postgres",
            }
        },
        INSTALLED_APPS=["sealwax.django"],
        SECRET_KEY=_KEY,
        SALT_KEY=_KEY,
        SEALWAX={"RECORDS": lambda: records},
        USE_TZ=True,
    )
    django.setup()
    from django.db import models
    from encrypted_fields.fields import EncryptedTextField

    import sealwax.django as front

    made: dict[str, Callable[[], Any]] = {
        "plain": models.TextField,
        "Sealed": lambda: front.Sealed(models.TextField(), row="id"),
        _DJANGO: EncryptedTextField,
    }
    return {name: _of_table(f"people_{number}", make) for number, (name, make) in enumerate(made.items())}


def _of_table(name: str, made: Callable[[], Any]) -> Model:
    from django.db import connection, models

    from sealwax.django import get_records

    meta = type("Meta", (), {"app_label": "sealwax", "db_table": name})
    body = {
        "__module__": __name__,
        "Meta": meta,
        "sealed_scope": {"tenant": "tenant"},
        "id": models.BigIntegerField(primary_key=True),
        "tenant": models.TextField(),
        "email": made(),
        "address": made(),
    }
    person: Any = type(f"Person{name}", (models.Model,), body)
    with connection.schema_editor() as editor:
        editor.create_model(person)

    def insert() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {name}")
        with get_records().scope(tenant="acme"):
            person.objects.bulk_create(
                [
                    person(id=number, tenant="acme", email=email, address=address)
                    for number, (email, address) in enumerate(_VALUES)
                ]
            )

    def read() -> None:
        with get_records().scope(tenant="acme"):
            assert [(each.email, each.address) for each in person.objects.order_by("id")] == _VALUES

    return insert, read


if __name__ == "__main__":
    print(machine())
    print(table(list(rows())))
