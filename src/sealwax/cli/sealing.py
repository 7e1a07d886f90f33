"""Under which keys and context each file of a run is sealed: the settings file may have rules for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import click

from sealwax.cli import layers
from sealwax.cli.jobs import FileJob
from sealwax.cli.kms import Keys
from sealwax.cli.options import ContextTemplate
from sealwax.cli.settingsfile import Layer, SettingsFile
from sealwax.cli.state import current
from sealwax.cli.work import STREAM, Work

T = TypeVar("T")


def of_one(keys: Keys, template: ContextTemplate, plain_name: str) -> tuple[Keys, ContextTemplate]:
    """Return the keys and the context that count for a single file, and say what the settings bring.

    Args:
        keys: those named by options and variables; others are the settings'.
        template: the context, likewise.
        plain_name: the name of its plaintext, as on the command line.
    """
    settings = current().settings
    if settings is None:
        return keys, template
    found = settings.layers(plain_name)
    _announce(settings, found, layers.of_runs_used(click.get_current_context(), keys.aws.lab), keys, template)
    return keys.of(found), template.of(found)


def _announce(
    settings: SettingsFile,
    found: tuple[Layer, ...],
    run: Mapping[str, object],
    keys: Keys,
    template: ContextTemplate,
) -> None:
    brought = () if keys.names else keys.of(found).names
    template = template.of(found)
    pairs = [name for name in template.pairs if name not in template.given]
    layers.announce(settings, found, run, brought, pairs)


class Sealing(Generic[T]):
    """What counts for each file of a run.

    Args:
        work: the files.
        keys: those named by options and variables; others are the settings'.
        template: the context, likewise.
        named: the file whose name rules are held against, if it is not that of each job.
        make: makes what a verb needs for some keys, such as a sealer; called once for all files with the same keys.
    """

    def __init__(
        self, work: Work, keys: Keys, template: ContextTemplate, make: Callable[[Keys], T], *, named: str | None = None
    ) -> None:
        self._work = work
        self._named = named
        self._keys = keys
        self._template = template
        self._make = make
        self._made: dict[tuple[tuple[str, ...], tuple[str, ...]], T] = {}
        self._lock = threading.Lock()
        self._run = layers.of_runs_used(click.get_current_context(), keys.aws.lab)
        self._settings = current().settings
        self._announced: set[int] = set()
        if self._settings is None or not self._settings.rules:
            # Wrong names and missing credentials are reported before any file is looked at.
            found = self._layers(None)
            self._announce(found)
            self._opened(self._keys.of(found))

    def of(self, job: FileJob) -> tuple[Keys, ContextTemplate, T]:
        """Return the keys and the context for a job, and what was made for the keys."""
        found = self._layers(job.source)
        keys = self._keys.of(found)
        return keys, self._template.of(found), self._opened(keys)

    def announced(self, jobs: Iterator[FileJob]) -> Iterator[FileJob]:
        """Pass jobs on; say what the settings bring before the first job for which they do."""
        for job in jobs:
            if job.problem is None:
                self._announce(self._layers(job.source))
            yield job

    def _announce(self, found: tuple[Layer, ...]) -> None:
        if self._settings is None or found[-1].number in self._announced:
            return
        self._announced.add(found[-1].number)
        _announce(self._settings, found, self._run, self._keys, self._template)
        self._run = {}

    def _layers(self, source: str | None) -> tuple[Layer, ...]:
        if self._settings is None:
            return ()
        name = self._named or source
        if name is None or name == STREAM:
            return self._settings.layers(None)
        return self._settings.layers(self._work.plain_name(name) if self._work.of_envelopes else name)

    def _opened(self, keys: Keys) -> T:
        with self._lock:
            found = (keys.names, keys.local_context)
            if found not in self._made:
                self._made[found] = self._make(keys)
            return self._made[found]
