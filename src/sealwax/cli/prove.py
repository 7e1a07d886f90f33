"""sealwax prove"""

from __future__ import annotations

import contextlib
import json
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from sealwax._report import Provenance, Verdict
from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, layers, options
from sealwax.cli.console import counted
from sealwax.cli.kms import Aws, open_lab
from sealwax.cli.reporting import Reports, command, provenance, reports
from sealwax.cli.state import current

if TYPE_CHECKING:
    import boto3

    from sealwax._aws.session import Session
    from sealwax.lab import Lab
    from sealwax.prove import CheckResult, Helper, ProofReport

# The variables that give boto3 an identity.
_IDENTITY: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
# What gives a check the field of Options that it lacks.
_OPTIONS: Final[Mapping[str | None, str]] = {
    "denied": "--denied-profile or --denied-role",
    "to": "--to",
    "allow_changes": "--allow-changes",
}
_FORMS: Final = ("html", "json")
_COLORS: Final = {"passed": "green", "failed": "red", "not shown": "yellow"}
_ROTATED: Final = (
    "the key will be rotated, which cannot be undone; KMS allows 25 such rotations per key, and AWS charges monthly "
    "for the first two"
)


@click.command()
@click.option(
    "-k",
    "--key",
    "names",
    multiple=True,
    metavar="KEY",
    help="The KMS key: key ID, key ARN, alias/NAME or alias ARN. Default: SEALWAX_KEY, or the settings.",
)
@options.aws
@options.context(stored=False, of_files=False)
@click.option("--to", metavar="KEY", help="Another KMS key of the same Region, to re-encrypt to.")
@click.option("--denied-profile", metavar="NAME", help="An AWS profile that must not be able to decrypt.")
@click.option("--denied-role", metavar="ARN", help="A role that must not be able to decrypt; needs sts:AssumeRole.")
@click.option("--allow-changes", is_flag=True, help="Also rotate the key, which cannot be undone.")
@click.option("--records", is_flag=True, help="Also seal, roll, re-wrap and shred records, in a scope of their own.")
@options.as_json
@reports(*_FORMS, add_force=True)
@options.loudness
def prove(
    names: tuple[str, ...],
    aws: Aws,
    template: options.ContextTemplate,
    to: str | None,
    denied_profile: str | None,
    denied_role: str | None,
    allow_changes: bool,
    records: bool,
    as_json: bool,
    reports: Reports,
) -> int:
    """Test, with evidence, that a KMS key protects what it should.

    The checks send requests to the key itself, with samples bound to the context of -c: some must succeed, and others
    must be refused. The key is not changed without --allow-changes. A check that could not run is "not shown", and does
    not count as passed. docs/how-to/verification.md describes what each check shows and needs.

    The exit status is 3 if a check failed, and 7 if the key cannot be used at all. It is 8 if a check
    could not run although an option asks for it, or because of a temporary problem such as throttling or expired
    credentials.
    """
    from sealwax.events import USD_PER_CALL
    from sealwax.prove import RECORDS_CHECKS, Options, planned_requests
    from sealwax.prove import prove as run
    from sealwax.records import MemoryKeys

    names = names or layers.default_keys()
    if len(names) != 1:
        raise click.UsageError("name one KMS key with -k or in SEALWAX_KEY")
    for option, given in (("--to", to), ("--denied-profile", denied_profile), ("--denied-role", denied_role)):
        if given == "":  # an unset shell variable must not silently drop a check
            raise click.UsageError(f"{option} is empty")
    if denied_profile and denied_role:
        raise click.UsageError("use --denied-profile or --denied-role, not both")
    (key,) = names
    context = template.to_bind(None)
    with _reach(aws, denied_profile, denied_role) as (session, denied, helper):
        chosen = Options(to=to, denied=denied, helper=helper, allow_changes=allow_changes)
        if records:
            chosen = replace(chosen, records=MemoryKeys())
        planned = planned_requests(key, context, session, chosen)
        console.info(
            f"{planned} KMS requests are planned ({planned * USD_PER_CALL:.5f} USD); "
            f"{_ROTATED if allow_changes else 'the key will not be changed'}"
        )
        silent = as_json or reports.on_stdout
        report = run(key, context, session, chosen, (lambda _: None) if silent else _print)
    asked_for = {"denied-principal": denied, "reencrypt-other-key": to, "rotation": allow_changes}
    asked_for |= {check.name: records for check in RECORDS_CHECKS}
    missing = [
        check.name
        for check in report.checks
        if check.outcome == "not shown" and (check.interrupted or asked_for.get(check.name))
    ]
    verdict = _verdict(report, missing)
    if report.count("failed") and (silent or current().quiet):
        console.warn(verdict.says)
    elif missing and not report.count("failed"):
        console.warn(f"these checks could not run: {', '.join(missing)} (exit status {PARTLY_DONE})")
    _show(report, verdict, as_json, reports, lambda: _made(report, aws, session))
    if report.count("failed"):
        return FINDINGS
    return PARTLY_DONE if missing else 0


def _made(report: ProofReport, aws: Aws, session: Session) -> Provenance:
    regions = [item.region or "" for result in report.checks for item in result.evidence]
    return provenance(aws, regions, session=session)


def _verdict(report: ProofReport, missing: Sequence[str]) -> Verdict:
    """Return how the key stands, and what to do next.

    Args:
        missing: the checks that were to run, and could not.
    """
    every, key = len(report.checks), printable(report.key)
    failed = [result.name for result in report.checks if result.outcome == "failed"]
    if failed:
        says = f"{key} failed {len(failed)} of {counted(every, 'check')}: {', '.join(failed)}"
        return Verdict("bad", says, "find what is misconfigured", command("audit", "--key", report.key))
    unseen = report.count("not shown")
    says = f"{key} passed {report.count('passed')} of {counted(every, 'check')}, and failed none"
    if missing:
        says += f"; {', '.join(missing)} could not run"
        if others := unseen - len(missing):
            says += f", and {others} {'is' if others == 1 else 'are'} not shown"
        return Verdict("unsure", says, "fix the causes above, and run the same command again")
    if unseen:
        says += f"; {unseen} {'is' if unseen == 1 else 'are'} not shown, and may still fail"
    needed = [_OPTIONS[result.missing] for result in report.checks if result.missing in _OPTIONS]
    more = f"for more checks, add: {'; '.join(needed)}" if needed else ""
    return Verdict("good", says, more or "nothing to do until the key or its policy changes")


def _show(
    report: ProofReport, verdict: Verdict, as_json: bool, reports: Reports, made: Callable[[], Provenance]
) -> None:
    """Print the report, its verdict last, and write those of --report."""
    report = replace(report, checks=tuple(replace(check, detail=_detail(check)) for check in report.checks))
    facts = report.as_dict() | verdict.as_dict()
    if as_json:
        console.print_json(facts)
    elif not reports.on_stdout and not current().quiet:
        _sum_up(report, verdict)
    if reports:
        origin = made()

        def render(form: str) -> str:
            from sealwax.prove._page import as_html

            if form == "json":
                return json.dumps(facts | {"made": origin.as_dict()}) + "\n"
            return as_html(report, verdict, origin)

        reports.write(render)


@contextlib.contextmanager
def _reach(
    where: Aws, denied_profile: str | None, denied_role: str | None
) -> Iterator[tuple[Session, Callable[[], Session] | None, Helper]]:
    """Yield the session, what opens the session that must be denied, and the helper process."""
    from sealwax._aws import sts
    from sealwax._aws.session import at_endpoint
    from sealwax.prove import Helper

    session = where.session()
    denied: Callable[[], Session] | None = None
    if where.lab is not None:
        with _served_lab(where.lab, where.region) as (lab, environment):
            if denied_role:
                denied = _watched(where, partial(lab.session, where.region, principal=denied_role))
            elif denied_profile:
                own = where.sessions.open(denied_profile, where.region)
                denied = _opened(at_endpoint(own, environment["AWS_ENDPOINT_URL_KMS"]))
            yield session, denied, Helper(environment)
        return
    given: dict[str, str | None] = {}
    if where.profile is not None:
        # --profile wins over keys in the environment; AWS_PROFILE does not.
        given |= {**dict.fromkeys(_IDENTITY), "AWS_PROFILE": where.profile}
    own = where.sessions.open(where.profile, where.region)
    # The helper process gets the credentials of the MFA code, so that it does not ask again.
    given |= own.sign_in() or {}
    if where.endpoint_url is not None:
        given |= {"AWS_ENDPOINT_URL_KMS": where.endpoint_url, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": None}
    if denied_role:
        # STS is not at the endpoint of KMS.
        prepare = where.sessions.watched
        denied = partial(sts.assume_role, denied_role, own, where.region, where.endpoint_url, prepare)
    elif denied_profile:
        denied = _opened(at_endpoint(where.sessions.open(denied_profile, where.region), where.endpoint_url))
    yield session, denied, Helper(given)


def _opened(session: Session) -> Callable[[], Session]:
    """Return what returns a session that is open already, so that a missing profile is reported at once."""
    return lambda: session


def _watched(where: Aws, opens: Callable[[], boto3.Session]) -> Callable[[], Session]:
    return lambda: where.sessions.watched(opens())


@contextlib.contextmanager
def _served_lab(folder: str, region: str | None) -> Iterator[tuple[Lab, dict[str, str | None]]]:
    """Yield a lab, and the environment with which another process reaches it."""
    from sealwax.lab._server import Server

    with open_lab(folder) as lab:
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
            # It is on this machine.
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


def _print(result: CheckResult) -> None:
    if result.outcome != "failed" and current().quiet:
        return
    width = console.width()
    if width is None:
        evidence = _evidence(result)
        line = f"{result.outcome:<9}  {result.name:<21}  {_detail(result)}"
        console.print(line + (f"  [{evidence}]" if evidence else ""))
        return
    # A line has room for the last request only; reasons for failures follow at the end.
    line = f"{result.outcome:<9} {result.name:<21} {_last(result) or _detail(result)}"
    if len(line) > width:
        line = line[: width - 1] + "…"
    console.print(click.style(line[:9], fg=_COLORS[result.outcome]) + line[9:])


def _detail(result: CheckResult) -> str:
    detail = printable(result.detail)
    return f"{detail}: add {_OPTIONS[result.missing]}" if result.missing in _OPTIONS else detail


def _last(result: CheckResult) -> str:
    if not result.evidence:
        return ""
    last = result.evidence[-1]
    alike = sum((item.operation, item.error) == (last.operation, last.error) for item in result.evidence)
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
    """Return the requests and their outcomes, grouped, and how to find the last one in CloudTrail."""
    counts = Counter(
        f"{'injected ' if item.simulated else ''}{item.operation}{f': {item.error}' if item.error else ''}"
        for item in result.evidence
    )
    parts = [text if times == 1 else f"{text} x {times}" for text, times in counts.items()]
    requests = [item for item in result.evidence if item.is_request]
    if requests:
        parts.append(f"last request {requests[-1].request_id} at {requests[-1].time:%H:%M:%SZ}")
    return "; ".join(parts)


def _sum_up(report: ProofReport, verdict: Verdict) -> None:
    width = console.width()
    if width is not None:
        outcomes = {result.name: result.outcome for result in report.checks}
        for result in report.checks:
            # The line of a check that waited for another one says so already.
            ready = all(outcomes[need] == "passed" for need in result.needs)
            if result.outcome != "passed" and ready:
                text = f"{result.outcome}: {result.name}: {result.detail}"
                console.print(textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False))
    named = "" if report.key_arn in (report.key, None) else f"{printable(report.key)} is "
    arn = printable(report.key_arn or report.key)
    requests = f"{counted(report.requests, 'KMS request')} {'was' if report.requests == 1 else 'were'} made"
    lines = [f"{named}{arn}", f"{requests} ({report.planned} planned).", *verdict.lines()]
    for line in lines:
        # Left whole if it holds a command to paste.
        if width is not None and not (verdict.command and line.startswith("next: ")):
            line = textwrap.fill(line, width, break_on_hyphens=False, break_long_words=False)
        console.print(line)
