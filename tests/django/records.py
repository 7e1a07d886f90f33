"""The Records of the project: a keyring without a network, and the key store in the project's database."""

from __future__ import annotations

from sealwax.django import DjangoKeys
from sealwax.records import Records
from tests.fakes import FakeKeyring


def make() -> Records:
    return Records(FakeKeyring(), DjangoKeys("default"), scope={"app": "clinic"})
