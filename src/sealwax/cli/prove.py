"""sealwax prove"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from sealwax._core.context import printable
from sealwax.cli import PARTLY_DONE, console, options, sessions

if TYPE_CHECKING:
    from sealwax._aws.session import Session
    from sealwax.lab import Lab
    from sealwax.prove import CheckResult, Helper, ProofReport

FINDINGS: Final = 3
# What says who somebody is, to boto3.
_IDENTITY: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_COLORS: Final = {"passed": "green", "failed": "red", "not shown": "yellow"}
_ROTATED: Final = (
    "the key will be rotated: that cannot be undone, a key has 25 such rotations, "
    "and AWS charges by the month for its first two"
)


@click.command()
@click.option(
    "-k",
    "--key",
    "names",
    multiple=True,
    metavar="KEY",
    help="The KMS key: key ID, key ARN, alias/NAME or alias ARN. Else SEALWAX_KEY.",
)
@options.aws
@options.context(stored=False)
@click.option("--to", metavar="KEY", help="Another KMS key of the same Region, to re-encrypt to.")
@click.option("--denied-profile", metavar="NAME", help="An AWS profile that must not be able to decrypt.")
@click.option("--denied-role", metavar="ARN", help="A role that must not be able to decrypt; needs sts:AssumeRole.")
@click.option("--allow-changes", is_flag=True, help="Rotate the key too, which cannot be undone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.loudness
def prove(
    names: tuple[str, ...],
    aws: options.Aws,
    template: options.ContextTemplate,
    to: str | None,
    denied_profile: str | None,
    denied_role: str | None,
    allow_changes: bool,
    as_json: bool,
) -> int:
    """Show, with evidence, that a KMS key protects what it should.

    Every promise is tried against the key itself, with samples bound to the context that -c gives: what must work, and
    what must be refused. The key is not changed without --allow-changes. A check that could not be run is "not shown",
    and never counts as passed. What each check shows and needs is in docs/verification.md.

    The exit status is 3 when a check failed, 7 when the key cannot be used at all, and 8 when something that may pass,
    such as throttling or expired credentials, kept a check from being run, or one was that an option asks for.
    """
    from sealwax.events import USD_PER_CALL
    from sealwax.prove import Options, planned_requests
    from sealwax.prove import prove as run

    names = names or tuple(name for name in (os.environ.get("SEALWAX_KEY"),) if name)
    if len(names) != 1:
        raise click.UsageError("name one KMS key with -k, or in SEALWAX_KEY")
    for option, given in (("--to", to), ("--denied-profile", denied_profile), ("--denied-role", denied_role)):
        if given == "":  # of a shell variable that is not set; what it was to show would go unseen
            raise click.UsageError(f"{option} names nothing")
    if denied_profile and denied_role:
        raise click.UsageError("--denied-profile and --denied-role exclude each other")
    (key,) = names
    context = template.to_bind(None)
    with _reach(aws, denied_profile, denied_role) as (session, denied, helper):
        chosen = Options(to=to, denied=denied, helper=helper, allow_changes=allow_changes)
        planned = planned_requests(key, context, session, chosen)
        console.tell(
            f"{planned} requests to KMS are planned, {planned * USD_PER_CALL:.5f} USD; "
            f"{_ROTATED if allow_changes else 'the key will not be changed'}"
        )
        report = run(key, context, session, chosen, (lambda _: None) if as_json else _print)
    if as_json:
        console.print_json(report.as_dict())
    else:
        _sum_up(report)
    if report.count("failed"):
        return FINDINGS
    asked_for = {"denied-principal": denied, "reencrypt-other-key": to, "rotation": allow_changes}
    undone = (one for one in report.checks if one.outcome == "not shown")
    return PARTLY_DONE if any(one.interrupted or asked_for.get(one.name) for one in undone) else 0


@contextlib.contextmanager
def _reach(
    where: options.Aws, denied_profile: str | None, denied_role: str | None
) -> Iterator[tuple[Session, Callable[[], Session] | None, Helper]]:
    """Lend the session, what opens the one that must be denied, and the process to search."""
    from sealwax._aws import sts
    from sealwax._aws.session import at_endpoint
    from sealwax.prove import Helper

    session = where.session()
    denied: Callable[[], Session] | None = None
    if where.lab is not None:
        with _served_lab(where.lab, where.region) as (lab, environment):
            if denied_role:
                denied = partial(lab.session, where.region, principal=denied_role)
            elif denied_profile:
                own = sessions.session(denied_profile, where.region)
                denied = _opened(at_endpoint(own, environment["AWS_ENDPOINT_URL_KMS"]))
            yield session, denied, Helper(environment)
        return
    given: dict[str, str | None] = {}
    if where.profile is not None:
        # A profile that is named comes before keys in the environment; one that the environment names does not.
        given |= {**dict.fromkeys(_IDENTITY), "AWS_PROFILE": where.profile}
    own = sessions.session(where.profile, where.region)
    # The process to search takes over what an MFA code was given for: it asks nobody once more.
    given |= own.sign_in() or {}
    if where.endpoint_url is not None:
        given |= {"AWS_ENDPOINT_URL_KMS": where.endpoint_url, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": None}
    if denied_role:
        # STS is not at KMS's endpoint.
        denied = partial(sts.assume_role, denied_role, own, where.region, where.endpoint_url)
    elif denied_profile:
        denied = _opened(at_endpoint(sessions.session(denied_profile, where.region), where.endpoint_url))
    yield session, denied, Helper(given)


def _opened(session: Session) -> Callable[[], Session]:
    """Return what hands out a session that was opened at once: a profile that is not there is told beforehand."""
    return lambda: session


@contextlib.contextmanager
def _served_lab(folder: str, region: str | None) -> Iterator[tuple[Lab, dict[str, str | None]]]:
    """Lend a lab, and the settings with which another process reaches it."""
    from sealwax.lab import Server

    lab = options.open_lab(folder)
    credentials = lab.session(region).get_credentials()
    assert credentials is not None
    key = credentials.get_frozen_credentials()
    server = Server(lab)
    serving = threading.Thread(target=server.serve, daemon=True)
    serving.start()
    settings: dict[str, str | None] = {
        **dict.fromkeys(_IDENTITY),
        "AWS_ENDPOINT_URL_KMS": server.url,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": None,
        # It speaks to this machine alone.
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "*"),
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_SESSION_TOKEN": key.token,
    }
    try:
        yield lab, settings
    finally:
        server.close()
        serving.join()


def _width() -> int | None:
    """Return how wide the terminal is that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _print(result: CheckResult) -> None:
    width = _width()
    if width is None:
        evidence = _evidence(result)
        line = f"{result.outcome:<9}  {result.name:<21}  {_detail(result)}"
        console.put(line + (f"  [{evidence}]" if evidence else ""))
        return
    # One line of a screen has room for the last thing that was asked; why something failed is told at the end.
    line = f"{result.outcome:<9} {result.name:<21} {_last(result) or _detail(result)}"
    if len(line) > width:
        line = line[: width - 1] + "…"
    console.put(click.style(line[:9], fg=_COLORS[result.outcome]) + line[9:])


def _detail(result: CheckResult) -> str:
    options = {"denied": "--denied-profile or --denied-role", "to": "--to", "allow_changes": "--allow-changes"}
    detail = printable(result.detail)
    return f"{detail}: add {options[result.missing]}" if result.missing in options else detail


def _last(result: CheckResult) -> str:
    if not result.evidence:
        return ""
    last = result.evidence[-1]
    alike = sum((one.operation, one.error) == (last.operation, last.error) for one in result.evidence)
    parts = [
        f"{last.time:%H:%M:%S}",
        f"{alike} x {last.operation}" if alike > 1 else last.operation,
        (last.error or "ok").removesuffix("Exception"),
        f"+{len(result.evidence) - alike}" if len(result.evidence) > alike else "",
        # Enough to find it in --json.
        (last.request_id or "")[:8] if last.is_request else "",
    ]
    return " ".join(part for part in parts if part)


def _evidence(result: CheckResult) -> str:
    """Return what was asked and how it ended, alike ones together, and where to find the last one in CloudTrail."""
    counts = Counter(
        f"{'injected ' if one.simulated else ''}{one.operation}{f': {one.error}' if one.error else ''}"
        for one in result.evidence
    )
    parts = [text if times == 1 else f"{text} x {times}" for text, times in counts.items()]
    requests = [one for one in result.evidence if one.is_request]
    if requests:
        parts.append(f"last request {requests[-1].request_id} at {requests[-1].time:%H:%M:%SZ}")
    return "; ".join(parts)


def _sum_up(report: ProofReport) -> None:
    width = _width()
    if width is not None:
        outcomes = {result.name: result.outcome for result in report.checks}
        for result in report.checks:
            # What only waited for another check has said so in its line.
            ready = all(outcomes[need] == "passed" for need in result.needs)
            if result.outcome != "passed" and ready:
                text = f"{result.outcome}: {result.name}: {_detail(result)}"
                console.put(textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False))
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in ("passed", "failed", "not shown"))
    console.put(
        f"{printable(report.key_arn or report.key)}:{' ' if width is None else chr(10)}"
        f"{counts}. {report.requests} requests to KMS were made ({report.planned} planned)."
    )
    if report.count("not shown"):
        console.tell("what is not shown is not known to be so; each line says what it would take")
