"""The modules that programs may import names from. Everything else is private, by a name that begins with "_"."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final

FRONTS: Final = (
    "sealwax",
    "sealwax.audit",
    "sealwax.errors",
    "sealwax.events",
    "sealwax.fleet",
    "sealwax.fleet.aws_lambda",
    "sealwax.fleet.spark",
    "sealwax.kms",
    "sealwax.lab",
    "sealwax.lab.pytest_plugin",
    "sealwax.otel",
    "sealwax.policy",
    "sealwax.prove",
    "sealwax.records",
    "sealwax.records.moving",
    "sealwax.records.tables",
    "sealwax.records.testing",
    "sealwax.sqlalchemy",
    "sealwax.django",
    "sealwax.django.admin",
    "sealwax.stores",
    "sealwax.stores.key_rows",
    "sealwax.stores.s3",
)


def front(name: str) -> ModuleType:
    return import_module(name)


def names_of(name: str) -> list[str]:
    return list(getattr(front(name), "__all__", ()))
