"""A run from its beginning to its end: what is left of the last one, making, the steps, comparing, taking away."""

from __future__ import annotations

import contextlib
import platform
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import boto3
import botocore

from sealwax import __version__, errors
from sealwax._aws import refusals, sts
from sealwax._core import files
from sealwax._core.keyring import now
from sealwax._rehearse.compare import Difference, Side, compare
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.mirror import mirror
from sealwax._rehearse.plan import TAG, Names
from sealwax._rehearse.requests import REQUESTS
from sealwax._rehearse.state import Folder, Run
from sealwax._rehearse.steps import STEPS, StepResult, run_step
from sealwax._rehearse.world import AccountReach, World, leftovers, make, take_away
from sealwax._rehearse.world import told as error_text
from sealwax._text import printable

_AGAIN: Final = "to take away the rest, run the same command with --clean-up instead of --apply"
# What AWS calls a request, in the metadata of an answer.
_IDS: Final = ("RequestId", "HostId")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a run came to. Nothing in it identifies an account, a person or a request.

    Attributes:
        regions: the two Regions.
        steps: what became of each step.
        differences: where AWS and the lab answered differently.
        requests: how many requests were compared.
        calls: how many requests were sent to each service of AWS.
        left: what could not be taken away.
        seconds: how long it took.
    """

    regions: tuple[str, str]
    steps: tuple[StepResult, ...]
    differences: tuple[Difference, ...]
    requests: int
    calls: dict[str, int]
    left: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> list[str]:
        return [step.name for step in self.steps if not step.passed]

    @property
    def answered_differently(self) -> int:
        """How many requests have a difference."""
        return len({difference.request for difference in self.differences})

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "sealwax": __version__,
            "python": platform.python_version(),
            "boto3": boto3.__version__,
            "botocore": botocore.__version__,
            "system": platform.system(),
            "regions": list(self.regions),
            "seconds": round(self.seconds, 1),
            "calls": dict(sorted(self.calls.items())),
            "steps": [{name: getattr(step, name) for name in StepResult.__slots__} for step in self.steps],
            "requests": self.requests,
            "differences": [{name: getattr(each, name) for name in Difference.__slots__} for each in self.differences],
            "left": list(self.left),
        }


@dataclass
class Watch:
    """Counts requests to AWS, and learns their ids for the masks."""

    masks: Masks
    calls: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attach(self, session: Any) -> None:
        """Watch a session from now on."""
        session.events.register("response-received", self._received, unique_id="sealwax-rehearsal")

    def _received(self, event_name: str, parsed_response: Any, **_: object) -> None:
        service = event_name.split(".")[1]
        with self._lock:
            self.calls[service] += 1
        metadata = (parsed_response or {}).get("ResponseMetadata", {})
        for name in _IDS:
            self.masks.add(metadata.get(name), "<request id>")


@dataclass(frozen=True)
class Told:
    """How a run tells what it does.

    Attributes:
        line: is called with a line about making and taking away.
        left: with what is left in the account, and what to do about it.
        step: with the result of a step.
        requests: with how many requests were compared, and how many there are.
    """

    line: Callable[[str], None]
    left: Callable[[str], None]
    step: Callable[[StepResult], None]
    requests: Callable[[int, int], None]


def rehearse(folder: Folder, regions: tuple[str, str], reach: AccountReach, watch: Watch, told: Told) -> Rehearsal:
    """Run everything, and take everything away, whatever happens.

    Args:
        folder: keeps what is needed to take away a run that was killed. Such a run is taken away first.
        watch: is attached to the sessions already.

    Raises:
        SealwaxError: AWS refused what the run needs, or what the last run left cannot be taken away.
    """
    began, masks = now(), watch.masks
    account = _account(reach, regions[0], masks)
    # A Region that is not enabled refuses all credentials: better known before anything is made.
    _account(reach, regions[1], masks)
    if left := _end_last(folder, account, reach, masks, told):
        raise errors.RequestRefusedError(
            f"what the last rehearsal made cannot be taken away: {'; '.join(left)}. Fix that, and run it again"
        )
    run = Run(Names.new().run, account, regions)
    masks.add(run.run, "<run>")
    masks.add(str(folder.path.absolute()), "<folder>")
    world = World(run, reach, masks, _work(folder, run))
    folder.save(run)
    results: list[StepResult] = []
    try:
        _made(world, folder, told)
        for step in STEPS:
            results.append(run_step(step, world))
            told.step(results[-1])
        found, failure = _compared(world, told)
        differences = [replace(each, aws=masks.text(each.aws), lab=masks.text(each.lab)) for each in found]
        if failure is not None:
            results.append(failure)
            told.step(failure)
    finally:
        left = end(world, folder, told)
    return Rehearsal(
        regions,
        tuple(results),
        tuple(differences),
        0 if failure else len(REQUESTS),
        dict(watch.calls),
        tuple(map(masks.text, left)),
        now() - began,
    )


def clean_up(
    folder: Folder, regions: tuple[str, str], reach: AccountReach, masks: Masks, told: Told
) -> tuple[int, list[str]]:
    """Take away what any run has left in the account: the one of the folder, and those found by tag and name.

    Returns:
        How many runs had left something, and what is still left.
    """
    account = _account(reach, regions[0], masks)
    unfinished = folder.unfinished()
    left: list[str] = []
    runs = 0
    if unfinished is not None:
        left += _end_last(folder, account, reach, masks, told)
        runs += 1
    seeker = World(Run("", account, regions), reach, masks, folder.path)
    found = refusals.call_aws(lambda: leftovers(seeker), "looking for what rehearsals left", None)
    for run in found:
        told.line(f"taking away the rehearsal {run.run}")
        still = take_away(World(run, reach, masks, folder.path))
        shutil.rmtree(folder.work(run), ignore_errors=True)
        for what in still:
            told.left(f"left: {what}")
        left += still
    if seeker.unseen:
        told.left(
            f"the tags of {seeker.unseen:,} KMS key{'s' * (seeker.unseen != 1)} could not be read, because "
            f"ListResourceTags was denied; a key with the tag '{TAG}' may be among them"
        )
    return runs + len(found), left


def end(world: World, folder: Folder, told: Told) -> list[str]:
    """Take a run away; return what is left. Its state stays until nothing is. One signal does not stop it."""
    stop: BaseException | None = None
    while True:
        try:
            told.line("taking everything away")
            left = take_away(world)
            break
        except BaseException as error:
            if stop is not None or not isinstance(error, KeyboardInterrupt | SystemExit):
                told.left(f"interrupted before everything was taken away; {_AGAIN}")
                raise
            stop = error
            told.left("everything is still being taken away; another signal stops that")
    shutil.rmtree(world.work, ignore_errors=True)
    for what in left:
        told.left(f"left: {what}")
    if left:
        told.left(_AGAIN)
    else:
        folder.forget()
        told.line("nothing is left but keys that are pending deletion")
    if stop is not None:
        raise stop
    return left


def _end_last(folder: Folder, account: str, reach: AccountReach, masks: Masks, told: Told) -> list[str]:
    """Take away the run that was killed; return what is left of it.

    Raises:
        ConfigurationError: that run was in another account.
    """
    last = folder.unfinished()
    if last is None:
        return []
    if last.account != account:
        raise errors.ConfigurationError(
            f"the last rehearsal, in account {last.account}, was not taken away, and these credentials are of account "
            f"{account}: run --clean-up with credentials of that account first"
        )
    told.line(f"the rehearsal {last.run} did not end; taking it away first")
    return end(World(last, reach, masks, _work(folder, last)), folder, told)


def _work(folder: Folder, run: Run) -> Path:
    """Return the empty folder for the files of a run.

    Raises:
        FileError: it cannot be made.
    """
    work = folder.work(run)
    shutil.rmtree(work, ignore_errors=True)
    with files.reported("making the folder", str(work)):
        try:
            work.mkdir(mode=0o700)
        except FileExistsError:
            raise errors.FileError(
                f"'{printable(str(work))}' is in the way: move it to another folder, or remove it"
            ) from None
    return work


def _made(world: World, folder: Folder, told: Told) -> None:
    refusals.call_aws(lambda: make(world, folder, told.line), "making what the rehearsal needs", None)


def _compared(world: World, told: Told) -> tuple[list[Difference], StepResult | None]:
    """Return the differences; if the requests could not be sent, a failed step that says why."""
    try:
        with mirror(world) as beside:
            return compare(Side(world), Side(beside), told.requests), None
    except Exception as error:  # of any kind: the report has the steps all the same
        detail = world.masks.text(error_text(error, "sending the requests to AWS and to the lab"))
        return [], StepResult("requests", "the lab answers as AWS does", False, detail)


def _account(reach: AccountReach, region: str, masks: Masks) -> str:
    """Return the caller's account; what names the caller is masked."""
    arn = sts.whoami(reach.caller(region), f"asking STS in {region} who the caller is")
    parts = arn.split(":", 5)
    masks.add(arn, "<caller>")
    masks.add(parts[4], "<account>")
    # A session is often named after a person's address; other names appear in ARNs alone.
    for word in parts[5].split("/")[1:]:
        if "@" in word:
            masks.add(word, "<caller>")
    with contextlib.suppress(RuntimeError):  # a container's user may have no home
        home = Path.home()
        masks.add(str(home) if home.name else None, "<home>")
    return parts[4]
