"""The settings file: ``sealwax.toml``, or ``[tool.sealwax]`` in ``pyproject.toml``, in the current folder or above it.

It says under which keys and context files are sealed, so it is read only if nobody but the caller and root can have
written it, and one that is not is refused, not ignored. It never sets what could lead keys or data elsewhere: a lab, an
endpoint, credentials.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from sealwax._core import context as ctx
from sealwax._core import disk, trusted
from sealwax._core.format.header import MAX_WRAPPED_KEYS
from sealwax._text import printable, why_not_read
from sealwax.errors import ConfigurationError, ContextError, SettingsError
from sealwax.stores._store import S3_SCHEME

VARIABLE: Final = "SEALWAX_SETTINGS"
MAX_WORKERS: Final = 256

_NAME: Final = "sealwax.toml"
_PYPROJECT: Final = "pyproject.toml"
_KIND: Final = trusted.Kind("the settings file", SettingsError)
_MAX_BYTES: Final = 256 << 10
# The time that reading a dotted key takes grows with the square of its length.
_MAX_DOTS_IN_LINE: Final = 100
_MAX_SHOWN: Final = 100

_OF_FILES: Final = ("key", "context", "local_context")
_OF_RUNS: Final = ("region", "profile", "suffix", "workers", "store")
_NEVER: Final = (
    (re.compile(r"lab([_-].*)?"), "a lab stands in for AWS KMS (use --lab or SEALWAX_LAB)"),
    (re.compile(r".*(endpoint|_url|-url).*"), "an endpoint receives data keys (use --endpoint-url)"),
    (
        re.compile(r".*(access[_-]?key|secret|token|credential|pass(word|phrase)|role|mfa).*|aws[_-].*"),
        "credentials and the ways to get them do not belong here (name an AWS profile with 'profile')",
    ),
)


def is_suffix(text: str) -> bool:
    """Whether a text can be the suffix of envelopes' names."""
    return bool(text) and "/" not in text


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern of paths, as in .gitignore: what it matches, and everything below.

    Without a ``/`` it matches names in any folder; with one, paths below the folder of the settings file. ``*``, ``?``
    and ``[...]`` stay within a name, and ``**`` is any number of folders. One that begins with s3:// is for objects.
    """

    text: str

    def matches(self, parts: tuple[str, ...]) -> bool:
        """Whether it matches a path, given in parts."""
        pieces = _pieces(self.text)
        at = {0}
        for part in parts:
            # "**" may also stand for no folder.
            at |= {place + 1 for place in at if pieces[place] is None}
            stay = {place for place in at if pieces[place] is None}
            at = stay | {place + 1 for place in at if (piece := pieces[place]) is not None and piece(part)}
            if len(pieces) in at:
                return True
        return False


@functools.cache
def _pieces(pattern: str) -> tuple[Callable[[str], object] | None, ...]:
    """Return what matches each part of a path; None for any number of parts."""
    names = pattern.removeprefix(S3_SCHEME).removeprefix("./").removesuffix("/").split("/")
    if "/" not in pattern.removesuffix("/"):
        names.insert(0, "**")
    # What it matches includes all below, so that "**" at the end means any name.
    names[-1] = "*" if names[-1] == "**" else names[-1]
    names = [name for name, after in itertools.pairwise([*names, ""]) if (name, after) != ("**", "**")]
    return tuple(None if name == "**" else re.compile(fnmatch.translate(name)).match for name in names)


@dataclass(frozen=True, slots=True)
class Layer:
    """What the top of the file, or a rule, says about how files are sealed.

    Attributes:
        number: the rule's, from 1; 0 for the top.
    """

    keys: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    local_context: tuple[str, ...] = ()
    number: int = 0
    patterns: tuple[PathPattern, ...] = ()

    @property
    def shown(self) -> str:
        """How messages name a rule."""
        return f"rule {self.number} ({printable(', '.join(pattern.text for pattern in self.patterns))})"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file.

    Attributes:
        path: its absolute path.
        top: what counts for every file, as far as no rule says otherwise.
    """

    path: str
    top: Layer
    rules: tuple[Layer, ...] = ()
    region: str | None = None
    profile: str | None = None
    suffix: str | None = None
    workers: int | None = None
    store: str | None = None

    def layers(self, name: str | None) -> tuple[Layer, ...]:
        """Return what counts for a file or object, the nearer last: the top, and the first rule that matches.

        Args:
            name: the name of the plaintext, as on the command line; None for a stream, which no rule matches.
        """
        parts = None if name is None else self._parts(name)
        if parts is not None:
            s3 = str(name).startswith(S3_SCHEME)
            for rule in self.rules:
                if any(p.text.startswith(S3_SCHEME) == s3 and p.matches(parts) for p in rule.patterns):
                    return self.top, rule
        return (self.top,)

    def _parts(self, name: str) -> tuple[str, ...] | None:
        """Return the parts of a path below the file's folder; None outside of it."""
        if name.startswith(S3_SCHEME):
            return tuple(name.removeprefix(S3_SCHEME).split("/"))
        folder = os.path.dirname(self.path)
        parent, name = os.path.split(name)
        real = os.path.join(os.path.realpath(parent or "."), name)
        for here, path in ((folder, os.path.abspath(os.path.join(parent, name))), (os.path.realpath(folder), real)):
            if path.startswith(os.path.join(here, "")):
                return tuple(os.path.relpath(path, here).split("/"))
        return None


def keys_of(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Return the keys of the nearest layer that names any."""
    return next((layer.keys for layer in reversed(layers) if layer.keys), ())


def context_of(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Return the pairs of all layers; of the same name, the nearest counts."""
    return {name: value for layer in layers for name, value in layer.context.items()}


def local_of(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Return the names of local pairs, of all layers: none of them may reach KMS."""
    return tuple(dict.fromkeys(name for layer in layers for name in layer.local_context))


def read() -> SettingsFile | None:
    """Return the settings that count in the current folder; None if there are none.

    Raises:
        SettingsError: the file is not trusted, or cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if named in ("", os.devnull):
        return None
    if named is not None:
        return _named(named)
    for folder in _folders():
        path = os.path.join(folder, _NAME)
        if os.path.lexists(path):
            return _settings(path, _parsed(path, _trusted_bytes(path)))
        path = os.path.join(folder, _PYPROJECT)
        # Most are of no concern to us, whoever may write to them.
        data = _untrusted_bytes(path)
        if data is not None and _table_of_tool(path, _parsed(path, data)) is not None:
            return _of_pyproject(path)
    return None


def _named(name: str) -> SettingsFile:
    path = os.path.abspath(name)
    if not name.endswith(_PYPROJECT):
        return _settings(path, _parsed(path, _trusted_bytes(name)))
    return _of_pyproject(path)


def _of_pyproject(path: str) -> SettingsFile:
    table = _table_of_tool(path, _parsed(path, _trusted_bytes(path)))
    if table is None:
        _refuse(path, f"it has no table [tool.sealwax], and {VARIABLE} names it")
    return _settings(path, table)


def _folders() -> Iterator[str]:
    """Yield the folders to look in: the current one and those above it, up to the home folder.

    In a folder like /tmp anybody may create a file, which must neither count nor stop those who work below it.
    """
    try:
        here = folder = os.getcwd()
        home = os.path.realpath(os.path.expanduser("~"))
        while True:
            status = os.stat(os.path.join(folder, "."))  # which fails if files in it cannot be looked at
            if folder != here and status.st_mode & stat.S_ISVTX and trusted.others(status, os.geteuid()):
                return
            yield folder
            if folder in (home, os.path.dirname(folder)):
                return
            folder = os.path.dirname(folder)
    except OSError:  # the current folder was deleted, or one above it is closed to us
        return


# --- reading


def _refuse(path: str, why: str) -> NoReturn:
    raise SettingsError(f"the settings file '{printable(path)}' is refused: {why}; correct it, or use --no-settings")


def _trusted_bytes(path: str) -> bytes:
    try:
        with trusted.open_file(path, _KIND) as file:
            data = file.read(_MAX_BYTES + 1)
    except SettingsError as error:
        raise SettingsError(f"{error}, or use --no-settings") from None
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "it is a link that leads nowhere" if missing and os.path.islink(path) else disk.reason(error)
        named = f" that {VARIABLE} names" if os.environ.get(VARIABLE) else ""
        raise SettingsError(
            f"the settings file '{printable(path)}'{named} cannot be read: {reason}; correct that, or use --no-settings"
        ) from None
    return data


def _untrusted_bytes(path: str) -> bytes | None:
    """Return the content of a pyproject.toml that may have our table; None if there is none."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
            data = file.read(_MAX_BYTES + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        _refuse(path, disk.reason(error))
    return data if b"sealwax" in data else None


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    import tomllib

    if len(data) > _MAX_BYTES:
        _refuse(path, f"it has more than {_MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(path, f"it is not UTF-8 (at byte {error.start})")
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MAX_DOTS_IN_LINE:
            _refuse(path, f"line {number} has more than {_MAX_DOTS_IN_LINE} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        _refuse(path, "its values are nested too deeply")
    except ValueError as error:
        _refuse(path, f"it is not valid TOML: {why_not_read(error)[:_MAX_SHOWN]}")


def _table_of_tool(path: str, document: Mapping[str, Any]) -> dict[str, Any] | None:
    tool = document.get("tool")
    table = tool.get("sealwax") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        _refuse(path, "tool.sealwax is not a table")
    return table


# --- checking


class _Table:
    """A table of the file, whose members are taken one by one; what is wrong is reported with its place."""

    def __init__(self, path: str, members: Mapping[str, Any], place: str = "") -> None:
        self._path = path
        self._members = members
        self._place = place

    def refuse(self, why: str) -> NoReturn:
        _refuse(self._path, f"{self._place}{why}")

    def refuse_unknown(self, known: tuple[str, ...], why: Mapping[str, str]) -> None:
        for name in self._members:
            if name in known:
                continue
            shown = f"'{printable(name[:_MAX_SHOWN])}'"
            reasons = (reason for pattern, reason in _NEVER if pattern.fullmatch(name.lower()[:_MAX_SHOWN]))
            if reason := why.get(name) or next(reasons, None):
                self.refuse(f"{shown} may not be set here, because {reason}")
            close = difflib.get_close_matches(name.lower()[:_MAX_SHOWN].replace("-", "_"), known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
            self.refuse(f"{shown} is unknown ({hint})")

    def get(self, name: str) -> Any:
        return self._members.get(name)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            self.refuse(f"'{name}' must be a quoted string, and not empty")
        return value

    def texts(self, name: str, *, or_one: bool) -> tuple[str, ...]:
        value = self.get(name)
        if value is None:
            return ()
        values = [value] if or_one and isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
            kind = "a quoted string, or a list of them" if or_one else "a list of quoted strings"
            self.refuse(f"'{name}' must be {kind}")
        return tuple(values)

    def tables(self, name: str) -> list[dict[str, Any]]:
        values = self.get(name) or []
        if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
            self.refuse(f"'{name}' must be written as [[{name}]], one for each")
        return values

    def pairs(self, name: str) -> dict[str, str]:
        value = {} if self.get(name) is None else self.get(name)
        if not isinstance(value, dict):
            self.refuse(f"'{name}' must be a table, such as {name} = {{ purpose = \"backup\" }}")
        for key, text in value.items():
            shown = f"{name}.{printable(key[:_MAX_SHOWN])}"
            if not key or not isinstance(text, str):
                self.refuse(f"'{shown}' must have a name, and a quoted string as its value")
            try:
                ctx.placeholders(text)
            except ContextError as error:
                self.refuse(f"'{shown}': {error}")
        return value


def _settings(path: str, members: Mapping[str, Any]) -> SettingsFile:
    table = _Table(path, members)
    table.refuse_unknown((*_OF_FILES, *_OF_RUNS, "rule"), {})
    suffix, workers = table.text("suffix"), table.get("workers")
    if suffix is not None and not is_suffix(suffix):
        table.refuse("'suffix' must not contain '/'")
    if workers is not None and (type(workers) is not int or not 1 <= workers <= MAX_WORKERS):
        table.refuse(f"'workers' must be a number from 1 to {MAX_WORKERS}")
    rules = tuple(_rule(path, rule, number) for number, rule in enumerate(table.tables("rule"), 1))
    region, profile, store = table.text("region"), table.text("profile"), _store(table)
    return SettingsFile(path, _layer(table), rules, region, profile, suffix, workers, store)


def _store(table: _Table) -> str | None:
    store = table.text("store")
    if store is not None:
        from sealwax.records._url import has_password

        if has_password(store):
            table.refuse(
                "'store' has a password, which does not belong here (docs/how-to/key-stores.md says where it does)"
            )
    return store


def _rule(path: str, members: Mapping[str, Any], number: int) -> Layer:
    table = _Table(path, members, f"rule {number}: ")
    of_run = dict.fromkeys(_OF_RUNS, "it applies to whole runs (set it above all rules)")
    table.refuse_unknown(("path", *_OF_FILES), of_run)
    patterns = table.texts("path", or_one=True)
    if not patterns:
        table.refuse("it has no 'path'")
    for pattern in patterns:
        if why := _wrong_pattern(pattern):
            table.refuse(f"the path '{printable(pattern[:_MAX_SHOWN])}' {why}")
    return _layer(table, number, tuple(map(PathPattern, patterns)))


def _wrong_pattern(pattern: str) -> str:
    if pattern.startswith("/"):
        return "must be relative to the folder of this file (write './NAME' for a name there)"
    if pattern.startswith("!"):
        return "must not begin with '!' (the first rule that matches counts, so put the exception above)"
    parts = pattern.removeprefix(S3_SCHEME).removeprefix("./").removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "must not contain an empty name, '.' or '..'"
    return ""


def _layer(table: _Table, number: int = 0, patterns: tuple[PathPattern, ...] = ()) -> Layer:
    from sealwax.kms._names import parse

    keys = table.texts("key", or_one=True)
    if len(keys) > MAX_WRAPPED_KEYS:
        table.refuse(f"'key' names {len(keys)} keys, and an envelope holds up to {MAX_WRAPPED_KEYS}")
    for key in keys:
        try:
            parse(key)
        except ConfigurationError as error:
            table.refuse(str(error))
    return Layer(keys, table.pairs("context"), table.texts("local_context", or_one=False), number, patterns)
