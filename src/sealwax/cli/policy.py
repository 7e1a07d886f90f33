"""sealwax policy: policies that give no more than is named, and what policies say."""

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
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from sealwax._core import trusted
from sealwax._core.context import placeholders, printable
from sealwax.cli import console, options
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

_Command = Callable[..., Any]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:[0-9]+[smhd])+")
_LONGEST_DAYS: Final = 7
_DIGITS: Final = 6
# A machine that slept has to notice soon that the time is over.
_LOOK_SECONDS: Final = 10.0
_MAX_FILE: Final = 16 << 20
_KIND: Final = trusted.Kind("the file", FileError)


class _Policies(click.Group):
    """Says what no policy can say as a wrong use of the command."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PolicyError as error:
            raise click.UsageError(str(error)) from None


@click.group(cls=_Policies)
def policy() -> None:
    """Policies of keys, principals and grants: write them, and explain what they say."""


_format = click.option(
    "--format",
    "form",
    type=click.Choice(_render.FORMATS),
    default="json",
    show_default=True,
    help="The policy alone, or a template with it.",
)


def _bound(command: _Command) -> _Command:
    """Add the options of the context that a use is bound to; the command gets ``bound``, None where none was given."""

    @click.option(
        "--context-name",
        "context_names",
        multiple=True,
        metavar="NAME",
        help="A name that the context must hold too, with any value; repeatable.",
    )
    @options.context(stored=False, of_files=False)
    @functools.wraps(command)
    def wrapped(*args: Any, context_names: tuple[str, ...], template: options.ContextTemplate, **kwargs: Any) -> Any:
        if template.none and context_names:
            raise click.UsageError("--no-context goes with no other context option")
        for name, value in template.pairs.items():
            if placeholders(value):
                raise click.UsageError(
                    f"a policy cannot know each file's own value: ask for the name alone with --context-name {name}"
                )
        pairs = template.of_no_file()
        given = pairs or template.none or context_names
        return command(*args, bound=RequiredContext(pairs, context_names) if given else None, **kwargs)

    return wrapped


def _required(bound: RequiredContext | None) -> RequiredContext:
    if bound is None:
        raise click.UsageError(
            "no context was given: bind the use to its purpose with -c NAME=VALUE, or say --no-context"
        )
    return bound


def _who(option: str, what: str, *, required: bool = False) -> Callable[[_Command], _Command]:
    return click.option(
        option, multiple=True, required=required, metavar="ARN", help=f"A user or role that {what}; repeatable."
    )


@policy.command("key")
@_who("--admin", "administers the key and cannot use it", required=True)
@_who("--encrypt", "may encrypt under the key")
@_who("--decrypt", "may decrypt what is under the key")
@_who("--rotate-from", "may move wrapped keys away from the key, and not decrypt")
@_who("--rotate-to", "may move wrapped keys to the key, and not decrypt")
@_who("--grant", "may give the above to others by grants")
@_bound
@_format
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
    """Write the policy of a key: who administers it cannot use it, and every use asks for the context.

    Each principal is named; IAM policies give nobody else anything. The account's root user keeps the right to put
    another key policy, so that the key is not lost with its administrators.
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
    metavar="ARN",
    help="The ARN of a key; repeatable. To encrypt, the first makes the data keys. Else SEALWAX_KEY.",
)
@click.option(
    "--to", "targets", multiple=True, metavar="ARN", help="The ARN of a key that wrapped keys move to; repeatable."
)
@_format
@_bound
def iam_command(
    tasks: tuple[str, ...], keys: tuple[str, ...], targets: tuple[str, ...], bound: RequiredContext | None, form: str
) -> None:
    """Write an IAM policy for one task or several, and for nothing else.

    encrypt, decrypt: under the keys of -k. rotate: move wrapped keys from those of -k to those of --to, without being
    able to decrypt. audit: look at the account as `sealwax audit` does; it has neither keys nor a context.
    """
    if len(set(tasks)) != len(tasks):
        raise click.UsageError("a task is named twice")
    if "rotate" in tasks and not targets:
        raise click.UsageError("rotate needs the keys that wrapped keys move to: name them with --to")
    if "rotate" not in tasks and targets:
        raise click.UsageError("--to goes with rotate")
    if tasks == ("audit",):
        typed = click.get_current_context().get_parameter_source("keys") is ParameterSource.COMMANDLINE
        if typed or bound is not None:
            raise click.UsageError("what audit asks is about no key and has no context: leave them out")
        bound = RequiredContext()
    elif not keys:
        raise click.UsageError("name the ARN of a key with -k, or in SEALWAX_KEY")
    statements = []
    for task in tasks:
        if task == "encrypt":
            statements += allow_encrypt(keys, _required(bound))
        elif task == "decrypt":
            statements += allow_decrypt(keys, _required(bound))
        elif task == "rotate":
            statements += allow_rotate(keys, targets, _required(bound))
        else:
            statements += allow_audit()
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
        console.put(_render.as_json(document))
    else:
        console.put((cloudformation if form == "cloudformation" else terraform)(document, description))


def _duration(_context: click.Context, _param: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    if not _DURATION.fullmatch(text):
        raise click.BadParameter("a time is written as 90s, 15m, 1h, 2d or 1h30m")
    # So many digits are too long a time in any unit, and too long a number for Python to read.
    parts = re.findall(r"([0-9]+)([smhd])", text)
    short = all(len(number.lstrip("0")) <= _DIGITS for number, _ in parts)
    seconds = sum(int(number) * _UNITS[unit] for number, unit in parts) if short else 0
    if not 0 < seconds <= _LONGEST_DAYS * _UNITS["d"]:
        raise click.BadParameter(f"a time is longer than nothing and at most {_LONGEST_DAYS}d")
    return timedelta(seconds=seconds)


@policy.command("grant")
@click.option("-k", "--key", required=True, envvar="SEALWAX_KEY", metavar="ARN", help="The key. Else SEALWAX_KEY.")
@click.option("--grantee", required=True, metavar="ARN", help="The user, role or session that gets the grant.")
@click.option(
    "--operation",
    "operations",
    multiple=True,
    required=True,
    metavar="NAME",
    help="What it permits, as in the API: Decrypt, GenerateDataKey, ReEncryptFrom, ...; repeatable.",
)
@click.option("--retiring", metavar="ARN", help="Who may end it early. With --for the caller, unless named.")
@click.option(
    "--for",
    "lasting",
    metavar="TIME",
    callback=_duration,
    help="Create it, wait so long (90s, 15m, 1h) or until Ctrl-C, and retire it.",
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
    aws: options.Aws,
) -> int:
    """Write a grant that is bound to the context; with --for, create it for a while.

    KMS grants do not expire by themselves. --for keeps the time at which it is due in the grant's name, where `sealwax
    audit` finds those that outlived a killed program, and retires the grant when the time is over and on Ctrl-C. It
    prints the grant's id and token as one JSON object as soon as the grant exists.
    """
    if form == "cloudformation":
        raise click.UsageError("CloudFormation has no resource for grants of KMS: take json or terraform")
    plain = grant_request(key, grantee, operations, _required(bound), retiring=retiring)
    if lasting is None:
        console.put(_render.as_json(plain) if form == "json" else _render.grant_in_terraform(plain))
        return 0
    if form != "json":
        raise click.UsageError("--for creates the grant; leave --format out")
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
            console.say(f"should KMS have created the grant all the same, it is named {request['Name']}")
            raise
        try:
            shown = {"GrantId": grant.id, "GrantToken": grant.token, "Due": f"{due:%Y-%m-%dT%H:%M:%SZ}"}
            console.print_json(request | shown)
            console.tell(f"the grant is there until {due:%Y-%m-%d %H:%M:%S} UTC; Ctrl-C retires it now")
            while (left := (due - datetime.now(UTC)).total_seconds()) > 0 and not stop.wait(min(left, _LOOK_SECONDS)):
                pass
        finally:
            lender.end(grant)
        console.tell("the grant is retired")
    return stop.status


class _Stop(threading.Event):
    status = 0


@contextlib.contextmanager
def _stopped() -> Iterator[_Stop]:
    """Lend an event that is set when the program shall end, instead of an exception.

    Between a grant's creation and the note of its id an exception would leave a grant that nobody retires, and so
    would a second Ctrl-C while it is retired.
    """
    stop = _Stop()

    def heed(number: int, _: object) -> None:
        stop.status = 128 + number
        stop.set()

    # What is ignored stays ignored: nohup asks for that.
    heeded = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, heed) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_file = click.Path(exists=True, dir_okay=False)


@policy.command("explain")
@click.argument("principal_arn", metavar="PRINCIPAL")
@click.argument("action")
@click.argument("key")
@click.option("--key-policy", type=_file, metavar="FILE", help="The key policy, instead of the key's own.")
@click.option(
    "--identity-policy",
    "identity_policies",
    multiple=True,
    type=_file,
    metavar="FILE",
    help="An IAM policy of the principal, instead of those that it has; repeatable.",
)
@click.option("--facts", type=_file, metavar="FILE", help="The facts that `sealwax audit` saved, instead of AWS.")
@click.option("--grants", type=_file, metavar="FILE", help="The grants, as 'aws kms list-grants' prints them.")
@click.option(
    "--given",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of a further condition key, such as kms:ViaService; repeatable.",
)
@options.context(stored=False, of_files=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
    aws: options.Aws,
) -> None:
    """Say whether a principal may use an action on a key, and by which statement or grant.

    With --key-policy nothing is asked of AWS: KEY is the ARN of the key, and the other files say the rest. Nor is with
    --facts: what `sealwax audit` saved says it all, and the answer is of the time when it was gathered. Without either
    the key (kms:DescribeKey, GetKeyPolicy, ListGrants, ListAliases, ListResourceTags) and the principal's policies
    (iam:Get* and List*) are read, and nothing is changed. Permissions boundaries, session policies and the policies of
    organizations and VPC endpoints are not looked at: they can only take away. Without -c the request has no context.
    """
    try:
        who = PrincipalDescription(principal(principal_arn))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if facts is not None and key_policy is not None:
        raise click.UsageError("--facts has the key policy: leave --key-policy out")
    if grants is not None and key_policy is None:
        raise click.UsageError("--grants goes with --key-policy")
    conditions = dict(_condition(text) for text in given)
    pairs = template.of_no_file()
    check(who.who, action, encryption_context=pairs, conditions=conditions)
    policies: Sequence[Policy] = [
        parse_identity_policy(console.read_text(path, _KIND, _MAX_FILE), name=f"identity policy '{printable(path)}'")
        for path in identity_policies
    ]
    at = datetime.fromtimestamp(time.time(), UTC)
    if key_policy is not None:
        seen = KeyDescription(
            key, parse_key_policy(console.read_text(key_policy, _KIND, _MAX_FILE)), _grants(grants, key)
        )
    elif facts is not None:
        seen, who, at = _recall(facts, key, aws.region, who, known=bool(policies))
    else:
        seen, who = _ask(aws, key, who, known=bool(policies))
    if who.boundary is not None:
        console.tell(f"the permissions boundary '{printable(who.boundary)}' was not looked at: it can take away")
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
        console.put(f"{'allowed' if decision.allowed else 'not allowed'}: {decision.reason}")


def _recall(
    path: str, key: str, region: str | None, who: PrincipalDescription, *, known: bool
) -> tuple[KeyDescription, PrincipalDescription, datetime]:
    from sealwax.audit import _from_facts, read_facts

    console.claim(path)
    facts = read_facts(path)
    console.tell(f"as the facts of {facts.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC say")
    seen = _from_facts.describe_key(facts, key, region)
    return seen, who if known else _from_facts.describe_principal(facts, who.who.arn), facts.time


def _ask(
    aws: options.Aws, key: str, who: PrincipalDescription, *, known: bool
) -> tuple[KeyDescription, PrincipalDescription]:
    from sealwax.audit._collect import explanation

    seen = explanation.read_key(aws.session(), key)
    if known:
        return seen, who
    if aws.lab is None:
        return seen, explanation.read_principal(aws.session(), who.who.arn)
    with options.open_lab(aws.lab) as lab:
        return seen, PrincipalDescription(*lab.known(who.who.arn))


def _as_dict(decision: Decision, key: str) -> dict[str, Any]:
    return {
        "allowed": decision.allowed,
        "explicit_deny": decision.explicit_deny,
        "reason": decision.reason,
        "key": key,
        "statements": [
            {"policy": one.policy, "sid": one.sid, "index": one.index, "effect": one.effect}
            for one in decision.statements
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
        raise click.UsageError(f"'{printable(path)}' is not what 'aws kms list-grants' prints") from None


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--given takes NAME=VALUE, not '{printable(text)}'")
    return name, value
