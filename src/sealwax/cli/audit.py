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
from sealwax._core.context import printable
from sealwax._core.format.io import write_all
from sealwax.cli import PARTLY_DONE, console, options

if TYPE_CHECKING:
    from sealwax.audit import Audit, Checkpoint, Facts

FINDINGS: Final = 3
_ALIAS: Final = re.compile(r"alias/[A-Za-z0-9:/_-]+")
_KEY: Final = re.compile(r"(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/)?[A-Za-z0-9-]+")
# A service's own endpoint variable has its id, which is not its client's name.
_VARIABLES: Final = {"iam": "IAM", "events": "EVENTBRIDGE", "logs": "CLOUDWATCH_LOGS", "cloudwatch": "CLOUDWATCH"}
_SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
_COLORS: Final = {"critical": "red", "high": "red", "medium": "yellow", "low": "cyan", "info": "blue"}


def _accounts(_context: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for one in given:
        if not re.fullmatch("[0-9]{12}", one):
            raise click.BadParameter(f"an account is twelve digits, not '{printable(one)}'")
    return given


def _expected(_context: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, _, key = one.partition("=")
        alias = f"alias/{name.removeprefix('alias/')}"
        if not _ALIAS.fullmatch(alias) or not _KEY.fullmatch(key):
            raise click.BadParameter(f"NAME=KEY is an alias and the id or ARN of a key, not '{printable(one)}'")
        if found.setdefault(alias, key) != key:
            raise click.BadParameter(f"'{alias}' is given twice, with two keys")
    return found


def _arns(_context: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for one in given:
        if not one.startswith("arn:") or not _KEY.fullmatch(one):
            raise click.BadParameter(f"a key with envelopes is named by its ARN, not '{printable(one)}'")
    return given


def _keys_of(plan: str) -> list[str]:
    from sealwax.fleet._journal import Journal

    with Journal(plan) as journal:
        return journal.keys()


def _refuse_elsewhere(expected: Mapping[str, str], regions: Sequence[str]) -> None:
    """Refuse what would be expected where nobody looks, and so found by nobody."""
    for alias, key in expected.items():
        if key.startswith("arn:") and (region := key.split(":")[3]) not in regions:
            raise click.UsageError(f"'{alias}' is expected in {region}, where was not looked: add --region {region}")


@click.command()
@click.option("-k", "--key", "names", multiple=True, metavar="KEY", help="A KMS key to look at; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Look at every KMS key of the account.")
@click.option("--region", "regions", multiple=True, metavar="REGION", help="An AWS Region to look in; repeatable.")
@options.account
@click.option("--facts", "facts_file", metavar="FILE", help="Judge the facts in this file; no network is used.")
@click.option(
    "--save-facts",
    metavar="FILE",
    help="Write the facts that were gathered to this file. What was broken off is gone on with by the same command.",
)
@click.option(
    "--max-age",
    type=options.Duration(),
    metavar="TIME",
    default="8h",
    show_default=True,
    help="Ask again what a broken-off run was answered longer ago than this.",
)
@click.option("--events", "events_file", metavar="FILE", help="CloudTrail events: a trail's file, or JSON lines.")
@click.option(
    "--envelopes-under", multiple=True, metavar="ARN", callback=_arns, help="A key with live envelopes; repeatable."
)
@click.option(
    "--fleet-plan",
    "plans",
    multiple=True,
    metavar="FILE",
    help="A plan of `sealwax fleet`: its envelopes are live, under the keys where it has them; repeatable.",
)
@click.option(
    "--trust-account",
    "trusted",
    multiple=True,
    metavar="ID",
    callback=_accounts,
    help="Another account that may be let in, by its twelve digits; repeatable.",
)
@click.option(
    "--expect-alias",
    "expected",
    multiple=True,
    metavar="NAME=KEY",
    callback=_expected,
    help="Where an alias ought to point: at a key id or the ARN of a key; repeatable.",
)
@click.option("--baseline", "baseline_file", metavar="FILE", help="Findings that are accepted, with their reasons.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv", "html", "junit", "ocsf", "sarif")),
    default="table",
    show_default=True,
    help="How to report.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", metavar="FILE", help="Write the report to this file.")
@click.option(
    "--fail-on",
    type=click.Choice((*_SEVERITIES, "never")),
    default="high",
    show_default=True,
    help="End with status 3 where there is a finding of this severity or a worse one.",
)
@click.option(
    "--allow-incomplete", is_flag=True, help="End with 0, not 8, where what could be looked at has no such finding."
)
@options.force
@options.loudness
def audit(
    aws: options.Aws,
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
    """Find what is set wrong with KMS keys and the account around them; each finding comes with its fix.

    Facts are read and nothing is changed; `sealwax policy iam audit` writes the permissions. What could not be
    looked at is said, and never counts as well: where something was refused and there is no finding that ends with 3,
    the status is 8. The rules are in docs/misconfigurations.md.
    """
    from sealwax.audit import Severity, read_baseline, read_events, read_facts, run, with_events

    if facts_file and (names or everything or regions or save_facts):
        raise click.UsageError("--facts goes with no option that says where to look, nor with --save-facts")
    source = click.get_current_context().get_parameter_source
    if as_json and form != "json" and source("form") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--json and --format {form} are two formats: give one of them")
    if source("max_age") is ParameterSource.COMMANDLINE and not save_facts:
        raise click.UsageError("--max-age is about what --save-facts keeps")
    if not facts_file and bool(names) == everything:
        raise click.UsageError("say which keys: -k KEY, or --all; or judge saved facts with --facts FILE")
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
        console.tell(f"some of these facts are of {facts.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    found = run(facts, accepted)
    _report(found, "json" if as_json else form, output, force)
    for one in found.expired:
        console.say(f"no longer accepted since {one.expires}: {one.finding.rule} of {printable(one.finding.resource)}")
    if found.unmatched:
        console.say(
            f"{len(found.unmatched)} entries of the baseline match no finding: mended, mistyped, or not looked at"
        )
    if found.gaps:
        console.say(f"{len(found.gaps)} things were not looked at, and nothing is said of them")
    worst = found.worst
    if fail_on != "never" and worst is not None and worst >= Severity[fail_on.upper()]:
        return FINDINGS
    if found.refused and not allow_incomplete:
        console.say(
            f"{len(found.refused)} of them were asked for in vain, so this audit is not whole: that is status "
            f"{PARTLY_DONE}, and --allow-incomplete makes it 0"
        )
        return PARTLY_DONE
    return 0


@dataclass(frozen=True, slots=True)
class _Where:
    """Where to look, and at which keys."""

    aws: options.Aws
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
        """Where answers come from, so that those of a lab are not taken for AWS's."""
        if self.aws.lab is not None:
            return f"the lab in {os.path.realpath(self.aws.lab)}"
        variables = ("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL")
        given = self.aws.endpoint_url or next((os.environ[one] for one in variables if os.environ.get(one)), None)
        return given or "AWS"


def _saved(where: _Where, path: str, max_age: timedelta, completed: Callable[[Facts], Facts], force: bool) -> Facts:
    """Gather facts and write them; go on from what a broken-off run has gathered."""
    from sealwax.audit import Checkpoint, _factsfile

    if files.is_special(path):
        facts = completed(where.gather())
        _write(path, _factsfile.dump(facts), force)
        return facts
    with Checkpoint(path, where.place, max_age) as answers:
        if answers.oldest is not None:
            old = _age(datetime.now(UTC) - answers.oldest)
            console.say(f"going on from {answers.shown}: {answers.kept} answers are kept, the oldest of {old} ago")
        elif not force:
            files.refuse_existing(path)
        try:
            facts = completed(where.gather(answers))
        except BaseException:
            if answers.begun:
                console.say(f"what was gathered is in {answers.shown}; the same command goes on from there")
            raise
        # Who began it was told, or said, that what is there is replaced.
        _write(path, _factsfile.dump(facts), force or answers.oldest is not None)
        if answers.incomplete:
            console.say(f"not all was answered; the same command asks again, and {answers.shown} keeps the rest")
        else:
            answers.remove()
    return facts


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _absent() -> Iterator[tuple[str, str]]:
    """Yield the services that a lab has not, but for those that the environment says are elsewhere."""
    for service, name in _VARIABLES.items():
        variable = f"AWS_ENDPOINT_URL_{name}"
        if not os.environ.get(variable):
            yield service, f"the lab has none; {variable} names one"
    yield "cloudtrail:DescribeTrails", "the lab has no trails; one that is served with --upstream passes that on"


def _write(path: str, data: bytes, force: bool) -> None:
    # Whatever the umask: what others may write is refused when it is read.
    with files.WholeFile(path, overwrite=force, mode=0o644) as file:
        write_all(file, data)


def _report(found: Audit, form: str, output: str | None, force: bool) -> None:
    from sealwax.audit import render

    if form == "table" and output is None:
        _print(found)
        return
    text = "".join(f"{line}\n" for line in _lines(found)) if form == "table" else render(found, form)
    if output is None:
        console.put(text.removesuffix("\n"))
    else:
        _write(output, text.encode(), force)


def _print(found: Audit) -> None:
    for line in _lines(found):
        severity = line.split(" ", 1)[0]
        color = _COLORS.get(severity)
        console.put(line if color is None else click.style(severity, fg=color) + line[len(severity) :])


def _lines(found: Audit) -> list[str]:
    lines = []
    for finding in found.findings:
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
            # To be pasted: at the margin, and with nothing between its lines.
            lines += [f"               {block.label}:"]
            lines += ["", *(printable(line) for line in block.text.splitlines()), ""]
        lines += [] if finding.fix.blocks else [""]
    lines += [f"not seen  {one.what} of {printable(one.resource)}: {printable(one.why)}" for one in found.gaps]
    for one in found.accepted:
        until = "" if one.expires is None else f" until {one.expires}"
        lines.append(f"accepted  {one.finding.rule}, {printable(one.finding.resource)}{until}: {printable(one.reason)}")
    lines += [
        f"unmatched {printable(one.rule)}, {printable(one.resource)}: {printable(one.reason)}"
        for one in found.unmatched
    ]
    counted = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    lines.append(f"account {found.account}, {', '.join(found.regions)}: {len(found.findings)} findings; {counted}")
    return lines
