"""sealwax keys retire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import FINDINGS, console, options
from sealwax.cli.console import counted
from sealwax.cli.keys import formatting
from sealwax.cli.kms import Aws, named
from sealwax.cli.locations import is_s3
from sealwax.errors import KeyStateError

if TYPE_CHECKING:
    from sealwax.fleet._usage import Usage, User
    from sealwax.kms._lifecycle import KeyStatus


@click.command()
@click.argument("key")
@click.option(
    "--scan",
    "where",
    multiple=True,
    required=True,
    metavar="WHERE",
    help="A folder or s3:// prefix to scan, or a fleet plan whose places to scan; repeatable.",
)
@click.option(
    "--ask-kms",
    is_flag=True,
    help="Ask KMS about objects of the S3 Encryption Client, which name no key (kms:ReEncryptFrom, kms:ReEncryptTo).",
)
@click.option(
    "--versions",
    is_flag=True,
    help="Also scan old versions of S3 objects (s3:ListBucketVersions, s3:GetObjectVersion).",
)
@click.option("--apply", is_flag=True, help="Take the next step; without it, only report.")
@click.option(
    "--delete-after",
    "days",
    type=click.IntRange(7, 30),
    metavar="DAYS",
    help="With --apply, once the key is disabled: schedule its deletion after this many days.",
)
@options.aws
@options.as_json
@options.loudness
def retire(
    aws: Aws,
    key: str,
    where: tuple[str, ...],
    ask_kms: bool,
    versions: bool,
    apply: bool,
    days: int | None,
    as_json: bool,
) -> int:
    """Take a KMS key out of use, one step per run: report, disable, schedule deletion.

    Nothing is changed without --apply. While the key may still be needed, nothing is changed either, and the exit
    status is 3. It may be needed if a place of --scan has envelopes under it, objects that S3 encrypts under it, other
    encrypted files (AWS Encryption SDK, S3 Encryption Client, sops and more) that name it or name no key, or something
    that cannot be read. An empty place counts too, because its name may be mistyped.

    Only these places are scanned. Old object versions (without --versions) and backups may need the key too, and an S3
    Inventory is a day to a week old. The caller needs kms:DescribeKey; kms:GetKeyLastUsage and kms:ListAliases show
    more; the two steps need kms:DisableKey and kms:ScheduleKeyDeletion.
    """
    from sealwax.cli.fleet import opening
    from sealwax.fleet._usage import find_users, locations_of
    from sealwax.kms._keyring import asking
    from sealwax.kms._lifecycle import KeyLife

    where = locations_of(where)
    if versions and not any(map(is_s3, where)):
        raise click.UsageError("--versions is for S3, and no place of --scan is there")
    session = aws.session()
    life = KeyLife(key, session)
    standing = life.status()
    usage = find_users(
        where,
        standing.arn,
        everywhere=standing.multi_region == "primary",
        ask=asking(standing.arn, session) if ask_kms else None,
        versions=versions,
        open_location=opening(aws),
    )
    step = _step(standing, usage)
    _refuse(apply, days, step, standing)
    done = None
    if apply and step == "disable":
        life.disable()
        done, step = "disabled", "delete"
    elif apply and step == "delete" and days is not None:
        life.schedule_deletion(days)
        done, step = "deletion scheduled", "wait"
    if done:
        standing = KeyLife(standing.arn, session).status()
    if as_json:
        console.print_json(
            {**formatting.as_plain(standing, without=("unseen",)), **_scanned(where, usage), "done": done, "next": step}
        )
    else:
        _print(standing, key, where, usage, versions=versions)
    for error in standing.unseen:
        console.info(f"details are missing: {error}")
    if not as_json or done:
        console.info(f"{done + '; ' if done else ''}next: {_NEXT[step]}")
    return 0 if usage.clear else FINDINGS


def _refuse(apply: bool, days: int | None, step: str, standing: KeyStatus) -> None:
    """Refuse options that do not fit the next step, and a key that has none."""
    if days is not None and not apply:
        raise click.UsageError("--delete-after requires --apply")
    if apply and step == "delete" and days is None:
        raise click.UsageError(
            "the key is disabled, so the next step is its deletion; confirm it with --apply --delete-after 30"
        )
    if days is not None and step == "disable":
        raise click.UsageError("the key is enabled; disable it first, with --apply alone")
    if apply and step == "none":
        raise KeyStateError(
            f"'{printable(standing.arn)}' was not changed: its state is {standing.state}, and only an enabled or "
            "disabled key can be retired. Run the command again once its state has changed.",
            key=standing.arn,
        )


_NEXT: Final = {
    "rewrap": "move what is under the key to another key (envelopes with sealwax fleet, objects of the S3 Encryption "
    "Client with its --also s3ec, other formats with sealwax migrate or the program that wrote them), check what is "
    "unknown, and run this command again",
    "enable": "run `aws kms enable-key`, because data under the key may not open without it; "
    "re-wrap that data, and run this command again",
    "cancel": "run `aws kms cancel-key-deletion` and `aws kms enable-key` now, or the data under the key will be "
    "lost; then re-wrap it",
    "disable": "disable the key with --apply; `aws kms enable-key` undoes that at any time",
    "delete": "once you are sure that nothing fails without the key, add --apply --delete-after 30",
    "wait": "nothing; `aws kms cancel-key-deletion` undoes this until the deletion date",
    "none": "nothing; the key cannot be used in this state",
}


def _step(standing: KeyStatus, usage: Usage) -> str:
    if standing.pending:
        return "wait" if usage.clear else "cancel"
    if not usage.clear:
        return "enable" if standing.state == "Disabled" and usage.under else "rewrap"
    return {"Enabled": "disable", "Disabled": "delete"}.get(standing.state, "none")


def _scanned(where: tuple[str, ...], usage: Usage) -> dict[str, object]:
    return {"scanned": list(where), **formatting.as_plain(usage)}


def _example(user: User) -> str:
    key = "" if not user.what or user.keys[0] in user.what else f" '{user.keys[0]}'"
    return printable(f"{user.name}{': ' if user.what else ''}{user.what}{key}")


def _print(standing: KeyStatus, typed: str, where: tuple[str, ...], usage: Usage, *, versions: bool) -> None:
    from sealwax.fleet._report import listed

    lines = [("key", named(standing.arn, typed)), ("state", standing.state)]
    if standing.deletion is not None:
        lines.append(("deletion", f"on {standing.deletion:%Y-%m-%d}"))
    aliases = formatting.NOT_SEEN if standing.aliases is None else ", ".join(map(printable, standing.aliases))
    if aliases:
        lines.append(("aliases", f"{aliases}; programs that encrypt with them will fail"))
    if standing.replicas:
        lines.append(("replicas", f"{', '.join(standing.replicas)}; the key is deleted after them"))
    if standing.multi_region == "replica":
        lines.append(("kind", "a replica; the key stays in its other Regions"))
    if standing.origin == "EXTERNAL":
        lines.append(("material", "imported; keep your copy until the key is deleted"))
    elif standing.origin in ("AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"):
        lines.append(("material", "in a custom key store, where you have to delete it yourself"))
    use = formatting.NOT_SEEN if standing.last_use is None else formatting.last_use(standing.last_use)
    if standing.multi_region != "no":
        use += "; KMS tracks this separately in each Region"
    lines.append(("last use", use))
    lines.append(("scanned", f"{', '.join(map(printable, where))}: {counted(usage.objects, 'object')}"))
    if any(map(is_s3, where)) and not versions:
        lines.append(("versions", "old versions of S3 objects were not looked at; use --versions"))
    lines.append(("needed by", counted(usage.under, "object")))
    lines += [("", _example(user)) for user in usage.examples]
    if usage.formats:
        only = f"; {usage.elsewhere:,} of them are under other keys only" if usage.elsewhere else ""
        lines.append(("formats", f"{listed(usage.formats)}{only}"))
    if usage.unrecognized:
        lines.append(("other", f"{usage.unrecognized:,} in unknown formats, which may or may not need the key"))
    if usage.unnamed:
        lines.append(("maybe by", f"{counted(usage.unnamed, 'object')} that may be under it, but name no key"))
    if usage.unknown > usage.unnamed:
        lines.append(("unread", f"{usage.unknown - usage.unnamed:,} could not be read, and may be under it"))
    lines += [("", printable(reason)) for reason in usage.reasons]
    console.print(console.facts(lines))
