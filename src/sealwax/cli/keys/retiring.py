"""sealwax keys retire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from sealwax._core.context import printable
from sealwax.cli import console, options
from sealwax.cli.keys import formatting
from sealwax.errors import KeyStateError

if TYPE_CHECKING:
    from sealwax.fleet._usage import Usage, User
    from sealwax.kms._lifecycle import KeyStatus

_FINDINGS: Final = 3


@click.command()
@click.argument("key")
@click.option(
    "--scan",
    "where",
    multiple=True,
    required=True,
    metavar="WHERE",
    help="A folder or s3:// prefix to scan, or a fleet's plan, whose places are scanned; repeatable.",
)
@click.option("--apply", is_flag=True, help="Take the next step; without, only report.")
@click.option(
    "--delete-after",
    "days",
    type=click.IntRange(7, 30),
    metavar="DAYS",
    help="The step after disabling: schedule the key's deletion, with this waiting time.",
)
@options.aws
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.loudness
def retire(aws: options.Aws, key: str, where: tuple[str, ...], apply: bool, days: int | None, as_json: bool) -> int:
    """Take a KMS key out of use, a step each run: report, disable, schedule the deletion.

    Nothing is changed without --apply, and nothing while envelopes below --scan are under the key or cannot be looked
    at, or a place is empty, which may be mistyped; the exit status is 3 then. So it is for other formats that are
    recognized (AWS Encryption SDK, S3 Encryption Client, sops and more) and name the key or do not tell theirs, and for
    what S3 itself keeps under the key. A scan sees the places it is given and no others: old object versions and
    backups need the key too, and an S3 Inventory says what was there when S3 wrote it, a day or a week ago. The caller
    needs kms:DescribeKey; kms:GetKeyLastUsage and kms:ListAliases show more; kms:DisableKey and kms:ScheduleKeyDeletion
    are for the two steps.
    """
    from sealwax.cli.fleet import opening
    from sealwax.fleet._usage import find_users, locations_of
    from sealwax.kms._lifecycle import KeyLife

    where = locations_of(where)
    life = KeyLife(key, aws.session())
    standing = life.status()
    usage = find_users(where, standing.arn, everywhere=standing.multi_region == "primary", open_location=opening(aws))
    step = _step(standing, usage)
    if days is not None and not apply:
        raise click.UsageError("--delete-after goes with --apply")
    if apply and step == "delete" and days is None:
        raise click.UsageError(
            "the key is disabled; its deletion is the next step, and needs to be said: --apply --delete-after 30"
        )
    if days is not None and step == "disable":
        raise click.UsageError("the key is enabled: disable it first, with --apply alone")
    if apply and step == "none":
        raise KeyStateError(
            f"nothing was done with '{printable(standing.arn)}': its state is {standing.state}, and it takes an "
            "enabled or a disabled key. Run it again once the key is in another state.",
            key=standing.arn,
        )
    done = None
    if apply and step == "disable":
        life.disable()
        done, step = "disabled", "delete"
    elif apply and step == "delete" and days is not None:
        life.schedule_deletion(days)
        done, step = "deletion scheduled", "wait"
    if done:
        standing = KeyLife(standing.arn, aws.session()).status()
    if as_json:
        console.print_json(
            {**formatting.as_plain(standing, without=("unseen",)), **_scanned(where, usage), "done": done, "next": step}
        )
    else:
        _print(standing, where, usage)
    for error in standing.unseen:
        console.tell(f"not seen: {error}")
    if not as_json or done:
        console.tell(f"{done + '; ' if done else ''}next: {_NEXT[step]}")
    return 0 if usage.clear else _FINDINGS


_NEXT: Final = {
    "rewrap": "re-wrap what is under it (sealwax fleet; other formats with the program that wrote them), look at what "
    "is unknown, and run this again",
    "enable": "`aws kms enable-key`, since what is under it may open with no other; re-wrap that, and run this again",
    "cancel": "`aws kms cancel-key-deletion` and `aws kms enable-key` now, or what is under it is lost; re-wrap that",
    "disable": "disable it, with --apply; `aws kms enable-key` takes that back at any time",
    "delete": "wait until you are sure that nothing fails without it, then --apply --delete-after 30",
    "wait": "nothing; until the date of its deletion, `aws kms cancel-key-deletion` takes it back",
    "none": "nothing; it is in a state in which it is not used",
}


def _step(standing: KeyStatus, usage: Usage) -> str:
    if standing.pending:
        return "wait" if usage.clear else "cancel"
    if not usage.clear:
        return "enable" if standing.state == "Disabled" and usage.under else "rewrap"
    return {"Enabled": "disable", "Disabled": "delete"}.get(standing.state, "none")


def _scanned(where: tuple[str, ...], usage: Usage) -> dict[str, Any]:
    return {"scanned": list(where), **formatting.as_plain(usage)}


def _example(user: User) -> str:
    named = "" if not user.what or user.keys[0] in user.what else f" '{user.keys[0]}'"
    return printable(f"{user.name}{': ' if user.what else ''}{user.what}{named}")


def _print(standing: KeyStatus, where: tuple[str, ...], usage: Usage) -> None:
    from sealwax.fleet._report import listed

    lines = [("key", printable(standing.arn)), ("state", standing.state)]
    if standing.deletion is not None:
        lines.append(("deletion", f"on {standing.deletion:%Y-%m-%d}"))
    aliases = formatting.NOT_SEEN if standing.aliases is None else ", ".join(map(printable, standing.aliases))
    if aliases:
        lines.append(("aliases", f"{aliases}; who uses them to encrypt will fail"))
    if standing.replicas:
        lines.append(("replicas", f"{', '.join(standing.replicas)}; it is deleted after them"))
    if standing.multi_region == "replica":
        lines.append(("kind", "a replica; the key stays in its other Regions"))
    if standing.origin == "EXTERNAL":
        lines.append(("material", "imported; keep your copy of it until the key is gone"))
    elif standing.origin in ("AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"):
        lines.append(("material", "in a custom key store; what is kept there is yours to delete"))
    use = formatting.NOT_SEEN if standing.last_use is None else formatting.last_use(standing.last_use)
    if standing.multi_region != "no":
        use += "; KMS counts the key's uses in each Region by themselves"
    lines.append(("last use", use))
    lines.append(("scanned", f"{', '.join(map(printable, where))}: {usage.objects:,} objects"))
    lines.append(("under it", f"{usage.under:,}"))
    lines += [("", _example(user)) for user in usage.examples]
    if usage.formats:
        only = f"; {usage.elsewhere:,} of them name other keys only" if usage.elsewhere else ""
        lines.append(("formats", f"{listed(usage.formats)}{only}"))
    if usage.unrecognized:
        told = "in no format that sealwax knows; whether they need the key, it cannot tell"
        lines.append(("others", f"{usage.unrecognized:,} {told}"))
    if usage.untold:
        lines.append(("untold", f"{usage.untold:,} do not tell their key, and may be under it"))
    if usage.unknown > usage.untold:
        lines.append(("unknown", f"{usage.unknown - usage.untold:,} could not be looked at, and may be under it"))
    lines += [("", printable(reason)) for reason in usage.reasons]
    console.put("\n".join(f"{name:<10}{text}" for name, text in lines))
