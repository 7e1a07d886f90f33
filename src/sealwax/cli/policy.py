"""sealwax policy: writes least-privilege policies, and explains existing ones."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._core.context import placeholders
from sealwax._text import printable
from sealwax.cli import console, options
from sealwax.cli.kms import Aws
from sealwax.cli.policy_explain import explain_command
from sealwax.cli.verbs import VerbGroup
from sealwax.errors import PolicyError, UnavailableError
from sealwax.policy import (
    Document,
    KeyUsers,
    RequiredContext,
    _render,
    allow_audit,
    allow_decrypt,
    allow_encrypt,
    allow_records,
    allow_rotate,
    allow_rotate_indexes,
    allow_rotate_records,
    allow_search_records,
    deny_records,
    grant_request,
    write_identity_policy,
    write_key_policy,
)
from sealwax.policy._expiry import due_name

if TYPE_CHECKING:
    pass

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:[0-9]+[smhd])+")
_LONGEST_DAYS: Final = 7
_DIGITS: Final = 6
# After the machine slept, it has to notice soon that the time is over.
_LOOK_SECONDS: Final = 10.0


class _Policies(VerbGroup):
    """Reports a policy that cannot be written as wrong usage."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PolicyError as error:
            raise click.UsageError(str(error)) from None


@click.group(cls=_Policies)
def policy() -> None:
    """Write least-privilege policies for keys, principals and grants, and explain existing ones."""


policy.add_command(explain_command)


_format = click.option(
    "--format",
    "form",
    type=click.Choice(_render.FORMATS),
    default="json",
    show_default=True,
    help="Print the policy, or a template that contains it.",
)


def _bound(command: options.Command) -> options.Command:
    """Add the options for the context that a policy requires; the command gets ``bound``, None if none was given."""

    @click.option(
        "--context-name",
        "context_names",
        multiple=True,
        metavar="NAME",
        help="A name that the context must have, with any value; repeatable.",
    )
    @options.context(stored=False, of_files=False, typed_only=True)
    @functools.wraps(command)
    def wrapped(
        *args: object, context_names: tuple[str, ...], template: options.ContextTemplate, **kwargs: object
    ) -> object:
        if template.none and context_names:
            raise click.UsageError("--no-context cannot be combined with other context options")
        for name, value in template.pairs.items():
            if placeholders(value):
                raise click.UsageError(
                    f"a policy cannot contain each file's own value; require only the name, with --context-name {name}"
                )
        pairs = template.without_file()
        given = pairs or template.none or context_names
        return command(*args, bound=RequiredContext(pairs, context_names) if given else None, **kwargs)

    return wrapped


def _required(bound: RequiredContext | None) -> RequiredContext:
    if bound is None:
        raise click.UsageError("no context was given; require one with -c NAME=VALUE, or use --no-context")
    return bound


def _who(option: str, what: str, *, required: bool = False) -> Callable[[options.Command], options.Command]:
    return click.option(
        option, multiple=True, required=required, metavar="ARN", help=f"A user or role that {what}; repeatable."
    )


@policy.command("key")
@_who("--admin", "administers the key but cannot use it", required=True)
@_who("--encrypt", "may encrypt under the key")
@_who("--decrypt", "may decrypt under the key")
@_who("--rotate-from", "may move wrapped keys from the key, without decrypting")
@_who("--rotate-to", "may move wrapped keys to the key, without decrypting")
@_who("--grant", "may grant the above to others")
@_who("--records", "seals and opens records under the key")
@_who("--search-records", "searches indexes of records, but opens no record")
@_who("--rotate-records", "may move the data keys of records from the key and to it")
@_who("--rotate-indexes", "may move the index keys of records from the key and to it")
@_bound
@_format
@options.loudness
def key_command(
    admin: tuple[str, ...],
    encrypt: tuple[str, ...],
    decrypt: tuple[str, ...],
    rotate_from: tuple[str, ...],
    rotate_to: tuple[str, ...],
    grant: tuple[str, ...],
    records: tuple[str, ...],
    search_records: tuple[str, ...],
    rotate_records: tuple[str, ...],
    rotate_indexes: tuple[str, ...],
    bound: RequiredContext | None,
    form: str,
) -> None:
    """Write a key policy whose administrators cannot use the key.

    Every use requires the context. Only the named principals have access; IAM policies cannot add others. The account's
    root user can still replace the key policy, so that losing the administrators does not lose the key.

    For --records, --search-records, --rotate-records and --rotate-indexes, the context is the scope. Whoever is not
    named by one of them is denied the data keys of records, by grants too.
    """
    moving = rotate_records, rotate_indexes
    users = KeyUsers(encrypt, decrypt, rotate_from, rotate_to, grant, records, search_records, *moving)
    document = write_key_policy(admin, users, _required(bound))
    _print(
        document,
        form,
        cloudformation=_render.key_in_cloudformation,
        terraform=_render.key_in_terraform,
        description="Wraps the data keys of sealwax",
    )


_MOVING: Final = ("rotate", "rotate-records", "rotate-indexes")
_OF_RECORDS: Final = ("records", "search-records", *_MOVING[1:])
_TASKS: Final = ("encrypt", "decrypt", "rotate", *_OF_RECORDS, "audit")
# Of the first three, one side of one could become the other side of the other; who may records, may search them.
_APART: Final = (*itertools.combinations(_MOVING, 2), ("records", "search-records"))


@policy.command("iam")
@click.argument("tasks", nargs=-1, required=True, type=click.Choice(_TASKS))
@click.option(
    "-k",
    "--key",
    "keys",
    multiple=True,
    envvar="SEALWAX_KEY",
    metavar="KEY",
    show_envvar=True,
    help="A KMS key; repeatable. For encrypt, the first generates the data keys.",
)
@click.option("--to", "targets", multiple=True, metavar="KEY", help="A KMS key to move wrapped keys to; repeatable.")
@_format
@_bound
@options.aws
@options.loudness
def iam_command(
    tasks: tuple[str, ...],
    keys: tuple[str, ...],
    targets: tuple[str, ...],
    bound: RequiredContext | None,
    form: str,
    aws: Aws,
) -> None:
    """Write an IAM policy that allows one or more tasks, and nothing else.

    encrypt, decrypt: under the keys of -k. rotate: move wrapped keys from the keys of -k to those of --to, without
    decrypting. records: seal and open records of the scope that -c gives. search-records: search their indexes, but
    open none. rotate-records: move their data keys, and nothing else. rotate-indexes: move their index keys, and
    nothing else. audit: read what `sealwax audit` reads; it takes no keys and no context.

    Without a task for records, the policy denies the data keys of records.

    A policy names keys by their ARNs. Keys that are given as key IDs or aliases are looked up (kms:DescribeKey).
    """
    if len(set(tasks)) != len(tasks):
        raise click.UsageError("a task was given twice")
    for one, other in _APART:
        if one in tasks and other in tasks:
            raise click.UsageError(f"{one} and {other} are for different roles; write a policy for each")
    moving = next((task for task in tasks if task in _MOVING), None)
    if moving and not targets:
        raise click.UsageError(f"{moving} requires --to: the keys to move wrapped keys to")
    if not moving and targets:
        raise click.UsageError(f"--to requires the task {', '.join(_MOVING[:-1])} or {_MOVING[-1]}")
    if tasks == ("audit",):
        typed = click.get_current_context().get_parameter_source("keys") is ParameterSource.COMMANDLINE
        if typed or bound is not None:
            raise click.UsageError("audit takes no key and no context; remove -k and the context options")
        bound = RequiredContext()
    elif not keys:
        raise click.UsageError("name a KMS key with -k or in SEALWAX_KEY")
    required = _required(bound)
    of_records = any(task in _OF_RECORDS for task in tasks)
    others = required.without_records() if of_records else required
    old, new = (aws.key_arns(names if tasks != ("audit",) else ()) for names in (keys, targets))
    allowed = {
        "encrypt": lambda: allow_encrypt(old, others),
        "decrypt": lambda: allow_decrypt(old, others),
        "rotate": lambda: allow_rotate(old, new, others),
        "records": lambda: allow_records(old, required),
        "search-records": lambda: allow_search_records(old, required),
        "rotate-records": lambda: allow_rotate_records(old, new, required),
        "rotate-indexes": lambda: allow_rotate_indexes(old, new, required),
        "audit": allow_audit,
    }
    statements = [statement for task in tasks for statement in allowed[task]()]
    if old and not of_records and not required.is_of_records:
        statements += deny_records(tuple(dict.fromkeys((*old, *new))))
    _print(
        write_identity_policy(statements),
        form,
        cloudformation=_render.identity_in_cloudformation,
        terraform=_render.identity_in_terraform,
        description=f"sealwax: {', '.join(tasks)}",
    )


def _print(
    document: Document,
    form: str,
    *,
    cloudformation: Callable[[Document, str], str],
    terraform: Callable[[Document, str], str],
    description: str,
) -> None:
    if form == "json":
        console.print(_render.as_json(document))
    else:
        console.print((cloudformation if form == "cloudformation" else terraform)(document, description))


def _duration(_context: click.Context, _param: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    if not _DURATION.fullmatch(text):
        raise click.BadParameter(f"'{printable(text)}' is not a time such as 90s, 15m, 1h, 2d or 1h30m")
    # With more digits it is too long in any unit, and perhaps too long for Python to parse.
    parts = re.findall(r"([0-9]+)([smhd])", text)
    short = all(len(number.lstrip("0")) <= _DIGITS for number, _ in parts)
    seconds = sum(int(number) * _UNITS[unit] for number, unit in parts) if short else 0
    if not 0 < seconds <= _LONGEST_DAYS * _UNITS["d"]:
        raise click.BadParameter(f"the time must be more than 0s and at most {_LONGEST_DAYS}d")
    return timedelta(seconds=seconds)


@policy.command("grant")
@click.option("-k", "--key", required=True, envvar="SEALWAX_KEY", show_envvar=True, metavar="KEY", help="The KMS key.")
@click.option("--grantee", required=True, metavar="ARN", help="The user, role or session that gets the grant.")
@click.option(
    "--operation",
    "operations",
    multiple=True,
    required=True,
    metavar="NAME",
    help="An operation to allow, by its API name: Decrypt, GenerateDataKey, ReEncryptFrom, ...; repeatable.",
)
@click.option(
    "--retiring", metavar="ARN", help="The principal that may retire the grant. Default with --for: the caller."
)
@click.option(
    "--for",
    "lasting",
    metavar="TIME",
    callback=_duration,
    help="Create the grant, wait for this time (90s, 15m, 1h) or Ctrl-C, and retire it.",
)
@_bound
@_format
@options.aws
@options.loudness
def grant_command(
    key: str,
    grantee: str,
    operations: tuple[str, ...],
    retiring: str | None,
    lasting: timedelta | None,
    bound: RequiredContext | None,
    form: str,
    aws: Aws,
) -> int:
    """Write a grant that is bound to the context; with --for, create it for a limited time.

    KMS grants do not expire. With --for, the grant is retired when the time is up, or on Ctrl-C. Its name records
    that time, so that `sealwax audit` finds grants that were left behind by a killed program. The grant's ID and token
    are printed as one JSON object as soon as it exists.

    A key that is given as a key ID or alias is looked up (kms:DescribeKey).
    """
    if form == "cloudformation":
        raise click.UsageError("CloudFormation has no resource for KMS grants; use json or terraform")
    required = _required(bound)
    if lasting is not None and form != "json":
        raise click.UsageError("--for creates the grant; remove --format")
    (arn,) = aws.key_arns((key,))
    plain = grant_request(arn, grantee, operations, required, retiring=retiring)
    if lasting is None:
        console.print(_render.as_json(plain) if form == "json" else _render.grant_in_terraform(plain))
        return 0
    from sealwax.kms._temporary_grant import TemporaryGrants

    lender = TemporaryGrants(aws.session())
    if retiring is None:
        retiring = lender.whoami()
    due = datetime.now(UTC) + lasting
    request = plain | {"RetiringPrincipal": retiring, "Name": due_name(due)}
    with _stopped() as stop:
        try:
            grant = lender.create(request)
        except UnavailableError:
            console.warn(f"KMS may have created the grant anyway, with the name {request['Name']}")
            raise
        try:
            shown = {"GrantId": grant.id, "GrantToken": grant.token, "Due": f"{due:%Y-%m-%dT%H:%M:%SZ}"}
            console.print_json(request | shown)
            console.info(f"the grant is valid until {due:%Y-%m-%d %H:%M:%S} UTC; press Ctrl-C to retire it now")
            while (left := (due - datetime.now(UTC)).total_seconds()) > 0 and not stop.wait(min(left, _LOOK_SECONDS)):
                pass
        finally:
            lender.end(grant)
        console.info("the grant was retired")
    return stop.status


class _Stop(threading.Event):
    status = 0


@contextlib.contextmanager
def _stopped() -> Iterator[_Stop]:
    """Yield an event that signals set, instead of raising an exception.

    An exception between a grant's creation and the recording of its id would leave a grant that nobody retires, and so
    would a second Ctrl-C while it is being retired.
    """
    stop = _Stop()

    def stop_on(number: int, _: object) -> None:
        stop.status = 128 + number
        stop.set()

    with console.on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop_on):
        yield stop
