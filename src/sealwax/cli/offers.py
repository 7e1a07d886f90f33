"""What completion offers for a value: aliases of keys, profiles, Regions and files.

A shell waits for the answer, so it takes at most a second, whatever AWS does, and failures offer nothing. Nobody is
prompted: credentials that need an MFA code or a program of the user are left alone. Aliases are kept for some minutes,
Regions for a day, in files that only the user can read or write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from sealwax._core import trusted
from sealwax.errors import FileError

T = TypeVar("T")

# All of it: importing the AWS SDK, signing in, and every page of the list.
SECONDS: Final = 1.0
ALIASES_KEPT_SECONDS: Final = 300.0
REGIONS_KEPT_SECONDS: Final = 86_400.0
_MAX_CACHE_BYTES: Final = 1 << 20
_CACHE: Final = trusted.Kind("the completion cache", FileError)
# KMS allows nothing else, so an answer that has more is not from KMS, and a shell might interpret it.
_ALIAS: Final = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9@%+=:./_-]{1,256}")
# What decides about credentials besides the options.
_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_KMS",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)
_FILES: Final = {"FILE": "file", "FILE.json": "file", "PATH": "file", "PLAN": "file", "HEADER": "file", "DIR": "dir"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where keys are looked up."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    lab: str | None = None

    @classmethod
    def of(cls, typed: Mapping[str, Any]) -> Place:
        """Return the place that the options typed so far select."""
        regions = typed.get("regions") or (typed.get("region"),)
        # Either option means a KMS other than the lab of the environment.
        elsewhere = typed.get("profile") or typed.get("endpoint_url")
        lab = None if elsewhere else typed.get("lab") or None
        return cls(typed.get("profile"), regions[0], typed.get("endpoint_url"), lab and os.path.abspath(lab))


class Offered(click.types.StringParamType):
    """Text whose values completion knows; it is parsed like any other text."""

    def __init__(self, find: Callable[[Mapping[str, Any]], list[str]]) -> None:
        self._find = find

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del param
        return [CompletionItem(value) for value in self._find(ctx.params) if value.startswith(incomplete)]


class OfferedPath(click.types.StringParamType):
    """The name of a file or folder, which the shell completes; it is parsed like any other text."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        return [CompletionItem(incomplete, type=self._kind)]


def type_for(parameter: click.Parameter) -> click.ParamType | None:  # type: ignore[type-arg]  # no generic in older releases
    """Return the type that makes completion know a parameter's values; None if it does not, or has a type already."""
    if type(parameter.type) is not click.types.StringParamType:
        return None
    names = {*parameter.opts, *parameter.secondary_opts}
    if (names & {"--key", "--to", "--from"} and parameter.metavar == "KEY") or (
        isinstance(parameter, click.Argument) and parameter.name == "key"
    ):
        return Offered(lambda typed: aliases(Place.of(typed)))
    if names & {"--profile", "--denied-profile"}:
        return Offered(lambda _typed: within(SECONDS, _profiles) or [])
    if "--region" in names:
        return Offered(lambda _typed: regions())
    if parameter.name == "where" or parameter.metavar in _FILES:
        return OfferedPath(_FILES.get(parameter.metavar or "", "file"))
    return None


def within(seconds: float, find: Callable[[], T]) -> T | None:
    """Return what ``find`` returns; None if it fails, or takes longer.

    It is left running then, in a thread that does not keep the process from ending.
    """
    answers: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def answer() -> None:
        answer: T | None = None
        # Of any kind: whoever types a command has not asked for its errors yet.
        with contextlib.suppress(Exception):
            answer = find()
        answers.put(answer)

    threading.Thread(target=answer, name="sealwax-completion", daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return None


def aliases(place: Place) -> list[str]:
    """Return the aliases of the keys in a place, except those of AWS managed keys, which sealwax cannot use."""

    def find() -> list[str]:
        names = _aliases_in_lab(place) if place.lab else _aliases_in_aws(place)
        return sorted({name for name in names if _ALIAS.fullmatch(name) and not name.startswith("alias/aws/")})

    return _remembered(f"aliases-{_digest(astuple(place))}", _circumstances(place), ALIASES_KEPT_SECONDS, find)


def regions() -> list[str]:
    """Return the Regions that have KMS."""

    def find() -> list[str]:
        from sealwax._aws.session import regions_of_kms

        return regions_of_kms()

    return _remembered("regions", "", REGIONS_KEPT_SECONDS, find)


def _profiles() -> list[str]:
    from sealwax._aws.session import profile_names

    return [name for name in profile_names() if _PLAIN.fullmatch(name)]


def _aliases_in_lab(place: Place) -> list[str]:
    from sealwax.cli.kms import no_lab, open_lab

    if place.lab is None or no_lab(place.lab):
        return []
    with open_lab(place.lab) as lab:
        found = [(str(key["Arn"]).split(":")[3], alias) for key in lab.list_keys() for alias in key["Aliases"]]
        region = place.region
        if region is None and len({each for each, _ in found}) > 1:
            region = lab.session().region_name  # imports the AWS SDK, which a lab seldom needs
    return [alias for each, alias in found if region in (None, each)]


def _aliases_in_aws(place: Place) -> list[str]:
    from sealwax._aws.session import Clients, OwnSession, at_endpoint

    session = OwnSession(place.profile, place.region)
    if session.may_prompt():
        return []
    clients = Clients(at_endpoint(session, place.endpoint_url))
    pages = clients.kms(clients.region).get_paginator("list_aliases").paginate()
    return [alias["AliasName"] for page in pages for alias in page["Aliases"]]


def _circumstances(place: Place) -> str:
    """Return what else the answer depends on: the last change of a lab, or the settings of the environment."""
    if place.lab is None:
        return _digest([os.environ.get(name) for name in _VARIABLES])
    changed = []
    for name in ("state.db", "state.db-wal"):
        with contextlib.suppress(OSError):
            changed.append(os.stat(os.path.join(place.lab, name)).st_mtime_ns)
    return _digest([changed, os.environ.get("AWS_DEFAULT_REGION")])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


# --- the cache


def _remembered(name: str, circumstances: str, seconds: float, find: Callable[[], list[str]]) -> list[str]:
    """Return what was found some time ago under the same circumstances, or what is found now."""
    path = os.path.join(cache_folder(), f"{name}.json")
    known = _recalled(path, circumstances, seconds)
    if known is not None:
        return known
    found = within(SECONDS, find)
    if found:
        # Without a cache, it is found again each time.
        with contextlib.suppress(OSError):
            _keep(path, {"of": circumstances, "at": time.time(), "names": found})
    return found or []


def cache_folder() -> str:
    """Return the folder of the cache: ~/.cache/sealwax, or where XDG_CACHE_HOME says."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # As the XDG specification wants, a relative path is ignored.
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "sealwax")


def _recalled(path: str, circumstances: str, seconds: float) -> list[str] | None:
    try:
        with trusted.open_file(path, _CACHE) as file:
            kept = json.loads(file.read(_MAX_CACHE_BYTES))
        fresh = kept["of"] == circumstances and 0 <= time.time() - kept["at"] < seconds
        return [name for name in kept["names"] if _PLAIN.fullmatch(name)] if fresh else None
    except (FileError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # missing, or of somebody else: found anew


def _keep(path: str, entry: Mapping[str, object]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(entry, file)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
