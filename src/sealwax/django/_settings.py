"""The setting SEALWAX, and the ``Records`` that is made from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from sealwax.records import Records
from sealwax.records._current import pairs_of

_NAMES: Final = ("RECORDS", "KMS_KEY", "SCOPE", "LOCAL_SCOPE", "DATABASE", "CURRENT_SCOPE", "OPTIONS")
_lock: Final = threading.Lock()
_made: list[Records] = []


def get_records() -> Records:
    """Return the ``Records`` that the setting SEALWAX describes; there is one in a process.

    Raises:
        ImproperlyConfigured: SEALWAX is missing, or is wrong.
    """
    if _made:
        return _made[0]
    with _lock:
        if not _made:
            _made.append(_make(_setting()))
        return _made[0]


def current_pairs(records: Records) -> Mapping[str, str]:
    """Return the pairs of the scope of the work under way: of ``records.scope``, else of CURRENT_SCOPE."""
    pairs = pairs_of(records)
    named = _setting().get("CURRENT_SCOPE")
    if named is None:
        return pairs
    return {**_called(named, "CURRENT_SCOPE"), **pairs}


def key_database() -> str | None:
    """Return the alias of the database with the key tables; None if DATABASE is None: another store has them."""
    alias: str | None = _setting().get("DATABASE", "default")
    return alias


def _setting() -> Mapping[str, Any]:
    setting = getattr(settings, "SEALWAX", None)
    if not isinstance(setting, dict):
        raise ImproperlyConfigured(
            'the setting SEALWAX is missing: SEALWAX = {"KMS_KEY": "alias/shop", "SCOPE": {"app": "shop"}}'
        )
    unknown = [name for name in setting if name not in _NAMES]
    if unknown:
        raise ImproperlyConfigured(f"SEALWAX has the unknown key {unknown[0]!r}; there are {', '.join(_NAMES)}")
    return setting


def _make(setting: Mapping[str, Any]) -> Records:
    if "RECORDS" in setting:
        records = _called(setting["RECORDS"], "RECORDS")
        if not isinstance(records, Records):
            raise ImproperlyConfigured(
                f'SEALWAX["RECORDS"] returned {type(records).__name__}; it names a function that returns Records'
            )
        return records
    for name in ("KMS_KEY", "SCOPE"):
        if not setting.get(name):
            raise ImproperlyConfigured(f'SEALWAX lacks "{name}"')
    from sealwax.django._keys import DjangoKeys
    from sealwax.kms import KmsKeyring

    return Records(
        KmsKeyring(setting["KMS_KEY"]),
        DjangoKeys(setting.get("DATABASE", "default")),
        scope=setting["SCOPE"],
        local_scope=setting.get("LOCAL_SCOPE", ()),
        **setting.get("OPTIONS", {}),
    )


def _called(named: str | Callable[[], Any], name: str) -> Any:
    try:
        function = import_string(named) if isinstance(named, str) else named
    except ImportError as error:
        raise ImproperlyConfigured(f'SEALWAX["{name}"]: {error}') from None
    return function()


def _forget(*, setting: str, **_: object) -> None:
    if setting == "SEALWAX":
        with _lock:
            while _made:
                _made.pop().close()


setting_changed.connect(_forget, dispatch_uid="sealwax")
