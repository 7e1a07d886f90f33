"""sealwax policy: writes least-privilege policies, and explains existing ones."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._core import trusted
from sealwax._core.context import placeholders
from sealwax._text import printable
from sealwax.cli import console, options
from sealwax.cli.kms import Aws, open_lab
from sealwax.cli.verbs import VerbGroup
from sealwax.errors import FileError, PolicyError, UnavailableError
from sealwax.policy import (
    Document,
    KeyDescription,
    KeyUsers,
    Policy,
    PrincipalDescription,
    RequiredContext,
    _render,
    allow_audit,
    allow_decrypt,
    allow_encrypt,
    allow_rotate,
    explain,
    grant_request,
    parse_identity_policy,
    parse_key_policy,
    principal,
    write_identity_policy,
    write_key_policy,
)
from sealwax.policy._expiry import due_name
from sealwax.policy._explain import check, grant_of

if TYPE_CHECKING:
    from sealwax.policy import Decision, Grant

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:[0-9]+[smhd])+")
_LONGEST_DAYS: Final = 7
_DIGITS: Final = 6
# After the machine slept, it has to notice soon that the time is over.
_LOOK_SECONDS: Final = 10.0
_MAX_FILE: Final = 16 << 20
_KIND: Final = trusted.Kind("the file", FileError)


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
    bound: RequiredContext | None,
    form: str,
) -> None:
    """Write a key policy whose administrators cannot use the key.

    Every use requires the context. Only the named principals have access; IAM policies cannot add others. The account's
    root user can still replace the key policy, so that losing the administrators does not lose the key.
    """
    users = KeyUsers(encrypt, decrypt, rotate_from, rotate_to, grant)
    document = write_key_policy(admin, users, _required(bound))
    _print(
        document,
        form,
        cloudformation=_render.key_in_cloudformation,
        terraform=_render.key_in_terraform,
        description="Wraps the data keys of sealwax",
    )


@policy.command("iam")
@click.argument("tasks", nargs=-1, required=True, type=click.Choice(["encrypt", "decrypt", "rotate", "audit"]))
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
    decrypting. audit: read what `sealwax audit` reads; it takes no keys and no context.

    A policy names keys by their ARNs. Keys that are given as key IDs or aliases are looked up (kms:DescribeKey).
    """
    if len(set(tasks)) != len(tasks):
        raise click.UsageError("a task was given twice")
    if "rotate" in tasks and not targets:
        raise click.UsageError("rotate requires --to: the keys to move wrapped keys to")
    if "rotate" not in tasks and targets:
        raise click.UsageError("--to requires the task rotate")
    if tasks == ("audit",):
        typed = click.get_current_context().get_parameter_source("keys") is ParameterSource.COMMANDLINE
        if typed or bound is not None:
            raise click.UsageError("audit takes no key and no context; remove -k and the context options")
        bound = RequiredContext()
    elif not keys:
        raise click.UsageError("name a KMS key with -k or in SEALWAX_KEY")
    required = _required(bound)
    old, new = (aws.key_arns(names if tasks != ("audit",) else ()) for names in (keys, targets))
    allowed = {
        "encrypt": lambda: allow_encrypt(old, required),
        "decrypt": lambda: allow_decrypt(old, required),
        "rotate": lambda: allow_rotate(old, new, required),
        "audit": allow_audit,
    }
    _print(
        write_identity_policy([statement for task in tasks for statement in allowed[task]()]),
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


_file = click.Path(exists=True, dir_okay=False)


@policy.command("explain")
@click.argument("principal_arn", metavar="PRINCIPAL")
@click.argument("action")
@click.argument("key")
@click.option("--key-policy", type=_file, metavar="FILE", help="Use this key policy instead of the key's own.")
@click.option(
    "--identity-policy",
    "identity_policies",
    multiple=True,
    type=_file,
    metavar="FILE",
    help="Use this IAM policy of the principal instead of its own; repeatable.",
)
@click.option("--facts", type=_file, metavar="FILE", help="Use facts saved by `sealwax audit` instead of AWS.")
@click.option("--grants", type=_file, metavar="FILE", help="Use these grants, as printed by `aws kms list-grants`.")
@click.option(
    "--given",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of another condition key, such as kms:ViaService; repeatable.",
)
@options.context(stored=False, of_files=False, typed_only=True)
@options.as_json
@options.aws
@options.loudness
def explain_command(
    principal_arn: str,
    action: str,
    key: str,
    key_policy: str | None,
    identity_policies: tuple[str, ...],
    facts: str | None,
    grants: str | None,
    given: tuple[str, ...],
    template: options.ContextTemplate,
    as_json: bool,
    aws: Aws,
) -> None:
    """Explain whether a principal may perform an action on a key, and why.

    The key (kms:DescribeKey, GetKeyPolicy, ListGrants, ListAliases, ListResourceTags) and the principal's policies
    (iam:Get* and List*) are read from AWS. With --facts, saved facts are used instead; the answer is as old as
    they are. With --key-policy, files are used instead; KEY is looked up only if it is not an ARN. Nothing is changed.

    Permissions boundaries, session policies, and the policies of organizations and VPC endpoints are not evaluated;
    they can only deny more. Without -c, the request has no context.
    """
    try:
        who = PrincipalDescription(principal(principal_arn))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if facts is not None and key_policy is not None:
        raise click.UsageError("--facts contains the key policy; remove --key-policy")
    if grants is not None and key_policy is None:
        raise click.UsageError("--grants requires --key-policy")
    conditions = dict(_condition(text) for text in given)
    pairs = template.without_file()
    check(who.who, action, encryption_context=pairs, conditions=conditions)
    policies: Sequence[Policy] = [
        parse_identity_policy(console.read_text(path, _KIND, _MAX_FILE), name=f"identity policy '{printable(path)}'")
        for path in identity_policies
    ]
    at = datetime.fromtimestamp(time.time(), UTC)
    if key_policy is not None:
        given_policy = parse_key_policy(console.read_text(key_policy, _KIND, _MAX_FILE))
        (arn,) = aws.key_arns((key,))
        seen = KeyDescription(arn, given_policy, _grants(grants, arn))
    elif facts is not None:
        seen, who, at = _recall(facts, key, aws.region, who, known=bool(policies))
    else:
        seen, who = _ask(aws, key, who, known=bool(policies))
    if who.boundary is not None:
        console.info(f"the permissions boundary '{printable(who.boundary)}' was not evaluated; it may deny the action")
    decision = explain(
        who.who,
        action,
        seen,
        identity_policies=policies or who.policies,
        time=at,
        encryption_context=pairs,
        conditions=conditions,
    )
    if as_json:
        console.print_json(_as_dict(decision, seen.arn))
    else:
        console.print(f"{'allowed' if decision.allowed else 'not allowed'}: {decision.reason}")


def _recall(
    path: str, key: str, region: str | None, who: PrincipalDescription, *, known: bool
) -> tuple[KeyDescription, PrincipalDescription, datetime]:
    from sealwax.audit import _from_facts, read_facts

    console.claim(path)
    facts = read_facts(path)
    console.info(f"using the facts of {facts.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    seen = _from_facts.describe_key(facts, key, region)
    return seen, who if known else _from_facts.describe_principal(facts, who.who.arn), facts.time


def _ask(aws: Aws, key: str, who: PrincipalDescription, *, known: bool) -> tuple[KeyDescription, PrincipalDescription]:
    from sealwax.audit._collect import explanation

    seen = explanation.read_key(aws.session(), key)
    if known:
        return seen, who
    if aws.lab is None:
        return seen, explanation.read_principal(aws.session(), who.who.arn)
    with open_lab(aws.lab) as lab:
        return seen, PrincipalDescription(*lab.known(who.who.arn))


def _as_dict(decision: Decision, key: str) -> dict[str, object]:
    return {
        "allowed": decision.allowed,
        "explicit_deny": decision.explicit_deny,
        "reason": decision.reason,
        "key": key,
        "statements": [
            {
                "policy": statement.policy,
                "sid": statement.sid,
                "index": statement.index,
                "effect": statement.effect,
            }
            for statement in decision.statements
        ],
        "grant": decision.grant.id if decision.grant is not None else None,
    }


def _grants(path: str | None, key: str) -> list[Grant]:
    if path is None:
        return []
    try:
        listed = json.loads(console.read_text(path, _KIND, _MAX_FILE))["Grants"]
        return [grant_of(entry, key) for entry in listed]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise click.UsageError(f"'{printable(path)}' is not in the format of `aws kms list-grants`") from None


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--given takes NAME=VALUE, not '{printable(text)}'")
    return name, value
