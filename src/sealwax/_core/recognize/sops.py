"""Files of sops: YAML, JSON, dotenv, INI, and anything else as JSON. Their section ``sops`` names the keys.

No YAML parser is needed, since sops writes its section line by line with one field on each. A section in another layout
is recognized, but its list of keys counts as incomplete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from sealwax._foreign import ForeignFormat, distinct

_KMS: Final = "kms"
_PROVIDERS: Final = (_KMS, "gcp_kms", "azure_kv", "hc_vault", "hckms", "age", "pgp")
_GROUPS: Final = "key_groups"
# Fields beside the providers, which end the list of the previous provider.
_BESIDE: Final = re.compile(r"last_?modified|mac|version|mac_only_encrypted|shamir_\w+|\w*crypted_\w*(suffix|regex)")
_SEALED: Final = "ENC[AES256_GCM,"
_JSON_START: Final = re.compile(rb'"sops"\s*:\s*(?=\{)')
_YAML_START: Final = re.compile(rb"^([\"']?)sops\1[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE)
_YAML_END: Final = re.compile(rb"^[^\s#]", re.MULTILINE)
_YAML_FIELD: Final = re.compile(r"([ \t]*)((?:-[ \t]+)*)[\"']?([A-Za-z0-9_]+)[\"']?[ \t]*:(?:[ \t]+(.*))?")
_DOTENV_FIELD: Final = re.compile(rb"^sops_([A-Za-z0-9_]+)[ \t]*=[ \t]*([^\r\n]*)", re.MULTILINE)
_INI_START: Final = re.compile(rb"^\[sops\][ \t]*\r?$", re.MULTILINE)
_INI_FIELD: Final = re.compile(rb"^([A-Za-z0-9_]+)[ \t]*[=:][ \t]*([^\r\n]*)", re.MULTILINE)
_FLAT_FIELD: Final = re.compile(rf"(.*__map_)?({'|'.join(_PROVIDERS)})__list_([0-9]+)__map_(\w+)")
_NOTHING: Final = frozenset(("", "[]", "{}", "null", "~", '""', "''"))


class _Section:
    """What a file's section says."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.others: list[str] = []
        self.entries = 0  # of KMS
        self.wrapped = False  # whether an entry has a wrapped key
        self.sealed = False  # whether there is a MAC
        self.whole = True

    def add(self, name: str, value: str) -> None:
        """Add a field of a KMS entry."""
        if name == "arn" and value:
            self.keys.append(value)
        elif name == "enc" and value:
            self.wrapped = True

    def as_foreign(self) -> ForeignFormat:
        complete = self.whole and self.sealed and self.entries == len(self.keys)
        return ForeignFormat("sops", "a sops file", distinct(self.keys), distinct(self.others), complete)


def recognize(head: bytes, tail: bytes, *, whole: bool) -> ForeignFormat | None:
    """Return the format of a text file if it is one of sops.

    Args:
        head: its beginning, or all of it.
        tail: its end, if that is separate; b"" if not, or if it cannot be read.
        whole: whether ``head`` is all of it.
    """
    last = tail or head
    for section in (_json(head, tail), _yaml(head, tail), _dotenv(last, cut=bool(tail)), _ini(last)):
        if section is not None and (section.sealed or section.wrapped):
            section.whole = section.whole and (whole or bool(tail))
            return section.as_foreign()
    sealed = _SEALED.encode()
    if (not whole or b"sops" in head) and head.count(sealed) + tail.count(sealed) > 1:
        return ForeignFormat("sops", "a sops file whose keys cannot be read", sure=False)
    return None


# --- JSON, which sops also uses for files in no other format


def _json(head: bytes, tail: bytes) -> _Section | None:
    if not head.lstrip().startswith(b"{"):
        return None
    content: object = None
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    try:
        if not tail:
            whole = decoder.decode(head.decode("utf-8", "replace"))
            content = whole.get("sops") if isinstance(whole, dict) else None
        elif starts := list(_JSON_START.finditer(tail)):
            # The section of the file is the last one.
            content, _ = decoder.raw_decode(tail[starts[-1].end() :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    section = _Section()
    mac, groups = content.get("mac"), content.get(_GROUPS)
    section.sealed = isinstance(mac, str) and mac.startswith(_SEALED)
    for group in (content, *(groups if isinstance(groups, list) else ())):
        if isinstance(group, dict):
            _add_group(section, group)
        else:
            section.whole = False
    return section


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a name twice")  # parsers disagree on which one counts
    return unique


def _add_group(section: _Section, group: dict[str, object]) -> None:
    for provider in _PROVIDERS:
        entries = group.get(provider)
        if entries and provider != _KMS:
            section.others.append(provider)
        elif entries:
            for entry in entries if isinstance(entries, list) else (entries,):
                section.entries += 1
                for name in ("arn", "enc"):
                    value = entry.get(name) if isinstance(entry, dict) else None
                    section.add(name, value if isinstance(value, str) else "")


# --- YAML


def _yaml(head: bytes, tail: bytes) -> _Section | None:
    last = tail or head
    starts = list(_YAML_START.finditer(last))
    if not starts:
        return None
    section = _Section()
    # Each of several documents has a section; one may be in the part between beginning and end, which is not read.
    section.whole = not (tail and _YAML_START.search(head))
    for start in starts:
        if _plain(start[2]) not in _NOTHING:
            section.whole = False  # on one line
            continue
        end = _YAML_END.search(last, start.end())
        block = last[start.end() : end.start() if end else len(last)]
        _add_yaml(section, block.decode("utf-8", "replace").splitlines())
    return section


def _add_yaml(section: _Section, lines: list[str]) -> None:
    provider, column = "", -1
    for line in lines:
        field = _YAML_FIELD.fullmatch(line.rstrip())
        if field is None:
            text = line.strip()
            if provider == _KMS and text and not text.startswith("#"):
                section.entries += text == "-"
                section.whole = section.whole and text == "-"
            continue
        before, dashes, name, value = field.groups(default="")
        value, at = _plain(value), len(before) + len(dashes)
        # Any deeper, it is a field of an entry, or a name in its context.
        if (name in _PROVIDERS or name == _GROUPS or _BESIDE.fullmatch(name)) and (at <= column or column < 0):
            provider, column = name, -1 if name == _GROUPS else at
            section.sealed = section.sealed or (name == "mac" and value.startswith(_SEALED))
            section.whole = section.whole and (name not in _PROVIDERS or value in _NOTHING)
            continue
        if dashes and provider in _PROVIDERS and provider != _KMS:
            section.others.append(provider)
        elif provider == _KMS:
            section.entries += bool(dashes)
            section.add(name, value)


def _plain(value: str | bytes) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.partition(" #")[0].strip().strip("\"'")


# --- dotenv and INI have no lists: a field's name says where in the section it is


def _dotenv(text: bytes, *, cut: bool) -> _Section | None:
    first = _DOTENV_FIELD.search(text)
    if first is None:
        return None
    section = _flat(match.groups() for match in _DOTENV_FIELD.finditer(text))
    # The section's first line is included only if a line before it belongs to something else.
    section.whole = not cut or text.count(b"\n", 0, first.start()) > 1
    return section


def _ini(text: bytes) -> _Section | None:
    starts = list(_INI_START.finditer(text))
    return _flat(match.groups() for match in _INI_FIELD.finditer(text, starts[-1].end())) if starts else None


def _flat(fields: Iterable[tuple[bytes, ...]]) -> _Section:
    section = _Section()
    entries: set[tuple[str, str]] = set()
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("ascii"), _plain(raw_value)
        if name == "mac":
            section.sealed = value.startswith(_SEALED)
        field = _FLAT_FIELD.fullmatch(name)
        if field is None:
            continue
        group, provider, number, field_name = field.groups(default="")
        if provider == _KMS:
            entries.add((group, number))
            section.add(field_name, value)
        else:
            section.others.append(provider)
    section.entries = len(entries)
    return section
