"""sealwax audit"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._core import files
from sealwax._core.format.io import write_all
from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, options
from sealwax.cli.console import counted
from sealwax.cli.kms import Aws

if TYPE_CHECKING:
    from sealwax.audit import Audit, Checkpoint, Facts

_ALIAS: Final = re.compile(r"alias/[A-Za-z0-9:/_-]+")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_KEY: Final = re.compile(rf"{_ARN.pattern}|[A-Za-z0-9-]+")
_ACCOUNT: Final = re.compile("[0-9]{12}")
# A service's own endpoint variable has its id, which is not its client's name.
_VARIABLES: Final = {"iam": "IAM", "events": "EVENTBRIDGE", "logs": "CLOUDWATCH_LOGS", "cloudwatch": "CLOUDWATCH"}
_SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
_COLORS: Final = {"critical": "red", "high": "red", "medium": "yellow", "low": "cyan", "info": "blue"}


def _each(
    pattern: re.Pattern[str], what: str
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[str, ...]]:
    """Return a callback that refuses values which do not match."""

    def check(_context: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        for value in given:
            if not pattern.fullmatch(value):
                raise click.BadParameter(f"'{printable(value)}' is not {what}")
        return given

    return check


def _expected(_context: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for pair in given:
        name, _, key = pair.partition("=")
        alias = f"alias/{name.removeprefix('alias/')}"
        if not _ALIAS.fullmatch(alias) or not _KEY.fullmatch(key):
            raise click.BadParameter(f"'{printable(pair)}' is not NAME=KEY: an alias, and a key ID or key ARN")
        if aliases.setdefault(alias, key) != key:
            raise click.BadParameter(f"'{alias}' was given twice, with different keys")
    return aliases


def _keys_of(plan: str) -> list[str]:
    from sealwax.fleet._journal import Journal

    with Journal(plan) as journal:
        return journal.keys()


def _refuse_elsewhere(expected: Mapping[str, str], regions: Sequence[str]) -> None:
    """Refuse an alias that is expected in a Region that is not audited, where no rule would check it."""
    for alias, key in expected.items():
        if key.startswith("arn:") and (region := key.split(":")[3]) not in regions:
            raise click.UsageError(
                f"'{alias}' should point to a key in {region}, which is not audited; add --region {region}"
            )


@click.command()
@click.option("-k", "--key", "names", multiple=True, metavar="KEY", help="A KMS key to audit; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Audit all KMS keys of the account.")
@click.option("--region", "regions", multiple=True, metavar="REGION", help="An AWS Region to audit; repeatable.")
@options.account
@click.option("--facts", "facts_file", metavar="FILE", help="Audit the facts in this file, without using the network.")
@click.option(
    "--save-facts",
    metavar="FILE",
    help="Save the collected facts to this file. If interrupted, run the same command again to resume.",
)
@click.option(
    "--max-age",
    type=options.Duration(),
    metavar="TIME",
    default="8h",
    show_default=True,
    help="When resuming, repeat lookups that are older than this.",
)
@click.option(
    "--events", "events_file", metavar="FILE", help="Read CloudTrail events from a trail's log file or from JSON lines."
)
@click.option(
    "--envelopes-under",
    multiple=True,
    metavar="ARN",
    callback=_each(_ARN, "a key ARN"),
    help="The ARN of a key that live envelopes are under; repeatable.",
)
@click.option(
    "--fleet-plan",
    "plans",
    multiple=True,
    metavar="FILE",
    help="A plan of `sealwax fleet`: its envelopes are live, under the keys that it lists; repeatable.",
)
@click.option(
    "--trust-account",
    "trusted",
    multiple=True,
    metavar="ID",
    callback=_each(_ACCOUNT, "an account ID of twelve digits"),
    help="The ID of another account that may have access; repeatable.",
)
@click.option(
    "--expect-alias",
    "expected",
    multiple=True,
    metavar="NAME=KEY",
    callback=_expected,
    help="The key ID or key ARN that an alias should point to; repeatable.",
)
@click.option(
    "--baseline", "baseline_file", metavar="FILE", help="Read accepted findings, with their reasons, from this file."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv", "html", "junit", "ocsf", "sarif")),
    default="table",
    show_default=True,
    help="The format of the report.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("-o", "--output", metavar="FILE", help="Write the report to this file.")
@click.option(
    "--fail-on",
    type=click.Choice((*_SEVERITIES, "never")),
    default="high",
    show_default=True,
    help="Exit with status 3 if there is a finding of this severity or higher.",
)
@click.option(
    "--allow-incomplete",
    is_flag=True,
    help="If lookups failed but --fail-on matches no finding, exit with status 0 instead of 8.",
)
@options.force
@options.loudness
def audit(
    aws: Aws,
    names: tuple[str, ...],
    everything: bool,
    regions: tuple[str, ...],
    facts_file: str | None,
    save_facts: str | None,
    max_age: float,
    events_file: str | None,
    envelopes_under: tuple[str, ...],
    plans: tuple[str, ...],
    trusted: tuple[str, ...],
    expected: Mapping[str, str],
    baseline_file: str | None,
    form: str,
    as_json: bool,
    output: str | None,
    fail_on: str,
    allow_incomplete: bool,
    force: bool,
) -> int:
    """Find misconfigured KMS keys and how to fix them.

    The account around the keys is audited too: aliases, grants, policies and trails. Nothing is changed; `sealwax
    policy iam audit` writes the permissions that this needs. Failed lookups are reported and make the exit status 8,
    unless a finding makes it 3. The rules are in docs/misconfigurations.md.
    """
    from sealwax.audit import read_baseline, read_events, read_facts, run, with_events

    if facts_file and (names or everything or regions or save_facts):
        raise click.UsageError("--facts cannot be combined with -k, --all, --region or --save-facts")
    _refuse_unused(as_json, form, save_facts)
    if not facts_file and bool(names) == everything:
        raise click.UsageError("give either -k KEY or --all, or saved facts with --facts FILE")
    for path in (facts_file, baseline_file, events_file):
        if path:
            console.claim(path)
    accepted = read_baseline(baseline_file) if baseline_file else ()
    events = read_events(events_file) if events_file else None

    under = tuple(dict.fromkeys((*envelopes_under, *(arn for plan in plans for arn in _keys_of(plan)))))

    def completed(facts: Facts) -> Facts:
        facts = facts if events is None else with_events(facts, events)
        _refuse_elsewhere(expected, facts.regions)
        return replace(
            facts,
            envelopes_under=under or facts.envelopes_under,
            trusted_accounts=tuple(dict.fromkeys((*facts.trusted_accounts, *trusted))),
            expected_aliases={**facts.expected_aliases, **expected},
        )

    if facts_file:
        facts = completed(read_facts(facts_file))
    else:
        where = _Where(aws, names, regions, events=events is None)
        if save_facts:
            facts = _saved(where, save_facts, timedelta(seconds=max_age), completed, force)
        else:
            facts = completed(where.gather())
    if facts.since is not None:
        console.info(f"some of these facts date from {facts.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    report = run(facts, accepted)
    _report(report, "json" if as_json else form, output, force)
    return _status(report, fail_on, allow_incomplete)


def _refuse_unused(as_json: bool, form: str, save_facts: str | None) -> None:
    """Refuse options that would have no effect beside the others."""
    source = click.get_current_context().get_parameter_source
    if as_json and form != "json" and source("form") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"use --json or --format {form}, not both")
    if source("max_age") is ParameterSource.COMMANDLINE and not save_facts:
        raise click.UsageError("--max-age requires --save-facts")


def _status(report: Audit, fail_on: str, allow_incomplete: bool) -> int:
    """Print what the report does not stress, and return the exit status."""
    from sealwax.audit import Severity

    for entry in report.expired:
        resource = printable(entry.finding.resource)
        console.warn(f"no longer accepted since {entry.expires}: {entry.finding.rule} of {resource}")
    if report.unmatched:
        console.warn(
            f"{counted(len(report.unmatched), 'baseline entry', 'baseline entries')} without a finding: "
            "fixed, mistyped, or not checked"
        )
    if report.gaps:
        console.warn(f"{counted(len(report.gaps), 'item')} could not be checked, and may not be fine")
    worst = report.worst
    if fail_on != "never" and worst is not None and worst >= Severity[fail_on.upper()]:
        return FINDINGS
    if report.refused and not allow_incomplete:
        console.warn(
            f"{counted(len(report.refused), 'lookup')} failed, so the audit is incomplete "
            f"(exit status {PARTLY_DONE}; 0 with --allow-incomplete)"
        )
        return PARTLY_DONE
    return 0


@dataclass(frozen=True, slots=True)
class _Where:
    """The keys and Regions to audit."""

    aws: Aws
    names: tuple[str, ...]
    regions: tuple[str, ...]
    events: bool

    def gather(self, checkpoint: Checkpoint | None = None) -> Facts:
        from sealwax._aws.session import Clients
        from sealwax.audit import gather

        session = replace(self.aws, region=self.regions[0] if self.regions else None).session()
        arns = (name for name in self.names if name.startswith("arn:") and name.count(":") > 4)
        regions = self.regions or tuple(dict.fromkeys(arn.split(":")[3] for arn in arns)) or (Clients(session).region,)
        absent = {} if self.aws.lab is None else dict(_absent())
        return gather(session, regions, self.names, unavailable=absent, events=self.events, checkpoint=checkpoint)

    @property
    def place(self) -> str:
        """Where answers come from, so that those of a lab are not mistaken for AWS's."""
        if self.aws.lab is not None:
            return f"the lab in {os.path.realpath(self.aws.lab)}"
        variables = ("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL")
        given = self.aws.endpoint_url or next((os.environ[name] for name in variables if os.environ.get(name)), None)
        return given or "AWS"


def _saved(where: _Where, path: str, max_age: timedelta, completed: Callable[[Facts], Facts], force: bool) -> Facts:
    """Collect facts and save them; resume from the answers that an interrupted run has kept."""
    from sealwax.audit import Checkpoint, _factsfile

    if files.is_special(path):
        facts = completed(where.gather())
        _write(path, _factsfile.dump(facts), force)
        return facts
    with Checkpoint(path, where.place, max_age) as answers:
        if answers.oldest is not None:
            old = _age(datetime.now(UTC) - answers.oldest)
            console.warn(f"resuming from {answers.shown}: {answers.kept} answers, the oldest from {old} ago")
        elif not force:
            with console.overwriting(path):
                files.refuse_existing(path)
        try:
            facts = completed(where.gather(answers))
        except BaseException:
            if answers.begun:
                console.warn(f"the answers so far are in {answers.shown}; run the same command again to resume")
            raise
        # The run that was interrupted has checked this, or was given --force.
        _write(path, _factsfile.dump(facts), force or answers.oldest is not None)
        if answers.incomplete:
            console.warn(
                f"some lookups failed; run the same command again to repeat them ({answers.shown} keeps the others)"
            )
        else:
            answers.remove()
    return facts


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _absent() -> Iterator[tuple[str, str]]:
    """Yield the services that a lab lacks, except those for which the environment names an endpoint."""
    for service, name in _VARIABLES.items():
        variable = f"AWS_ENDPOINT_URL_{name}"
        if not os.environ.get(variable):
            yield service, f"the lab does not have this service; {variable} can name an endpoint that does"
    yield "cloudtrail:DescribeTrails", "the lab has no trails; `sealwax lab serve --upstream` can forward this call"


def _write(path: str, data: bytes, force: bool) -> None:
    # Regardless of the umask: a file that others may write is refused when it is read.
    with console.overwriting(path), files.WholeFile(path, overwrite=force, mode=0o644) as file:
        write_all(file, data)


def _report(report: Audit, form: str, output: str | None, force: bool) -> None:
    from sealwax.audit import render

    if form == "table" and output is None:
        _print(report)
        return
    text = "".join(f"{line}\n" for line in _lines(report)) if form == "table" else render(report, form)
    if output is None:
        console.print(text.removesuffix("\n"))
    else:
        _write(output, text.encode(), force)


def _print(report: Audit) -> None:
    for line in _lines(report):
        severity = line.split(" ", 1)[0]
        color = _COLORS.get(severity)
        console.print(line if color is None else click.style(severity, fg=color) + line[len(severity) :])


def _lines(report: Audit) -> list[str]:
    lines = []
    for finding in report.findings:
        lines += [
            f"{finding.severity.name.lower():<8}  {printable(finding.title)}",
            f"          {finding.rule}, {printable(finding.resource)}",
            f"          why: {printable(finding.why)}",
        ]
        if finding.statement is not None:
            lines.append(f"          is:  {printable(json.dumps(finding.statement))}")
        fix = [printable(line) for line in finding.fix.says.splitlines()] or [""]
        lines += [f"          fix: {fix[0]}", *(f"               {line}" for line in fix[1:])]
        for block in finding.fix.blocks:
            # Meant for pasting, so not indented.
            lines += [f"               {block.label}:"]
            lines += ["", *(printable(line) for line in block.text.splitlines()), ""]
        lines += [] if finding.fix.blocks else [""]
    lines += [f"unchecked {gap.what} of {printable(gap.resource)}: {printable(gap.why)}" for gap in report.gaps]
    for entry in report.accepted:
        until = "" if entry.expires is None else f" until {entry.expires}"
        resource = printable(entry.finding.resource)
        lines.append(f"accepted  {entry.finding.rule}, {resource}{until}: {printable(entry.reason)}")
    for waiver in report.unmatched:
        lines.append(f"unmatched {printable(waiver.rule)}, {printable(waiver.resource)}: {printable(waiver.reason)}")
    summary = ", ".join(f"{count} {what}" for what, count in report.counts.items())
    lines.append(
        f"account {report.account}, {', '.join(report.regions)}: {counted(len(report.findings), 'finding')}; {summary}"
    )
    return lines
