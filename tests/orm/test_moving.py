"""Columns that move to records, in three states that are deployed one after another: in place, or into a second one."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from cryptography import fernet
from sqlalchemy import insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, make_transient, mapped_column
from sqlalchemy.orm.attributes import flag_modified

from sealwax import Records
from sealwax.errors import ModelError, OldFormError, RecordError
from sealwax.records import MemoryKeys
from sealwax.records._form import text_length
from sealwax.records.moving import Fernet, Moving, OldForm, Plaintext
from sealwax.sqlalchemy import IndexOf, Scope, Sealed, sealed, use_records
from tests.fakes import FakeKeyring

LONGEST = text_length(57 + (1 << 20))
KEY = fernet.Fernet.generate_key()
State = Literal["old", "records", None]
STATES: tuple[State, ...] = ("old", "records", None)
TEXTS = ("Ada", "", "Тбилиси თბილისი Việt \U0001f511")


def _moving(old: OldForm, state: State) -> Moving | None:
    return None if state is None else Moving(old, writes=state)


def _model(state: State, old: OldForm) -> Any:
    """Return the model of a release: the same tables, in one of the states."""

    class Base(DeclarativeBase):
        pass

    moved: dict[str, Any] = {} if state is None else {"moving": Moving(Plaintext(), writes=state), "moved_from": "born"}

    class Person(Base):
        __tablename__ = "movers"
        __sealed_scope__ = Scope(tenant="tenant_id")
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant_id: Mapped[str] = mapped_column(sa.String(40))
        email: Mapped[str | None] = sealed(str, row="id", storage=sa.Text, moving=_moving(old, state))
        email_index: Mapped[bytes | None] = mapped_column(IndexOf("email", bits=32))
        photo: Mapped[bytes | None] = sealed(bytes, row="id", moving=_moving(old, state))
        notes: Mapped[str | None] = mapped_column(
            Sealed(str, storage=sa.String(600), length=60, moving=_moving(old, state))
        )
        born_before: Mapped[date | None] = mapped_column("born", sa.Date)
        born: Mapped[date | None] = sealed(date, row="id", name="born_sealed", **moved)
        born_index: Mapped[bytes | None] = mapped_column(IndexOf("born", bits=16))

    return Person


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as made:
        yield made


BOTH: tuple[State, State] = ("old", "records")


class Fleet:
    """A table, and a session for each release that uses it."""

    def __init__(self, url: str, records: Records, old: OldForm) -> None:
        self.engine = sa.create_engine(url)
        self.records = records
        self.models = {state: _model(state, old) for state in STATES}
        for model in self.models.values():
            use_records(model.metadata, records)
        self.models[None].metadata.drop_all(self.engine)
        self.models[None].metadata.create_all(self.engine)

    def session(self) -> Session:
        return Session(self.engine)

    def raw(self) -> dict[str, Any]:
        with self.engine.connect() as connection:
            row = (
                connection.execute(sa.text("SELECT email, photo, notes, born, born_sealed FROM movers"))
                .mappings()
                .one()
            )
            return {key: bytes(value) if isinstance(value, memoryview) else value for key, value in row.items()}


VALUES = {"email": "Ada", "photo": b"\x80\x04pickle", "notes": "VIP", "born": date(1815, 12, 10)}


@pytest.fixture(params=["plaintext", "fernet"])
def old(request: pytest.FixtureRequest) -> OldForm:
    return Plaintext() if request.param == "plaintext" else Fernet(KEY)


@pytest.fixture
def fleet(database: str, records: Records, old: OldForm) -> Iterator[Fleet]:
    made = Fleet(database, records, old)
    with records.scope(tenant="acme"):
        yield made
    made.models[None].metadata.drop_all(made.engine)
    made.engine.dispose()


def _is_moved(raw: dict[str, Any]) -> bool:
    """Whether the values of a row are records; all are, or none."""
    records = {
        str(raw["email"]).startswith("swr1."),
        raw["photo"][:1] == b"\xc1",
        raw["notes"].startswith("swr1."),
        raw["born_sealed"] is not None,
        raw["born"] is None,
    }
    assert len(records) == 1
    return bool(records.pop())


def test_releases_read_what_each_other_writes(fleet: Fleet) -> None:
    """A mixed fleet: states 1 and 2 at once, then 2 and 3."""
    seen_by: dict[State, tuple[State, ...]] = {
        "old": ("old", "records"),
        "records": STATES,
        None: ("records", None),
    }
    for writer, readers in seen_by.items():
        model = fleet.models[writer]
        with fleet.session() as session:
            session.execute(sa.delete(model))
            session.add(model(tenant_id="acme", **VALUES))
            session.commit()
        assert _is_moved(fleet.raw()) == (writer != "old")
        for reader in readers:
            other = fleet.models[reader]
            with fleet.session() as session:
                row = session.scalars(select(other)).one()
                assert {key: getattr(row, key) for key in VALUES} == VALUES
                columns = session.execute(select(other.email, other.photo, other.notes, other.born)).one()
                assert dict(zip(VALUES, columns, strict=True)) == VALUES
                assert other.email_index.find(session, "Ada") == other.born_index.find(session, VALUES["born"]) == [row]


def test_releases_overwrite_what_each_other_wrote(fleet: Fleet) -> None:
    with fleet.session() as session:
        model = fleet.models["old"]
        session.add(model(tenant_id="acme", **VALUES))
        session.commit()
    steps: tuple[tuple[State, str | None], ...] = (
        ("records", "b"),
        ("old", "c"),
        ("old", None),
        ("records", "d"),
        ("old", "e"),
    )
    for number, (state, value) in enumerate(steps):
        model = fleet.models[state]
        given = {
            "email": value,
            "photo": value and value.encode(),
            "notes": value,
            "born": value and date(2000, 1, number + 1),
        }
        with fleet.session() as session:
            row = session.scalars(select(model)).one()
            for key, each in given.items():
                setattr(row, key, each)
                assert getattr(row, key) == each
            session.commit()
            assert {key: getattr(row, key) for key in VALUES} == given
        for reader in BOTH:
            with fleet.session() as session:
                row = session.scalars(select(fleet.models[reader])).one()
                assert {key: getattr(row, key) for key in VALUES} == given
        if value is None:
            assert set(fleet.raw().values()) == {None}
        else:
            assert _is_moved(fleet.raw()) == (state == "records")


def test_a_release_overwrites_what_it_has_not_seen(fleet: Fleet) -> None:
    """Each has loaded the row before the other writes: the last one counts, in whichever column it writes."""
    for first, second in (BOTH, BOTH[::-1]):
        with fleet.session() as session:
            session.execute(sa.delete(fleet.models["old"]))
            session.add(fleet.models["old"](tenant_id="acme", born=date(1999, 1, 1)))
            session.commit()
        with fleet.session() as one:
            stale = one.scalars(select(fleet.models[second])).one()
            assert stale.born == date(1999, 1, 1)
            with Session(one.connection(), join_transaction_mode="create_savepoint") as other:
                other.scalars(select(fleet.models[first])).one().born = date(2001, 1, 1)
                other.commit()
            stale.born = date(2002, 1, 1)
            one.commit()
        for reader in BOTH:
            with fleet.session() as session:
                assert session.scalars(select(fleet.models[reader].born)).one() == date(2002, 1, 1)


def test_bulk_statements_write_what_the_state_says(fleet: Fleet) -> None:
    for state in STATES:
        model = fleet.models[state]
        table = model.__table__
        row = {"id": uuid4(), "tenant_id": "acme", **VALUES}
        core = {"born_sealed" if key == "born" else key: value for key, value in row.items()}
        writes: tuple[Callable[[Session], Any], ...] = (
            lambda session: session.execute(insert(model), [row]),  # noqa: B023
            lambda session: session.execute(insert(model).values([row])),  # noqa: B023
            lambda session: session.execute(insert(table), [core]),  # noqa: B023
            lambda session: session.execute(insert(table).values(**core)),  # noqa: B023
            lambda session: session.bulk_save_objects([model(**row)]),  # noqa: B023
        )
        for write in writes:
            with fleet.session() as session:
                session.execute(sa.delete(table))
                write(session)
                session.commit()
                assert _is_moved(fleet.raw()) == (state != "old")
                assert session.scalars(select(model.born)).one() == VALUES["born"]
                assert len(model.born_index.find(session, VALUES["born"])) == 1
                session.execute(update(model).values(notes="new"))
                session.commit()
                assert fleet.raw()["notes"].startswith("swr1.") == (state != "old")
                assert session.scalars(select(model.notes)).one() == "new"


def test_rows_that_change_keep_their_values(fleet: Fleet) -> None:
    for state in STATES:
        model = fleet.models[state]
        with fleet.session() as session:
            session.execute(sa.delete(model))
            session.add(model(tenant_id="acme", **VALUES))
            session.commit()
            row = session.scalars(select(model)).one()
            row.id = uuid4()
            session.commit()
            row.tenant_id = "beta"
            with fleet.records.scope(tenant="beta"):
                session.commit()
                assert {key: getattr(row, key) for key in VALUES} == VALUES
                assert model.born_index.find(session, VALUES["born"]) == [row]
                session.expire(row)
                row.tenant_id, row.born = "acme", None
                with fleet.records.scope(tenant="acme"):
                    session.commit()
                    assert (row.born, row.email, row.notes) == (None, "Ada", "VIP")


def test_a_flush_that_writes_a_value_again_keeps_it(fleet: Fleet) -> None:
    """Whichever state wrote the row, and whether or not the value differs."""
    for writer, state in ((writer, state) for writer in BOTH for state in BOTH):
        old, model = fleet.models[writer], fleet.models[state]
        for how in TOUCHES:
            with fleet.session() as session:
                session.execute(sa.delete(old))
                session.add(old(tenant_id="acme", **VALUES))
                session.commit()
            with fleet.session() as session:
                TOUCHES[how](session, session.scalars(select(model)).one())
                session.commit()
                row = session.scalars(select(model)).one()
                case = f"{how} in state {state} of what {writer} wrote"
                assert {key: getattr(row, key) for key in VALUES} == VALUES, case
                assert model.born_index.find(session, VALUES["born"]) == [row], case
                raw = fleet.raw()
                assert [raw["born"] is None, raw["born_sealed"] is None] == [state != "old", state == "old"], case


def _again(session: Session, row: Any) -> None:  # noqa: ARG001
    for key, value in VALUES.items():
        setattr(row, key, value)


def _flagged(session: Session, row: Any) -> None:  # noqa: ARG001
    for key in VALUES:
        flag_modified(row, key)


def _flagged_and_read(session: Session, row: Any) -> None:
    _flagged(session, row)
    assert row.born == VALUES["born"]


def _merged(session: Session, row: Any) -> None:
    session.expunge(row)
    session.merge(row)


def _merged_in_part(*loaded: str) -> Callable[[Session, Any], None]:
    def merge(session: Session, row: Any) -> None:
        model = type(row)
        session.expunge_all()
        part = session.scalars(select(model).options(load_only(*(getattr(model, key) for key in loaded)))).one()
        session.expunge(part)
        session.merge(part)

    return merge


def _inserted_again(session: Session, row: Any) -> None:
    session.delete(row)
    session.flush()
    make_transient(row)
    session.add(row)


TOUCHES: dict[str, Callable[[Session, Any], None]] = {
    "assigned again": _again,
    "flagged": _flagged,
    "flagged and read": _flagged_and_read,
    "merged": _merged,
    "merged without the old column": _merged_in_part("born"),
    "merged without the value": _merged_in_part("born_index", "born_before"),
    "inserted again": _inserted_again,
}


def test_null_is_written_to_both_columns(fleet: Fleet) -> None:
    for writer, state in ((writer, state) for writer in BOTH for state in BOTH):
        old, model = fleet.models[writer], fleet.models[state]
        for write in (
            lambda session, row: setattr(row, "born", None),  # noqa: ARG005
            lambda session, row: delattr(row, "born"),  # noqa: ARG005
            lambda session, row: session.merge(model(id=row.id, tenant_id="acme", born=None)),  # noqa: B023
            lambda session, row: session.execute(  # noqa: ARG005
                update(model).values(born=None, born_before=None)  # noqa: B023
            ),
        ):
            with fleet.session() as session:
                session.execute(sa.delete(old))
                session.add(old(tenant_id="acme", **VALUES))
                session.commit()
            with fleet.session() as session:
                row = session.scalars(select(model)).one()
                write(session, row)
                assert row.born is None
                session.commit()
                assert row.born is None
                assert (fleet.raw()["born"], fleet.raw()["born_sealed"], row.born_index) == (None, None, None)


@pytest.mark.parametrize("state", BOTH)
def test_null_of_json_is_null_of_the_database(
    records: Records, database: str, state: Literal["old", "records"]
) -> None:
    class Base(DeclarativeBase):
        pass

    class Form(Base):
        __tablename__ = "forms"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        answers_before: Mapped[dict[str, Any] | None] = mapped_column("answers", sa.JSON)
        answers: Mapped[dict[str, Any] | None] = sealed(
            dict, row="id", name="answers_sealed", moving=Moving(Plaintext(), writes=state), moved_from="answers"
        )

    use_records(Base.metadata, records)
    engine = sa.create_engine(database)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    values = "SELECT count(answers), count(answers_sealed) FROM forms"
    with Session(engine) as session:
        for number in (1, 2):
            form = Form(id=number, answers={"a": 1})
            session.add(form)
            session.commit()
            form.answers = {"a": 2}
            session.commit()
            assert form.answers == {"a": 2}
        assert session.execute(sa.text(values)).one() == ((2, 0) if state == "old" else (0, 2))
        form.answers = None
        assert form.answers is None
        session.commit()
        assert form.answers is None
        assert session.execute(sa.text(values)).one() == ((1, 0) if state == "old" else (0, 1))
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def sqlite_fleet(records: Records, old: OldForm, tmp_path: Any) -> Iterator[Fleet]:
    made = Fleet(f"sqlite:///{tmp_path}/a.db", records, old)
    with records.scope(tenant="acme"):
        yield made
    made.engine.dispose()


def test_unusual_text_comes_back(sqlite_fleet: Fleet) -> None:
    for state in STATES:
        model = sqlite_fleet.models[state]
        for text in TEXTS:
            with sqlite_fleet.session() as session:
                row = model(tenant_id="acme", email=text, notes=text, photo=text.encode())
                session.add(row)
                session.commit()
                assert (row.email, row.notes, row.photo) == (text, text, text.encode())


def test_what_looks_like_a_record_is_one(sqlite_fleet: Fleet, old: OldForm) -> None:
    model = sqlite_fleet.models["old"]
    with sqlite_fleet.session() as session:
        row = model(tenant_id="acme", email="swr1.secret", notes=None)
        session.add(row)
        if old.name == "plaintext":  # a token does not begin so
            with pytest.raises(OldFormError, match="would be taken for a record") as refused:
                session.flush()
            assert "secret" not in str(refused.value)
        session.rollback()
        session.add(model(tenant_id="acme", email="Ada", notes="x"))
        session.commit()
        session.execute(sa.text("UPDATE movers SET email = 'swr1.secret', notes = 'swr1.secret'"))
        session.expire_all()
        (key,) = session.scalars(select(model.id))
        for state in BOTH:
            other = sqlite_fleet.models[state]
            with pytest.raises(RecordError):
                session.scalars(select(other.email)).all()
            with pytest.raises(RecordError):
                session.get(other, key)


def test_old_values_are_counted_and_unreadable_ones_are_errors(sqlite_fleet: Fleet, old: OldForm) -> None:
    model = sqlite_fleet.models["old"]
    with sqlite_fleet.session() as session:
        session.add(model(tenant_id="acme", **VALUES))
        session.commit()
        counted = str(sqlite_fleet.records.stats())
        assert "movers.email" in counted
        assert "movers.born" in counted
        if old.name == "fernet":
            session.execute(sa.text("UPDATE movers SET email = 'secret', notes = NULL"))
            session.expire_all()
            row = session.scalars(select(model)).one()
            with pytest.raises(OldFormError, match=r"'movers\.email': .*cannot be read as fernet") as refused:
                assert row.email
            assert "secret" not in str(refused.value)


def _flushed(session: Session, row: Any) -> None:
    row.born_before = date(2000, 1, 1)
    session.flush()


def _of_one_column(session: Session, model: Any, row: UUID) -> tuple[Callable[[], Any], ...]:
    """Return statements that name the row, and leave what is in the other column."""
    table, new = model.__table__, date(2002, 1, 1)
    of_row = update(model).where(model.id == row, model.tenant_id == "acme")
    whole = {"id": row, "tenant_id": "acme"}
    upsert = sqlite.insert(table).values(**whole, born_sealed=new)
    one = {key: upsert.excluded[key] for key in ("tenant_id", "born_sealed", "born_index")}
    return (
        lambda: session.execute(of_row.values(born=new)),
        lambda: session.execute(of_row.values(born=None)),
        lambda: session.execute(of_row.values(born=new, born_before=new)),
        lambda: session.execute(of_row.values(born=None, born_before=new)),  # without its index
        lambda: session.execute(update(table).where(table.c.id == row).values(born_sealed=sa.null())),
        lambda: session.execute(update(model), [{"id": row, "born": new}]),
        lambda: session.execute(update(model), [{"id": row, "born": None}]),
        lambda: session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_=one)),
        lambda: session.execute(insert(table).values(id=uuid4(), tenant_id="acme", born=new, born_sealed=new)),
        lambda: session.execute(insert(table).values(id=uuid4(), tenant_id="acme", born=new, born_sealed=None)),
    )


def test_one_of_two_columns_is_not_written_alone(sqlite_fleet: Fleet) -> None:
    for state in BOTH:
        model = sqlite_fleet.models[state]
        with sqlite_fleet.session() as session:
            row = model(tenant_id="acme", **VALUES)
            session.add(row)
            session.commit()
            writes: tuple[Callable[[], Any], ...] = (
                lambda: session.execute(update(model.__table__).values(born=date(2000, 1, 1))),  # noqa: B023
                lambda: session.execute(update(model).values(born_before=date(2000, 1, 1))),  # noqa: B023
                lambda: session.execute(update(model).values({model.born_before: date(2000, 1, 1)})),  # noqa: B023
                lambda: _flushed(session, row),  # noqa: B023
                *_of_one_column(session, model, row.id),
            )
            for write in writes:
                with pytest.raises(ModelError, match=r"values of 'movers\.born' move to 'born_sealed': set that one"):
                    write()
                session.rollback()


def test_the_last_day_is_told_when_a_class_is_defined(records: Records) -> None:  # noqa: ARG001
    def define(until: date) -> None:
        moving = Moving(Plaintext(), writes="old", until=until)
        sa.Table("t", sa.MetaData(), sa.Column("v", Sealed(str, moving=moving)))

    today = datetime.datetime.now(datetime.UTC).date()
    with pytest.raises(ModelError, match=r"'t\.v' was to hold plaintext until"):
        define(today - datetime.timedelta(days=1))
    with pytest.warns(FutureWarning, match=r"'t\.v' is to hold plaintext until"):
        define(today + datetime.timedelta(days=20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        define(today + datetime.timedelta(days=40))


def _mapped(**columns: Any) -> Callable[[], Any]:
    def make() -> Any:
        base = type("Base", (DeclarativeBase,), {})
        own = {"__tablename__": "t", "id": mapped_column(sa.Integer, primary_key=True, autoincrement=False)}
        return type("T", (base,), {**own, **columns})

    return make


OLD = Moving(Plaintext(), writes="old")
WRONG: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "no column": (
        ModelError,
        "moved_from='w', and there is no such column",
        _mapped(v=sealed(str, row="id", nullable=True, moving=OLD, moved_from="w")),
    ),
    "itself": (
        ModelError,
        "moved_from='v', and there is no such column",
        _mapped(v=sealed(str, row="id", nullable=True, moving=OLD, moved_from="v")),
    ),
    "not nullable": (
        ModelError,
        r"'t\.v' has to be nullable=True",
        _mapped(v=sealed(str, row="id", nullable=False, moving=OLD, moved_from="w"), w=mapped_column(sa.Text)),
    ),
    "old not nullable": (
        ModelError,
        r"'t\.w' has to be nullable=True",
        _mapped(
            v=sealed(str, row="id", nullable=True, moving=OLD, moved_from="w"), w=mapped_column(sa.Text, nullable=False)
        ),
    ),
    "no moving": (TypeError, "moved_from names the column", lambda: sealed(str, row="id", moved_from="w")),
    "not a moving": (TypeError, "moving is a Moving, .* not str", lambda: Sealed(str, moving="secret")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_move_is_refused(name: str) -> None:
    error, match, make = WRONG[name]
    with pytest.raises(error, match=match) as refused:
        make()
    assert "secret" not in str(refused.value)


# --- storage


@pytest.mark.parametrize(
    ("value_type", "options", "needed"),
    [
        (str, {"length": 50, "storage": sa.String(300)}, 350),
        (str, {"length": 50, "storage": sa.VARBINARY(200)}, 258),
        (bytes, {"length": 50, "storage": sa.LargeBinary(100)}, 108),
        (date, {"storage": sa.String(50)}, 96),
        (UUID, {"storage": sa.VARBINARY(73)}, 74),
        (str, {"storage": sa.String(4000)}, LONGEST),
        (str, {"storage": mysql.BLOB()}, None),
        (str, {"storage": mysql.TEXT()}, LONGEST),
        (str, {"length": 50, "storage": mysql.TINYBLOB()}, 258),
        (str, {"length": 50, "storage": mysql.TINYTEXT()}, 350),
        (str, {"length": 50, "storage": sa.Text().with_variant(mysql.VARCHAR(200), "mysql")}, 350),
        (str, {"storage": sa.Text()}, None),
        (str, {"storage": sa.Text}, None),
        (str, {"storage": postgresql.BYTEA}, None),
        (str, {"storage": mysql.LONGTEXT}, None),
        (str, {"storage": mysql.MEDIUMBLOB}, None),
        (str, {"length": 50, "storage": sa.String(350)}, None),
        (str, {"length": 50, "storage": sa.VARBINARY(258)}, None),
        (date, {"storage": sa.String(96)}, None),
    ],
)
def test_a_column_that_is_too_short_is_refused(value_type: type, options: dict[str, Any], needed: int | None) -> None:
    for kind in (Sealed(value_type, **options), None):
        column = mapped_column(kind) if kind is not None else sealed(value_type, row="id", **options)
        if needed is None:
            _mapped(v=column)()
            continue
        with pytest.raises(
            ModelError, match=rf"'t\.v' of type .* a record takes up to {needed:,}.*: make it {needed:,}"
        ):
            _mapped(v=column)()


@pytest.mark.parametrize("storage", [sa.Integer, sa.CHAR(400), sa.BINARY(400), sa.Enum("a"), sa.JSON, sa.NCHAR(400)])
def test_a_column_of_another_type_is_refused(storage: Any) -> None:
    with pytest.raises(TypeError, match=r"storage (is a type of text or bytes|cannot be .* which pads)"):
        Sealed(str, length=5, storage=storage)


def test_the_longest_values_fit(database: str, records: Records) -> None:
    metadata = sa.MetaData()
    use_records(metadata, records)
    table = sa.Table(
        "longest",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("short", Sealed(str, length=50, storage=sa.String(350))),
        sa.Column(
            "blob", Sealed(str, length=50, storage=sa.VARBINARY(258).with_variant(postgresql.BYTEA(), "postgresql"))
        ),
        sa.Column("text", Sealed(str, storage=sa.Text)),
        sa.Column("any", Sealed(bytes)),
        sa.Column("when", Sealed(datetime.datetime, storage=sa.String(140))),
    )
    offset = datetime.timezone(datetime.timedelta(hours=-23, minutes=59, seconds=59, microseconds=1))
    row = {
        "id": 1,
        "short": "\U0001f511" * 50,
        "blob": "\U0001f511" * 50,
        "text": "x" * ((1 << 20) - 1),
        "any": bytes((1 << 20) - 1),
        "when": datetime.datetime(2026, 2, 28, 12, 1, 2, 3, offset),
    }
    engine = sa.create_engine(database)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [row])
        assert dict(connection.execute(select(table)).mappings().one()) == row
    metadata.drop_all(engine)
    engine.dispose()


def test_a_row_that_changes_writes_its_value_even_if_that_is_moved_meanwhile(fleet: Fleet) -> None:
    for state in BOTH:
        model = fleet.models[state]
        with fleet.session() as session:
            session.execute(sa.delete(model))
            session.add(fleet.models["old"](tenant_id="acme", born=date(1815, 12, 10)))
            session.commit()
            row = session.scalars(select(model)).one()
            session.rollback()  # and read again, before another process writes
            assert row.born == date(1815, 12, 10)
            # As if it had been moved.
            session.execute(sa.text(f"UPDATE {model.__tablename__} SET born = NULL"))
            row.id = uuid4()
            session.commit()
            raw = fleet.raw()
            assert [name for name in ("born", "born_sealed") if raw[name] is not None] == [
                "born" if state == "old" else "born_sealed"
            ]
            assert session.scalars(select(model.born)).one() == date(1815, 12, 10)
