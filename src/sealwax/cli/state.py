"""What the parts of one run of the program share; it is click's ``ctx.obj``, and ends with the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import click

from sealwax.errors import SealwaxError, SettingsError

if TYPE_CHECKING:
    import boto3

    from sealwax._aws.session import OwnSession
    from sealwax.cli.settingsfile import SettingsFile
    from sealwax.stores.s3 import Service
    from sealwax.stores.s3._acls import Acls

S = TypeVar("S", bound="boto3.Session")


class Sessions:
    """The AWS sessions of one run. A person is asked for one MFA code per profile, for KMS, S3 and everything else.

    Attributes:
        watchers: called with each session before it is used, for -v and --debug.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[tuple[str | None, str | None], OwnSession] = {}
        self._first: dict[str | None, OwnSession | SealwaxError] = {}
        self._s3: dict[tuple[OwnSession, bool], Service] = {}
        self._acls: dict[Service, Acls] = {}
        self.watchers: list[Callable[[boto3.Session], None]] = []

    def __reduce__(self) -> tuple[type[Sessions], tuple[()]]:
        return Sessions, ()  # Spark's executors sign in by themselves; credentials stay here

    def open(self, profile: str | None, region: str | None) -> OwnSession:
        """Return the session of a profile in a Region; all sessions of a profile share their credentials.

        An MFA code is asked for here, before a progress bar is drawn or a thread is started that nobody can interrupt.
        """
        from sealwax._aws.session import OwnSession

        with self._lock:
            session = self._opened.get((profile, region))
            if session is not None:
                return session
            first = self._first.get(profile)
            if isinstance(first, SealwaxError):
                raise first
            try:
                session = self.watched(OwnSession(profile, region, first))
                session.sign_in()
            except SealwaxError as error:
                self._first[profile] = error
                raise
            self._first.setdefault(profile, session)
            self._opened[profile, region] = session
            return session

    def watched(self, session: S) -> S:
        """Return a session once the watchers know it."""
        for watch in self.watchers:
            watch(session)
        return session

    def s3(self, profile: str | None, region: str | None, *, requester_pays: bool) -> Service:
        """Return S3 as a profile in a Region reaches it."""
        from sealwax.stores.s3 import Service

        session = self.open(profile, region)
        with self._lock:
            if (session, requester_pays) not in self._s3:
                self._s3[session, requester_pays] = Service(session, requester_pays=requester_pays)
            return self._s3[session, requester_pays]

    def acls(self, service: Service) -> Acls:
        """Return what tells of the ACLs of objects there, and remembers what it knows of buckets."""
        from sealwax.stores.s3._acls import Acls

        with self._lock:
            if service not in self._acls:
                self._acls[service] = Acls(service)
            return self._acls[service]


@dataclass(slots=True)
class RunState:
    """One run of the program.

    Attributes:
        arguments: what was typed after the program's name.
        quiet: whether -q was given.
        verbose: whether -v or --debug was given.
        debug: whether --debug was given.
        profile: --profile, for S3.
        region: --region, for S3.
        settings: the settings file, if it counts.
        refused_settings: why it was refused, for doctor.
        requester_pays: --requester-pays.
        new_objects: S3's parameters for the objects to write: --sse, --storage-class and the like.
        claimed: the pipes that are about to be read to their end, by device and inode.
        needed: the canonical names of the files that the run reads beside its sources, which no envelope replaces.
        of_lab: those of the lab in use, which nothing replaces.
        elsewhere: the option that names another place for the outputs.
        ends: what is left when the run ends, however it does.
        said: the notes that were printed, and are not repeated.
    """

    arguments: tuple[str, ...] = ()
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    profile: str | None = None
    region: str | None = None
    settings: SettingsFile | None = None
    refused_settings: SettingsError | None = None
    requester_pays: bool = False
    new_objects: dict[str, object] = field(default_factory=dict)
    claimed: set[tuple[int, int]] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    of_lab: set[str] = field(default_factory=set)
    elsewhere: str = "-o"
    said: set[str] = field(default_factory=set)
    sessions: Sessions = field(default_factory=Sessions)
    ends: ExitStack = field(default_factory=ExitStack)


def current() -> RunState:
    """Return the state of the command that runs in this thread; outside of one, that of a quiet run."""
    context = click.get_current_context(silent=True)
    state = None if context is None else context.find_object(RunState)
    return RunState(quiet=True) if state is None else state
