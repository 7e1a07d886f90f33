"""sealwax policy explain"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from sealwax._core import trusted
from sealwax._text import printable
from sealwax.cli import console, options
from sealwax.cli.kms import Aws, open_lab
from sealwax.errors import FileError
from sealwax.policy import (
    KeyDescription,
    Policy,
    PrincipalDescription,
    explain,
    parse_identity_policy,
    parse_key_policy,
    principal,
)
from sealwax.policy._explain import check, grant_of

if TYPE_CHECKING:
    from sealwax.policy import Decision, Grant

_MAX_FILE: Final = 16 << 20
_KIND: Final = trusted.Kind("the file", FileError)

_file = click.Path(exists=True, dir_okay=False)


@click.command("explain")
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

    console.need(path)
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
