"""Writes old-forms.json: what other libraries stored, made once by these libraries themselves.

Each library had an environment of its own, and was asked through its own types and fields over SQLite::

    python make_old_forms.py sqlalchemy-utils           # sqlalchemy-utils 0.43.0
    python make_old_forms.py django-cryptography        # Django 4.2, django-cryptography 1.1
    python make_old_forms.py django-fernet-encrypted-fields      # Django 4.2, 0.4.0
    python make_old_forms.py django-fernet-fields       # Django 2.2, 0.6
    python make_old_forms.py django-fernet-fields-v2    # Django 4.2, 0.9
    python make_old_forms.py djfernet                   # Django 4.2, 0.8.1

Each run replaces the part of its library. What ``read_back`` is false of, the library could not read itself.
"""

# mypy: ignore-errors

import datetime
import decimal
import importlib
import json
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).with_name("old-forms.json")
KEY = "a key of the settings, Größe 1"
OLDER_KEY = "an older key"
OTHER_SETTINGS = "django-cryptography, other settings"
SALT = "a salt of the settings"
TEXTS = (
    "",
    "a",
    "4111 1111 1111 1111",
    "Nguyễn Thị Minh Khai",
    "გამარჯობა",
    "À",
    "🦭 and\nmore",
    "x" * 300,
    "fifteen letters",
    "sixteen letters!",
)
NAIVE = datetime.datetime(2026, 2, 28, 13, 14, 15, 161718)  # noqa: DTZ001  as many programs have them
AWARE = datetime.datetime(2026, 2, 28, 13, 14, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30)))


def written(value):
    """Return a value as JSON: its type, and how it is written."""
    kind = type(value).__name__
    if isinstance(value, (datetime.date, datetime.datetime)):
        return {"type": kind, "value": value.isoformat()}
    if isinstance(value, bytes):
        return {"type": kind, "value": value.hex()}
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return {"type": kind, "value": str(value)}
    return {"type": kind, "value": value}


def entry(form, arguments, stored, value, read_back):
    in_hex = isinstance(stored, (bytes, memoryview))
    stored = {"hex": bytes(stored).hex()} if in_hex else {"text": stored}
    return {"form": form, "arguments": arguments, "stored": stored, **written(value), "read_back": read_back}


# --- sqlalchemy-utils


def sqlalchemy_utils():
    import sqlalchemy as sa
    from sqlalchemy_utils import EncryptedType, JSONType, StringEncryptedType
    from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine, FernetEngine

    typed = [
        (sa.Integer, 42), (sa.Integer, -(2**70)), (sa.Boolean, True), (sa.Boolean, False), (sa.Float, 1.5e-7),
        (sa.Numeric, decimal.Decimal("12.50")), (sa.Date, datetime.date(2026, 2, 28)), (sa.DateTime, NAIVE),
        (sa.DateTime(timezone=True), AWARE), (sa.Uuid, uuid.UUID(int=2**127 + 5)), (JSONType, {"a": [1, None, "გ"]}),
    ]  # fmt: skip
    engines = [(AesEngine, padding) for padding in ("pkcs5", "oneandzeroes", "zeroes", "naive")]
    engines += [(AesGcmEngine, None), (FernetEngine, None)]
    for engine, padding in engines:
        arguments = {"key": KEY, **({"padding": padding} if padding else {})}
        for outer in (StringEncryptedType, EncryptedType):
            values = [(sa.Unicode, text) for text in TEXTS] + (typed if outer is StringEncryptedType else typed[:1])
            for inner, value in values:
                stored, read_back = through_sqlalchemy(sa, outer(inner, KEY, engine, padding), value)
                yield entry(engine.__name__, arguments, stored, value, read_back)


def through_sqlalchemy(sa, kind, value):
    database = sa.create_engine("sqlite://")
    table = sa.Table("t", sa.MetaData(), sa.Column("v", kind))
    table.metadata.create_all(database)
    with database.begin() as connection:
        connection.execute(table.insert(), {"v": value})
        stored = connection.exec_driver_sql("SELECT v FROM t").scalar()
        try:
            read_back = connection.scalar(sa.select(table.c.v)) == value
        except Exception:
            read_back = False
    return stored, read_back


# --- Django


def start_django(**settings):
    from django.conf import settings as django_settings

    import django

    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    base = {"SECRET_KEY": KEY, "DATABASES": databases, "USE_TZ": True, "TIME_ZONE": "Asia/Tbilisi"}
    django_settings.configure(INSTALLED_APPS=[], **base, **settings)
    django.setup()


def through_django(field, value):
    """Return what a field stores, and whether it reads that back."""
    from django.db import connection, models

    through_django.count = getattr(through_django, "count", 0) + 1
    meta = type("Meta", (), {"app_label": "old"})
    model = type(f"M{through_django.count}", (models.Model,), {"__module__": __name__, "Meta": meta, "v": field})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    model(v=value).save()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT v FROM {model._meta.db_table}")
        (stored,) = cursor.fetchone()
    try:
        read_back = model.objects.get().v == value
    except Exception:
        read_back = False
    return stored, read_back


def fernet_fields(arguments, **settings):
    start_django(**settings)
    fields = importlib.import_module("fernet_fields")
    text = fields.EncryptedTextField
    values = [(text, value) for value in TEXTS]
    values += [(fields.EncryptedIntegerField, -42), (fields.EncryptedDateField, datetime.date(2026, 2, 28))]
    values += [(fields.EncryptedDateTimeField, AWARE)]
    if hasattr(fields, "EncryptedBinaryField"):
        values.append((fields.EncryptedBinaryField, bytes(range(256))))
    for kind, value in values:
        yield entry("DjangoFernetFields", arguments, *through(kind(), value))
    # As PostgreSQL's backend prepares it, which leaves datetimes as they are.
    token = fields.EncryptedDateTimeField().fernet.encrypt(str(AWARE).encode())
    yield entry("DjangoFernetFields", arguments, token, AWARE, True)
    # The key before the newest one.
    from cryptography.fernet import Fernet

    older = Fernet(text().fernet_keys[-1]).encrypt(b"under the last key")
    yield entry("DjangoFernetFields", arguments, older, "under the last key", True)


def through(field, value):
    stored, read_back = through_django(field, value)
    return stored, value, read_back


def django_fernet_fields():
    return fernet_fields({"keys": [KEY, OLDER_KEY]}, FERNET_KEYS=[KEY, OLDER_KEY])


def django_fernet_fields_v2():
    return fernet_fields({"keys": [KEY]})  # SECRET_KEY


def djfernet():
    return fernet_fields({"keys": [KEY], "prefix": "a-prefix"}, DJFERNET_PREFIX=b"a-prefix")


def django_fernet_encrypted_fields():
    start_django(SALT_KEY=[SALT, "an older salt"], SECRET_KEY_FALLBACKS=[OLDER_KEY])
    import encrypted_fields.fields as fields

    arguments = {"secret_keys": [KEY, OLDER_KEY], "salts": [SALT, "an older salt"]}
    values = [(fields.EncryptedTextField, value) for value in TEXTS if value]  # "" becomes NULL
    values += [
        (fields.EncryptedIntegerField, -42), (fields.EncryptedDateField, datetime.date(2026, 2, 28)),
        (fields.EncryptedDateTimeField, AWARE), (fields.EncryptedFloatField, 1.5e-7),
        (fields.EncryptedBooleanField, True), (fields.EncryptedEmailField, "a@example.com"),
        (fields.EncryptedJSONField, {"a": ["x", "გ"], "b": {"c": "1"}}),
    ]  # fmt: skip
    for kind, value in values:
        yield entry("DjangoFernetEncryptedFields", arguments, *through(kind(), value))


def django_cryptography():
    start_django()
    from django.db import models
    from django_cryptography.fields import encrypt

    yield from of_django_cryptography(models, encrypt, {"secret_key": KEY}, {})
    key = bytes(range(32))
    some = [(models.TextField(), "of a field with a key of its own")]
    yield from of_django_cryptography(models, encrypt, {"secret_key": KEY, "field_key": key.hex()}, {"key": key}, some)
    # Settings are read once in a process.
    done = subprocess.run([sys.executable, __file__, OTHER_SETTINGS], check=True, stdout=subprocess.PIPE)
    yield from json.loads(done.stdout)


def django_cryptography_with_other_settings():
    start_django(CRYPTOGRAPHY_KEY=OLDER_KEY, CRYPTOGRAPHY_SALT=SALT)
    from django.db import models
    from django_cryptography.fields import encrypt

    arguments = {"secret_key": KEY, "cryptography_key": OLDER_KEY, "salt": SALT}
    value = "of settings with a key and a salt"
    return [entry("DjangoCryptography", arguments, *through(encrypt(models.TextField()), value))]


def of_django_cryptography(models, encrypt, arguments, options, values=None):
    import zoneinfo

    import pytz
    from django.utils.safestring import mark_safe

    utc = datetime.datetime(2026, 2, 28, 13, 14, 15, 161718, tzinfo=datetime.UTC)
    tbilisi = utc.astimezone(zoneinfo.ZoneInfo("Asia/Tbilisi"))
    values = values or [(models.TextField(), text) for text in TEXTS] + [
        (models.IntegerField(), -42), (models.BigIntegerField(), 2**60), (models.BooleanField(), True),
        (models.FloatField(), 1.5e-7), (models.DecimalField(max_digits=9, decimal_places=2), decimal.Decimal("12.50")),
        (models.DateField(), datetime.date(2026, 2, 28)), (models.DateTimeField(), AWARE),
        (models.DateTimeField(), utc), (models.DateTimeField(), tbilisi), (models.BinaryField(), bytes(range(256))),
        (models.UUIDField(), uuid.UUID(int=2**127 + 5)), (models.JSONField(), {"a": [1, None, "გ", 1.5]}),
    ]  # fmt: skip
    for field, value in values:
        yield entry("DjangoCryptography", arguments, *through(encrypt(field, **options), value))
    if options:
        return
    for field, given in [
        (models.DateTimeField(), utc.astimezone(pytz.utc)),
        (models.DateTimeField(), utc.astimezone(pytz.timezone("Asia/Tbilisi"))),
        (models.TextField(), mark_safe("<b>safe</b>")),
    ]:
        stored, read_back = through_django(encrypt(field, **options), given)
        value = "".join(given) if isinstance(given, str) else given
        yield entry("DjangoCryptography", arguments, stored, value, read_back)


LIBRARIES = {
    "sqlalchemy-utils": sqlalchemy_utils,
    "django-cryptography": django_cryptography,
    "django-fernet-encrypted-fields": django_fernet_encrypted_fields,
    "django-fernet-fields": django_fernet_fields,
    "django-fernet-fields-v2": django_fernet_fields_v2,
    "djfernet": djfernet,
}


def main():
    (library,) = sys.argv[1:]
    if library == OTHER_SETTINGS:
        print(json.dumps(django_cryptography_with_other_settings()))
        return
    parts = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    framework = "sqlalchemy" if library == "sqlalchemy-utils" else "django"
    made_with = {name: version(name) for name in (library, framework, "cryptography")}
    made_with["python"] = ".".join(map(str, sys.version_info[:2]))
    parts[library] = {"made_with": made_with, "values": list(LIBRARIES[library]())}
    FILE.write_text(json.dumps(dict(sorted(parts.items())), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
