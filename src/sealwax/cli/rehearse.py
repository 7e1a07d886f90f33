"""sealwax rehearse"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sealwax._core.files import WholeFile
from sealwax._core.format.io import write_all
from sealwax._report import Provenance, Verdict
from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, options
from sealwax.cli.console import counted
from sealwax.cli.state import current
from sealwax.errors import KeyStoreError

if TYPE_CHECKING:
    from sealwax._rehearse.run import Rehearsal, Told, Watch
    from sealwax._rehearse.state import Folder
    from sealwax._rehearse.steps import StepResult
    from sealwax._rehearse.world import AwsReach

_FOLDER: Final = "sealwax-rehearsal"
_ENDPOINT: Final = "AWS_ENDPOINT_URL"
_NOTES: Final = """
AWS charges keys by the hour, and not while their deletion is pending: most of this is never billed. The keys stay
pending deletion for {days} days, and the one with a replica for {days} more, since KMS deletes its replica first.
If the account never had a multi-Region key, KMS makes the role AWSServiceRoleForKeyManagementServiceMultiRegionKeys,
and it stays.

It needs this IAM policy, as a managed policy: it is too long for an inline policy of a user. Whoever has it can tag any
KMS key of the account and then use it, so attach it for the rehearsal only:
"""


@click.command()
@click.option("--profile", metavar="NAME", help="The AWS profile to use.")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="A Region to work in; give it twice. The second one gets the replica of a multi-Region key.",
)
@click.option("--apply", is_flag=True, help="Do it; without it, only say what would be made, and what it costs.")
@click.option("--clean-up", is_flag=True, help="Only take away what rehearsals have left in the account.")
@options.as_json
@options.loudness
def rehearse(profile: str | None, regions: tuple[str, ...], apply: bool, clean_up: bool, as_json: bool) -> int:
    """Run all of sealwax once on a real AWS account, and compare the lab with AWS.

    Without --apply, it calls nothing: it prints what it would make, what that costs, and the IAM policy it needs.

    With --apply, it makes KMS keys, a bucket and roles, and uses them: values, files, S3, caching, a lost Region,
    grants, prove, audit, fleet, rotation, records, and the formats of other clients. It sends 150 requests to AWS and
    to the lab, and lists where the answers differ. In the end, and after Ctrl-C, it takes everything away; the keys
    stay pending deletion for 7 days, and the one with a replica for 14. If it is killed, the next run or --clean-up
    takes away what is left.

    It writes report.html and report.json to the folder sealwax-rehearsal. Neither has account ids, ARNs or request ids,
    so that you can attach them to an issue.

    --clean-up takes away the keys that rehearsals have made in these Regions, by their tag, and their roles and buckets
    in the whole account, by their names; also those of other people, and of rehearsals that are running.

    The exit status is 8 if it has run and something is left in the account, and else 3 if a step failed or an answer
    differs.
    """
    near_far = _checked(regions, apply=apply, clean_up=clean_up)
    if not apply and not clean_up:
        _tell(near_far, as_json=as_json)
        return 0
    if os.environ.get("SEALWAX_LAB"):
        console.info("ignoring SEALWAX_LAB: a rehearsal is about AWS, and makes a lab of its own")
    from sealwax._rehearse.state import Folder

    watch, told = _watch(), _told(as_json=as_json)
    with Folder(Path(_FOLDER).absolute()) as folder:
        if clean_up:
            return _clean_up(folder, near_far, _reach(profile, watch), watch, told, as_json=as_json)
        return _run(folder, near_far, _reach(profile, watch), watch, told, as_json=as_json)


def _checked(regions: tuple[str, ...], *, apply: bool, clean_up: bool) -> tuple[str, str]:
    from sealwax._aws.checkup import known_regions
    from sealwax._aws.partitions import partition_of

    if len(set(regions)) != 2 or len(regions) != 2:
        raise click.UsageError("give --region twice, with two Regions: the second one gets a replica of a key")
    for region in regions:
        if region not in known_regions():
            raise click.UsageError(f"'{printable(region)}' is not a Region with KMS")
    if partition_of(regions[0]) != partition_of(regions[1]):
        raise click.UsageError(f"{regions[0]} and {regions[1]} are in two partitions of AWS, which share no keys")
    if apply and clean_up:
        raise click.UsageError("use --apply or --clean-up, not both")
    return regions[0], regions[1]


def _watch() -> Watch:
    from sealwax._rehearse.masks import Masks
    from sealwax._rehearse.run import Watch

    watch = Watch(Masks())
    current().sessions.watchers.append(watch.attach)
    return watch


def _reach(profile: str | None, watch: Watch) -> AwsReach:
    from sealwax._rehearse.world import AwsReach

    sessions = current().sessions
    for name in (profile, os.environ.get("AWS_PROFILE"), os.environ.get("AWS_DEFAULT_PROFILE")):
        watch.masks.add(None if name == "default" else name, "<profile>")
    return AwsReach(lambda region: sessions.open(profile, region), sessions.watched)


def _told(*, as_json: bool) -> Told:
    from sealwax._rehearse.run import Told

    def step(result: StepResult) -> None:
        if as_json or (result.passed and current().quiet):
            return
        outcome = click.style("passed", fg="green") if result.passed else click.style("failed", fg="red")
        console.print(f"{outcome}  {result.name:<20}  {printable(result.detail)}")

    def requests(done: int, of: int) -> None:
        if done == of:
            console.info(f"{of} requests were sent to AWS and to the lab")

    return Told(lambda line: console.info(printable(line)), lambda line: console.warn(printable(line)), step, requests)


def _run(folder: Folder, regions: tuple[str, str], reach: AwsReach, watch: Watch, told: Told, *, as_json: bool) -> int:
    _need_sqlalchemy()
    from sealwax._rehearse import report
    from sealwax._rehearse.run import rehearse as run

    rehearsal = run(folder, regions, reach, watch, told)
    profile = click.get_current_context().params["profile"]
    verdict = report.verdict(rehearsal, _command(regions, profile, "--clean-up"))
    masked = replace(verdict, command=_command(regions, None, "--clean-up") if verdict.command else "")
    made = Provenance(
        time=datetime.now(UTC),
        command=_command(regions, None, "--apply"),
        caller="<caller>",
        account="<account>",
        regions=regions,
        source=_source(),
    )
    facts = rehearsal.as_dict() | masked.as_dict() | {"made": made.as_dict()}
    _write(folder, "report.html", report.as_html(rehearsal, masked, made))
    _write(folder, "report.json", json.dumps(facts, indent=2) + "\n")
    _show(rehearsal, verdict, facts, as_json=as_json)
    if rehearsal.left:
        return PARTLY_DONE
    return FINDINGS if rehearsal.failed or rehearsal.differences else 0


def _need_sqlalchemy() -> None:
    from importlib.util import find_spec

    if find_spec("sqlalchemy") is None:
        raise KeyStoreError(
            "the rehearsal keeps its table of data keys in SQLite, and SQLAlchemy is not installed: run "
            "pip install 'sealwax[sql]'"
        )


def _show(rehearsal: Rehearsal, verdict: Verdict, facts: dict[str, object], *, as_json: bool) -> None:
    good = verdict.tone == "good"
    if as_json:
        console.print_json(facts)
    else:
        for each in rehearsal.differences:
            line = f"{each.request}: {each.where}: AWS {each.aws}, the lab {each.lab}"
            console.print(f"differs  {printable(line)}")
        if good:
            console.report("\n".join(verdict.lines()))
    if not good:
        console.warn(verdict.says)
        console.info(f"next: {verdict.next}")
    console.info(f"wrote {_FOLDER}/report.html and {_FOLDER}/report.json")


def _clean_up(
    folder: Folder, regions: tuple[str, str], reach: AwsReach, watch: Watch, told: Told, *, as_json: bool
) -> int:
    from sealwax._rehearse.run import clean_up

    runs, left = clean_up(folder, regions, reach, watch.masks, told)
    if left:
        console.warn(f"{counted(len(left), 'thing')} could not be taken away")
    if as_json:
        console.print_json({"runs": runs, "left": left})
    elif not left:
        had = f"{counted(runs, 'rehearsal')} had left something; nothing is left now"
        where = f"keys were looked for in {regions[0]} and {regions[1]} only"
        console.report(f"{had if runs else 'no rehearsal has left anything'}; {where}")
    return PARTLY_DONE if left else 0


def _write(folder: Folder, name: str, content: str) -> None:
    with WholeFile(str(folder.path / name), overwrite=True, mode=0o644) as file:
        write_all(file, content.encode("utf-8", "backslashreplace"))


def _source() -> str:
    named = sorted(name for name in os.environ if name.startswith(_ENDPOINT) and os.environ[name])
    return (
        f"other endpoints than those of AWS: {', '.join(named)} {'is' if len(named) == 1 else 'are'} set"
        if named
        else ""
    )


def _command(regions: tuple[str, str], profile: str | None, *more: str) -> str:
    who = () if profile is None else ("--profile", profile)
    return shlex.join(("sealwax", "rehearse", *who, "--region", regions[0], "--region", regions[1], *more))


def _tell(regions: tuple[str, str], *, as_json: bool) -> None:
    """Print what a run would make, what it costs and the policy it needs."""
    from sealwax._rehearse import plan

    policy = plan.policy(regions)
    if as_json:
        costs = [{"what": cost.what, "count": cost.count, "each_usd": cost.each} for cost in plan.COSTS]
        facts = {"makes": plan.makes(regions), "costs": costs, "usd": round(plan.usd(), 2), "policy": policy}
        console.print_json(facts | {"prices": plan.PRICES_FROM})
        return
    console.print("A rehearsal makes, under one run id, and takes away again:")
    for what in plan.makes(regions):
        console.print(f"  {what}")
    console.print(f"\nIt costs at most {plan.usd():.2f} USD, estimated from {plan.PRICES_FROM}:")
    for cost in plan.COSTS:
        console.print(f"  {cost.usd:.4f} USD  {cost.count:,} {cost.what}")
    console.print(_NOTES.format(days=plan.WAITING_DAYS))
    console.print(json.dumps(policy, indent=2))
    console.info("nothing was made; add --apply to do it")
