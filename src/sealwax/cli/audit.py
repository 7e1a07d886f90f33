"""sealwax audit"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._core import files
from sealwax._core.format.io import write_all
from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, layers, locations, options, reporting
from sealwax.cli.kms import Aws
from sealwax.cli.state import current

if TYPE_CHECKING:
    from sealwax._report import Provenance, Verdict
    from sealwax.audit import Audit, Checkpoint, Facts

_ALIAS: Final = re.compile(r"alias/[A-Za-z0-9:/_-]+")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_ARN_OR_ALIAS: Final = re.compile(rf"{_ARN.pattern}|(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{{12}}:)?{_ALIAS.pattern}")
_KEY: Final = re.compile(rf"{_ARN.pattern}|[A-Za-z0-9-]+")
_ACCOUNT: Final = re.compile("[0-9]{12}")
# A service's own endpoint variable has its id, which is not its client's name.
_VARIABLES: Final = {"iam": "IAM", "events": "EVENTBRIDGE", "logs": "CLOUDWATCH_LOGS", "cloudwatch": "CLOUDWATCH"}
_SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
# What the command for a page leaves out of the one that was typed.
_OF_REPORTS: Final = ("--report", "--report-format")
_OF_SOURCE: Final = ("-k", "--key", "--region", "--profile", "--lab", "--endpoint-url")
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


def _by_alias(names: Sequence[str], facts: Facts) -> list[str]:
    """Return the ARNs of keys, as far as saved facts know their aliases."""
    arns: list[str] = []
    for name in names:
        found = {alias.key_arn for alias in facts.aliases or () if name in (alias.name, alias.arn)}
        if len(found) > 1:
            raise click.UsageError(f"'{name}' is an alias in several Regions; name the key by its ARN")
        if not (found or _ARN.fullmatch(name)):
            raise click.UsageError(f"the facts have no '{name}'; name the key by its ARN")
        arns += found or {name}
    return arns


def _refuse_elsewhere(expected: Mapping[str, str], regions: Sequence[str]) -> None:
    """Refuse an alias that is expected in a Region that is not audited, where no rule would check it."""
    for alias, key in expected.items():
        if key.startswith("arn:") and (region := key.split(":")[3]) not in regions:
            raise click.UsageError(
                f"'{alias}' should point to a key in {region}, which is not audited; add --region {region}"
            )


@click.command()
@click.option(
    "-k",
    "--key",
    "names",
    multiple=True,
    metavar="KEY",
    help="A KMS key to audit; repeatable. Default: SEALWAX_KEY, or the settings.",
)
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
    metavar="KEY",
    callback=_each(_ARN_OR_ALIAS, "a key ARN or an alias"),
    help="A key that live envelopes are under: key ARN, alias/NAME or alias ARN; repeatable.",
)
@click.option(
    "--fleet-plan",
    "plans",
    multiple=True,
    metavar="FILE",
    help="A plan of `sealwax fleet`; its envelopes count as live, under the keys that it lists; repeatable.",
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
@options.as_json
@reporting.reports("html", "csv", "json", "sarif", "junit", "ocsf")
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
    fail_on: str,
    allow_incomplete: bool,
    as_json: bool,
    reports: reporting.Reports,
    force: bool,
) -> int:
    """Find misconfigured KMS keys and how to fix them.

    The account around the keys is audited too: aliases, grants, policies and trails. Nothing is changed; `sealwax
    policy iam audit` writes the permissions that this needs. Failed lookups are reported and make the exit status 8,
    unless a finding makes it 3. The rules are in docs/reference/misconfigurations.md.
    """
    from sealwax.audit import read_baseline, read_events, read_facts, run, with_events

    if facts_file and (names or everything or regions or save_facts):
        raise click.UsageError("--facts cannot be combined with -k, --all, --region or --save-facts")
    if _max_age_typed() and not save_facts:
        raise click.UsageError("--max-age requires --save-facts")
    if not (names or everything or facts_file):
        names = layers.default_keys()
    if not facts_file and bool(names) == everything:
        raise click.UsageError("give either -k KEY or --all, or saved facts with --facts FILE")
    for path, what in (
        (facts_file, "the facts"),
        (save_facts, "the facts"),
        (baseline_file, "the baseline"),
        (events_file, "the events"),
    ):
        if path:
            reports.refuse(path, what)
            if path != save_facts:
                console.need(path)
    accepted = read_baseline(baseline_file) if baseline_file else ()
    events = read_events(events_file) if events_file else None

    planned = [arn for plan in plans for arn in _keys_of(plan)]
    where = _Where(aws, names, regions, events=events is None)
    if not facts_file:
        envelopes_under = tuple(where.in_first_region().key_arns(envelopes_under))

    def completed(facts: Facts) -> Facts:
        under = tuple(dict.fromkeys((*_by_alias(envelopes_under, facts), *planned)))
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
    elif save_facts:
        facts = _saved(where, save_facts, timedelta(seconds=max_age), completed, force)
    else:
        facts = completed(where.gather())
    if facts.since is not None:
        console.info(f"some of these facts date from {facts.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    report = run(facts, accepted)
    made = reporting.provenance(aws, report.regions, caller=report.caller)
    if facts_file:
        made = replace(made, source="")  # a file does not say
    _report(report, replace(made, account=report.account), reports, as_json=as_json, saved=save_facts)
    return _status(report, fail_on, allow_incomplete)


def _max_age_typed() -> bool:
    return click.get_current_context().get_parameter_source("max_age") is ParameterSource.COMMANDLINE


def _status(report: Audit, fail_on: str, allow_incomplete: bool) -> int:
    from sealwax.audit import Severity

    worst = report.worst
    if fail_on != "never" and worst is not None and worst >= Severity[fail_on.upper()]:
        return FINDINGS
    if report.refused and not allow_incomplete:
        if current().quiet:
            console.warn(f"{console.counted(len(report.refused), 'lookup')} failed, so the audit is incomplete")
        return PARTLY_DONE
    return 0


@dataclass(frozen=True, slots=True)
class _Where:
    """The keys and Regions to audit."""

    aws: Aws
    names: tuple[str, ...]
    regions: tuple[str, ...]
    events: bool

    def in_first_region(self) -> Aws:
        return replace(self.aws, region=self.regions[0] if self.regions else self.aws.region)

    def gather(self, checkpoint: Checkpoint | None = None) -> Facts:
        from sealwax._aws.session import Clients
        from sealwax.audit import gather

        session = self.in_first_region().session()
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
            console.info(f"resuming from {answers.shown}: {answers.kept} answers, the oldest from {old} ago")
        elif not force:
            with console.overwriting(path):
                files.refuse_existing(path)
        locations.refuse_data(path, "--save-facts")
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


def _report(report: Audit, made: Provenance, reports: reporting.Reports, *, as_json: bool, saved: str | None) -> None:
    """Print the audit, write its reports, and end with the verdict.

    Args:
        saved: the file with the facts, from which a page can be made without asking AWS again.
    """
    from sealwax.audit import render, to_json
    from sealwax.audit._reports import html
    from sealwax.cli import findings

    ending = _verdict(report, reports, saved)
    document = to_json(report) | ending.as_dict()

    def rendered(form: str) -> str:
        if form == "json":
            return json.dumps(document | {"made": made.as_dict()}) + "\n"
        return html.render(report, made) if form == "html" else render(report, form)

    reports.write(rendered)
    if as_json or reports.on_stdout or (saved is not None and _is_stdout(saved)):
        if as_json:
            console.print_json(document)
        for line in (*_of_baseline(report), *ending.lines()):
            console.info(line)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    says, *following = ending.lines()
    # What is next may be a command to paste, so it is not broken.
    lines = (*findings.text(report, whole=current().verbose, width=width), *findings.wrapped(says, width), *following)
    for line in lines:
        severity = line.split(" ", 1)[0]
        color = _COLORS.get(severity)
        console.print(line if color is None else click.style(severity, fg=color) + line[len(severity) :])


def _is_stdout(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(1)) and files.is_special(path)
    return False


def _of_baseline(report: Audit) -> Iterator[str]:
    """Yield what the text says too."""
    for entry in report.expired:
        resource = printable(entry.finding.resource)
        yield f"no longer accepted since {entry.expires}: {entry.finding.rule} of {resource}"
    if report.unmatched:
        entries = console.counted(len(report.unmatched), "baseline entry", "baseline entries")
        yield f"{entries} without a finding: fixed, mistyped, or not checked"


def _verdict(report: Audit, reports: reporting.Reports, saved: str | None) -> Verdict:
    """Return how the audit ended and what to do next."""
    from sealwax.audit._reports.groups import verdict

    page = next((path for path, form in reports.targets if form == "html" and path != "-"), None)
    if report.findings:
        if page is not None:
            return verdict(report, f"open {console.shown(page)}, and fix the worst first")
        return verdict(report, "see how to fix each finding", _page_command(saved))
    if report.refused:
        return verdict(
            report,
            "fix the failed lookups, listed as not checked, and audit again; or accept them with --allow-incomplete",
        )
    return verdict(report, "look at what was not checked" if report.gaps else "nothing to fix")


def _page_command(saved: str | None) -> str:
    """Return the command that was typed, with a page as its report."""
    words = _without(reporting.typed_words(), flags=("--json", "--force", "-q", "-v"), options=_OF_REPORTS)
    if saved is not None:
        words = _without(words, flags=(), options=("--save-facts", "--max-age"))
        if not files.is_special(saved):
            words = [*_without(words, flags=("--all",), options=_OF_SOURCE), "--facts", saved]
    names = ("audit.html", *(f"audit-{number}.html" for number in range(2, 1000)))
    free = next((name for name in names if not os.path.lexists(name)), names[0])
    return printable(shlex.join((*words, "--report", free)))


def _without(words: Sequence[str], *, flags: Collection[str], options: Collection[str]) -> list[str]:
    """Return the words of a command without some options and their values."""
    kept = []
    rest = iter(words)
    for word in rest:
        if word in options:
            next(rest, None)
        elif word not in flags and word.partition("=")[0] not in options and not _is_short(word, options):
            kept.append(word)
    return kept


def _is_short(word: str, options: Collection[str]) -> bool:
    return word[1:2] != "-" and word[:2] in options
