"""Old forms by name, as files name them; their keys come from a file of their own or from the environment."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import os
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from sealwax._core import trusted
from sealwax._core.files import reading
from sealwax._text import printable
from sealwax.errors import TableError
from sealwax.records._old_forms import AnyOf, Fernet, OldForm, Plaintext

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
_OPTIONS: Final = {"form", "keys_file", "keys_env", "zone"}

PLAINTEXT: Final = "plaintext"

Zone = datetime.tzinfo | None
_KEYED: Final[Mapping[str, Callable[[Sequence[str], Zone], OldForm]]] = {
    "fernet": lambda keys, zone: Fernet(*keys, zone=zone),
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
        keys = _keys_of_file(self._folder / source) if "keys_file" in options else _keys_of_env(source)
        if not keys:
            raise ValueError(f"{where}: there is no key in '{printable(source)}'")
        try:
            return _KEYED[name](keys, zone)
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
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ValueError(
            f"{where}: 'moves_from' has the unknown key '{printable(unknown[0])}'; there are "
            f"{', '.join(sorted(_OPTIONS))}"
        )
    sources = [options[source] for source in ("keys_file", "keys_env") if source in options]
    if options["form"] == PLAINTEXT and sources:
        raise ValueError(f"{where}: plaintext takes no keys")
    if options["form"] != PLAINTEXT and (len(sources) != 1 or not isinstance(sources[0], str) or not sources[0]):
        raise ValueError(
            f"{where}: the form '{options['form']}' needs its keys: keys_file, a file with one key per line, the "
            "newest first; or keys_env, an environment variable with keys that commas separate"
        )
    return options


def _keys_of_file(path: Path) -> list[str]:
    with reading.reported("reading the file of keys", path), trusted.open_file(path, _KEYS_FILE) as file:
        data = file.read(_MAX_FILE + 1)
    text: str | None = None
    if len(data) <= _MAX_FILE:
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode()
    if text is None:
        raise TableError(f"the file of keys '{printable(os.fspath(path))}' is not text, or has more than 64 KiB")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _keys_of_env(name: str) -> list[str]:
    return [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]


def _zone(name: object, where: str) -> Zone:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name if isinstance(name, str) else "")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError(f"{where}: 'zone' is the name of a time zone, such as \"Europe/Berlin\"") from None
