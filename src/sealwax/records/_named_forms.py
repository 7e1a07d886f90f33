"""Old forms by name, as files name them; their keys come from a file of their own or from the environment."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import os
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from sealwax._core import trusted
from sealwax._core.files import reading
from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records._old_django import DjangoCryptography, DjangoFernetEncryptedFields, DjangoFernetFields
from sealwax.records._old_forms import AnyOf, Fernet, OldForm, Plaintext
from sealwax.records._old_sqlalchemy import AesEngine, AesGcmEngine, FernetEngine

KINDS: Final[Mapping[str, type]] = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "bool": bool,
    "float": float,
    "decimal": decimal.Decimal,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "uuid": UUID,
    "dict": dict,
    "list": list,
}
_MAX_FILE: Final = 1 << 16
_KEYS_FILE: Final = trusted.Kind("the file of keys", TableError)
PLAINTEXT: Final = "plaintext"
_OPTIONS: Final = {"form", "keys_file", "keys_env", "zone"}

Zone = datetime.tzinfo | None


class _Keyed(NamedTuple):
    """A form with keys.

    Attributes:
        make: makes it, from its keys, its zone and its own option.
        option: the name of that option.
        single: whether there is one key, which may be any text.
    """

    make: Callable[[Sequence[str], Zone, Any], OldForm]
    option: str = ""
    single: bool = False


_KEYED: Final[Mapping[str, _Keyed]] = {
    "fernet": _Keyed(lambda keys, zone, _: Fernet(*keys, zone=zone)),
    "fernet-engine": _Keyed(lambda keys, zone, _: FernetEngine(*keys, zone=zone), single=True),
    "aes-engine": _Keyed(
        lambda keys, zone, padding: AesEngine(keys[0], padding or "naive", zone=zone), "padding", single=True
    ),
    "aes-gcm-engine": _Keyed(lambda keys, zone, _: AesGcmEngine(keys[0], zone=zone), single=True),
    "django-fernet-fields": _Keyed(lambda keys, zone, _: DjangoFernetFields(*keys, zone=zone)),
    "django-fernet-encrypted-fields": _Keyed(
        lambda keys, zone, salt: DjangoFernetEncryptedFields(*keys, salts=salt or "", zone=zone), "salt", single=True
    ),
    "django-cryptography": _Keyed(lambda keys, zone, _: DjangoCryptography(keys[0], zone=zone), single=True),
}


class NamedForms:
    """Makes old forms as a file describes them; the same description gives the same form.

    Args:
        folder: where files of keys are, unless their whole path is given.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, OldForm] = {}

    def form(self, given: object, where: str) -> OldForm:
        """Return an old form.

        Args:
            given: a name, a table with the name and where the keys are, or a list of these.
            where: what messages call the place in the file.

        Raises:
            ValueError: there is no such form, or a key is not usable; the message shows none.
            TableError: a file of keys cannot be read, or others could have written it.
        """
        if isinstance(given, list):
            return AnyOf(*(self.form(part, where) for part in given))
        options = _checked({"form": given} if isinstance(given, str) else given, where)
        described = repr(sorted(options.items()))
        if described not in self._made:
            self._made[described] = self._new(options, where)
        return self._made[described]

    def _new(self, options: Mapping[str, object], where: str) -> OldForm:
        name, zone = str(options["form"]), _zone(options.get("zone"), where)
        if name == PLAINTEXT:
            return Plaintext(zone=zone)
        source = str(options.get("keys_file", options.get("keys_env")))
        keyed = _KEYED[name]
        text = _file_of_keys(self._folder / source) if "keys_file" in options else os.environ.get(source, "")
        separator = "\n" if "keys_file" in options else ","
        keys = [key.strip() for key in ([text] if keyed.single else text.split(separator)) if key.strip()]
        if not keys:
            raise ValueError(f"{where}: there is no key in '{printable(source)}'")
        try:
            return keyed.make(keys, zone, options.get(keyed.option))
        except (ValueError, TypeError) as error:
            why = str(error)
        raise ValueError(f"{where}: a key of the form '{name}' is not usable: {why}")


def _checked(options: object, where: str) -> Mapping[str, object]:
    if not isinstance(options, dict) or options.get("form") not in (PLAINTEXT, *_KEYED):
        forms = ", ".join((PLAINTEXT, *_KEYED))
        raise ValueError(
            f'{where}: \'moves_from\' is "plaintext", {{ form = "fernet", keys_env = "NAME" }} or a list of '
            f"these; the forms are {forms}"
        )
    own = _KEYED[options["form"]].option if options["form"] in _KEYED else ""
    known = sorted({*_OPTIONS, own} - {""})
    if unknown := sorted(options.keys() - known):
        raise ValueError(
            f"{where}: 'moves_from' has the unknown key '{printable(unknown[0])}'; there are {', '.join(known)}"
        )
    if not isinstance(options.get(own, ""), str):
        raise ValueError(f"{where}: '{own}' is a text")
    sources = [options[source] for source in ("keys_file", "keys_env") if source in options]
    if options["form"] == PLAINTEXT and sources:
        raise ValueError(f"{where}: plaintext takes no keys")
    if options["form"] != PLAINTEXT and (len(sources) != 1 or not isinstance(sources[0], str) or not sources[0]):
        raise ValueError(
            f"{where}: the form '{options['form']}' needs its keys: keys_file, a file with one key per line, the "
            "newest first; or keys_env, an environment variable with keys that commas separate"
        )
    return options


def _file_of_keys(path: Path) -> str:
    with reading.reported("reading the file of keys", path), trusted.open_file(path, _KEYS_FILE) as file:
        data = file.read(_MAX_FILE + 1)
    text: str | None = None
    if len(data) <= _MAX_FILE:
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode()
    if text is None:
        raise TableError(f"the file of keys '{printable(os.fspath(path))}' is not text, or has more than 64 KiB")
    return text


def _zone(name: object, where: str) -> Zone:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name if isinstance(name, str) else "")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError(f"{where}: 'zone' is the name of a time zone, such as \"Europe/Berlin\"") from None
