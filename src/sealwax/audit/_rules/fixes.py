"""Fixes to paste: whole policies with one change, and the commands that put them.

Putting a policy replaces the existing one. Each fix therefore prints the whole policy and changes only what its finding
is about: no action of another service, no other principal, no other condition.
"""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from sealwax._text import printable
from sealwax.audit._facts import KeyFacts, PolicyFacts
from sealwax.audit._findings import Block, BlockKind, Fix
from sealwax.audit._rules import templates
from sealwax.audit._rules.templates import POLICY
from sealwax.audit._statements import no_value
from sealwax.policy import Document
from sealwax.policy._documents import MAX_KEY_POLICY
from sealwax.policy._generate import RECOVER
from sealwax.policy._operations import EVERY
from sealwax.policy._patterns import glob, parse

# Without white space. Inline policies of a user have less room, those of a role more.
_MAX_MANAGED: Final = 6144
_ALL_ACTIONS: Final = ("*", "*:*")
_RECOVERS: Final = "RootUserRecovers"
_REPLACES_KEY_POLICY: Final = (
    "This is the whole policy from the facts with that change; the command replaces the key's policy. Audit again "
    "after each fix, before you apply the next one."
)
_REPLACES_IDENTITY_POLICY: Final = (
    "This is the whole policy from the facts with that change. Audit again after each fix."
)


def command(*words: str) -> str:
    """Return a command for a shell, on one line whatever its words are, so that no one pastes half of it."""
    return shlex.join(map(printable, words))


def kms(key: KeyFacts, operation: str, *words: str) -> str:
    """Return a KMS command on a key."""
    return command("aws", "kms", operation, "--region", key.region, "--key-id", key.id, *words)


def commands(says: str, *lines: str, instead: Iterable[Block] = ()) -> Fix:
    """Return a fix of commands.

    Args:
        instead: the same in CloudFormation and Terraform.
    """
    return Fix(says, (Block("\n".join(lines)), *instead))


def json_file(name: str, document: object) -> Block:
    """Return a JSON file to paste, on one line if it would be too large otherwise."""
    text = json.dumps(document, indent=2)
    if len(text) > MAX_KEY_POLICY:
        text = json.dumps(document, separators=(",", ":"))
    return Block(text, BlockKind.FILE, name)


def put_key_policy(key: KeyFacts, says: str, document: Document | None) -> Fix:
    """Return a fix that replaces the policy of a key.

    Args:
        document: the new policy; None if it is unknown.
    """
    if document is None:
        return Fix(says)
    file = json_file(POLICY, document)
    if len(file.text) > MAX_KEY_POLICY:
        return Fix(says)
    put = kms(key, "put-key-policy", "--policy-name", "default", "--policy", f"file://{POLICY}")
    if [statement.get("Sid") for statement in document["Statement"]] == [_RECOVERS]:
        says += " It would be empty, so it lets the root user of the account see and replace it; no one else could."
    return Fix(f"{says} {_REPLACES_KEY_POLICY}", (file, Block(put), *templates.key_policy(key, document)))


def change_key_policy(key: KeyFacts, change: Callable[[list[Document]], None]) -> Document | None:
    """Return the policy of a key with its statements changed, or None if the facts have no valid policy."""
    try:
        document: Document = json.loads(key.policy or "")
        statements = document["Statement"]
        document["Statement"] = statements if isinstance(statements, list) else [statements]
        change(document["Statement"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not document["Statement"]:
        # KMS refuses a policy that no one could replace.
        document["Statement"] = [
            {
                "Sid": _RECOVERS,
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{key.partition}:iam::{key.account}:root"},
                "Action": list(RECOVER),
                "Resource": "*",
            }
        ]
    return document


def replace_statement(key: KeyFacts, index: int, *new: Document) -> Document | None:
    """Return the policy of a key with other statements in place of one.

    Args:
        index: the place of the statement, from 1.
    """

    def change(statements: list[Document]) -> None:
        statements[index - 1 : index] = [dict(statement) for statement in new]

    return change_key_policy(key, change)


def add_denial(
    key: KeyFacts, principal: str, actions: Sequence[str], condition: Document | None = None
) -> Document | None:
    """Return the policy of a key with a new statement that denies a principal actions."""
    denial: Document = {"Effect": "Deny", "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"}
    if condition:
        denial["Condition"] = condition
    return change_key_policy(key, lambda statements: statements.append(denial))


def only_action(statement: Document, actions: str | Sequence[str]) -> Document:
    """Return a statement with other actions and without its Sid, which must stay unique."""
    kept = without(statement, "Sid", "NotAction")
    return kept | {"Action": actions if isinstance(actions, str) else list(actions)}


def without(document: Mapping[str, object], *names: str) -> Document:
    """Return a JSON object without some members."""
    return {name: value for name, value in document.items() if name not in names}


def with_condition(statement: Document, operator: str, name: str, value: object) -> Document:
    """Return a statement with one more condition, which replaces another of the same operator and condition key."""
    changed = copy.deepcopy(statement)
    tests = changed.setdefault("Condition", {}).setdefault(operator, {})
    for existing in [existing for existing in tests if existing.lower() == name.lower()]:
        del tests[existing]
    tests[name] = value
    return changed


def remove_actions(statement: Document, actions: Sequence[str], *, of_key: bool) -> tuple[Document | None, bool]:
    """Return a statement without some KMS actions.

    Args:
        of_key: whether it is in a key policy, which is about KMS only.

    Returns:
        The statement, None if no action is left; and whether it is possible, because nothing tells which actions of
        other services a wildcard stands for.
    """
    rest = copy.deepcopy(statement)
    if "NotAction" in rest:
        rest["NotAction"] = list(dict.fromkeys((*_as_list(rest["NotAction"]), *actions)))
        return rest, True
    folded = {action.lower() for action in actions}
    kept: list[str] = []
    for pattern in _as_list(rest["Action"]):
        if not _matches_any(pattern, folded):
            kept.append(pattern)
        elif pattern in _ALL_ACTIONS or (of_key and pattern.lower() == "kms:*"):
            del rest["Action"]
            return rest | {"NotAction": list(actions)}, True
        elif pattern.startswith("*"):
            return None, False
        else:
            kept += sorted(
                action for action in EVERY if action.lower() not in folded and _matches_any(pattern, {action.lower()})
            )
    if not kept:
        return None, True
    rest["Action"] = list(dict.fromkeys(kept))
    return rest, True


def remove_principals(statement: Document, is_removed: Callable[[str], bool]) -> Document | None:
    """Return a statement without some names in its Principal, or None if no one is left."""
    changed = copy.deepcopy(statement)
    if not isinstance(changed.get("Principal"), dict):
        return changed
    for kind in ("AWS", "Federated"):
        if kind in changed["Principal"]:
            kept = [name for name in _as_list(changed["Principal"][kind]) if not is_removed(name)]
            if kept:
                changed["Principal"][kind] = kept
            else:
                del changed["Principal"][kind]
    return changed if changed["Principal"] else None


def remove_values(statement: Document, names: Iterable[str], is_removed: Callable[[str], bool]) -> Document | None:
    """Return a statement without some values in its conditions on some keys, or None if a condition has none left."""
    changed = copy.deepcopy(statement)
    folded = tuple(names)
    for operator, tests in changed.get("Condition", {}).items():
        if "Not" in operator or operator == "Null":
            continue
        for name in tests:
            if name.lower() in folded:
                tests[name] = [value for value in _as_list(tests[name]) if not is_removed(value)]
                if not tests[name]:
                    return None
    return changed


def put_identity_policy(policy: PolicyFacts, says: str, document: Document, owners: Sequence[str]) -> Fix:
    """Return a fix that replaces an identity policy.

    Args:
        owners: the users and roles that it applies to.
    """
    if len(json.dumps(document, separators=(",", ":"))) > _MAX_MANAGED:
        return Fix(f"{says} The facts have more keys than fit into one policy, so name them in several.")
    file = f"file://{POLICY}"
    name = policy.name
    if policy.kind == "inline":
        kind, owner = templates.owner_of(policy.id.partition("#")[0])
        words = (f"put-{kind}-policy", f"--{kind}-name", owner, "--policy-name", name)
        lines = [command("aws", "iam", *words, "--policy-document", file)]
    elif policy.kind == "aws":
        name = f"{name}-named-keys"
        lines = _replace_aws_policy(policy, name, owners, file)
        says += (
            " AWS managed policies cannot be changed, so one of your own takes its place. Do the same for users and "
            "groups that list-entities-for-policy shows."
        )
    else:
        version = ("create-policy-version", "--policy-arn", policy.id, "--policy-document", file, "--set-as-default")
        lines = [command("aws", "iam", *version)]
        says += " A policy has at most five versions, so you may have to delete an old one first."
    return Fix(
        f"{says} {_REPLACES_IDENTITY_POLICY}",
        (json_file(POLICY, document), Block("\n".join(lines)), *templates.identity_policy(policy, name, document)),
    )


def _replace_aws_policy(policy: PolicyFacts, name: str, owners: Sequence[str], file: str) -> list[str]:
    account = next((owner.split(":")[4] for owner in owners), "")
    own = f"arn:{policy.id.split(':')[1]}:iam::{account}:policy/{name}"
    lines = [
        command("aws", "iam", "create-policy", "--policy-name", name, "--policy-document", file),
        command("aws", "iam", "list-entities-for-policy", "--policy-arn", policy.id),
    ]
    for owner in owners:
        if ":role/" in owner:
            role = ("--role-name", owner.rpartition("/")[2])
            lines.append(command("aws", "iam", "attach-role-policy", *role, "--policy-arn", own))
            lines.append(command("aws", "iam", "detach-role-policy", *role, "--policy-arn", policy.id))
    return lines


def _as_list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _matches_any(pattern: str, actions: Iterable[str]) -> bool:
    tokens = parse(pattern.lower(), wildcards=True, variables=False).resolve(no_value) or ()
    return any(glob(tokens, action) for action in actions)
