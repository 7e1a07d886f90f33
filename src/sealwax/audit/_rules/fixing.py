"""Fixes that can be pasted: whole policies with one thing changed, and the commands that put them.

Putting a policy replaces what is there. So each fix prints all of it, and changes what its finding is about and nothing
else: no other service's action, no other principal, no other condition.
"""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sealwax._core.context import printable
from sealwax.audit._facts import KeyFacts, PolicyFacts
from sealwax.audit._findings import Block, Fix
from sealwax.policy._documents import MAX_KEY_POLICY
from sealwax.policy._generate import RECOVER
from sealwax.policy._operations import EVERY
from sealwax.policy._patterns import glob, parse

Document = dict[str, Any]

POLICY: Final = "policy.json"
# Without white space. A policy of a user has less room, one of a role more.
_MOST_MANAGED: Final = 6144
_ALL: Final = ("*", "*:*")


def command(*words: str) -> str:
    """Return a command as a shell takes it."""
    # On one line, whatever a name holds: nobody shall paste half of one.
    return shlex.join(map(printable, words))


def on(key: KeyFacts) -> tuple[str, ...]:
    """Return the words that say which key."""
    return "--region", key.region, "--key-id", key.id


def kms(key: KeyFacts, operation: str, *words: str) -> str:
    """Return a command of AWS KMS on a key."""
    return command("aws", "kms", operation, *on(key), *words)


def commands(says: str, *lines: str) -> Fix:
    """Return a fix of commands."""
    return Fix(says, (Block("\n".join(lines)),))


def as_text(document: Any) -> str:
    """Return JSON as it can be pasted: ASCII, and on one line where it would be too large otherwise."""
    text = json.dumps(document, indent=2)
    return text if len(text) <= MAX_KEY_POLICY else json.dumps(document, separators=(",", ":"))


def put(key: KeyFacts, says: str, document: Document | None, region: str | None = None) -> Fix:
    """Return the fix that gives a key another policy.

    Args:
        document: the policy; None where there is none to print.
        region: where the key is, if it is not the key's own Region.
    """
    if document is None or len(text := as_text(document)) > MAX_KEY_POLICY:
        return Fix(says)
    words = ("--policy-name", "default", "--policy", f"file://{POLICY}")
    where = ("--region", region or key.region, "--key-id", key.id)
    put_it = command("aws", "kms", "put-key-policy", *where, *words)
    if [one.get("Sid") for one in document["Statement"]] == [_RECOVERS]:
        says += " Nobody is left in it, so the root user of the account may see and replace it, for nobody else could."
    return Fix(f"{says} {_REPLACES}", (Block(text, POLICY), Block(put_it)))


_RECOVERS: Final = "RootUserRecovers"


_REPLACES: Final = (
    "This is the whole policy as the facts show it, with that change; the command replaces the policy of the key. "
    "Audit again after each fix, before you take the next one."
)


def changed(key: KeyFacts, change: Callable[[list[Document]], None]) -> Document | None:
    """Return the policy of a key with its statements changed; None where the facts hold none that can be."""
    try:
        document = json.loads(key.policy or "")
        statements = document["Statement"]
        document["Statement"] = statements if isinstance(statements, list) else [statements]
        change(document["Statement"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not document["Statement"]:
        # KMS takes no policy that nobody can replace by another one.
        root = f"arn:{key.partition}:iam::{key.account}:root"
        document["Statement"] = [
            {
                "Sid": _RECOVERS,
                "Effect": "Allow",
                "Principal": {"AWS": root},
                "Action": list(RECOVER),
                "Resource": "*",
            }
        ]
    return document if isinstance(document, dict) else None


def replaced(key: KeyFacts, index: int, *new: Mapping[str, Any]) -> Document | None:
    """Return the policy of a key with other statements in place of one.

    Args:
        index: the place of the statement, from 1.
    """

    def change(statements: list[Document]) -> None:
        statements[index - 1 : index] = [dict(one) for one in new]

    return changed(key, change)


def denied(
    key: KeyFacts, who: str, actions: Sequence[str], condition: Mapping[str, Any] | None = None
) -> Document | None:
    """Return the policy of a key with one statement more, which denies somebody actions."""
    more: Document = {"Effect": "Deny", "Principal": {"AWS": who}, "Action": list(actions), "Resource": "*"}
    return changed(key, lambda statements: statements.append(more | ({"Condition": condition} if condition else {})))


def with_condition(statement: Mapping[str, Any], operator: str, name: str, value: Any) -> Document:
    """Return a statement that asks for one thing more; a condition that is there already on the same key gives way."""
    made: Document = copy.deepcopy(dict(statement))
    tests = made.setdefault("Condition", {}).setdefault(operator, {})
    for known in [one for one in tests if one.lower() == name.lower()]:
        del tests[known]
    tests[name] = value
    return made


def split(statement: Mapping[str, Any], taken: Sequence[str], *, of_key: bool) -> tuple[Document | None, bool]:
    """Take actions out of a statement that is about others too.

    Args:
        taken: actions of KMS.
        of_key: whether it is a key policy's, which is about no other service.

    Returns:
        The statement without them, None where nothing is left; and whether it could be done: what a wildcard stands
        for among services that are not known here, cannot be said.
    """
    rest: Document = copy.deepcopy(dict(statement))
    folded = {one.lower() for one in taken}
    if "NotAction" in rest:
        rest["NotAction"] = list(dict.fromkeys((*_listed(rest["NotAction"]), *taken)))
        return rest, True
    found: list[str] = []
    for one in _listed(rest["Action"]):
        if not _matches(one, folded):
            found.append(one)
        elif one in _ALL or (of_key and one.lower() == "kms:*"):
            del rest["Action"]
            return rest | {"NotAction": list(taken)}, True
        elif one.startswith("*"):
            return None, False
        else:
            found += sorted(
                action for action in EVERY if _matches(one, {action.lower()}) and action.lower() not in folded
            )
    if not found:
        return None, True
    rest["Action"] = list(dict.fromkeys(found))
    return rest, True


def without_principals(statement: Mapping[str, Any], gone: Callable[[str], bool]) -> Document | None:
    """Return a statement whose Principal does not name some; None where nobody is left."""
    made: Document = copy.deepcopy(dict(statement))
    if not isinstance(made.get("Principal"), dict):
        return made
    for kind in ("AWS", "Federated"):
        if kind in made["Principal"]:
            kept = [one for one in _listed(made["Principal"][kind]) if not gone(one)]
            if kept:
                made["Principal"][kind] = kept
            else:
                del made["Principal"][kind]
    return made if made["Principal"] else None


def without_values(statement: Mapping[str, Any], names: Iterable[str], gone: Callable[[str], bool]) -> Document | None:
    """Return a statement whose conditions on some keys do not take some values; None where one has no value left."""
    made: Document = copy.deepcopy(dict(statement))
    wanted = tuple(names)
    for operator, tests in made.get("Condition", {}).items():
        if "Not" in operator or operator == "Null":
            continue
        for name in tests:
            if name.lower() in wanted:
                tests[name] = [one for one in _listed(tests[name]) if not gone(one)]
                if not tests[name]:
                    return None
    return made


def put_identity(one: PolicyFacts, says: str, document: Document, owners: Sequence[str]) -> Fix:
    """Return the fix that gives an identity policy another text.

    Args:
        owners: the users and roles that it applies to.
    """
    compact = json.dumps(document, separators=(",", ":"))
    if len(compact) > _MOST_MANAGED:
        return Fix(f"{says} The facts show more keys than fit into one policy: name them in several.")
    file = f"file://{POLICY}"
    if one.kind == "inline":
        owner, _, name = one.id.partition("#")
        kind = f"{owner}:::::".split(":", 5)[5].partition("/")[0]
        words = (f"put-{kind}-policy", f"--{kind}-name", owner.rpartition("/")[2], "--policy-name", name)
        lines = [command("aws", "iam", *words, "--policy-document", file)]
    elif one.kind == "aws":
        lines = _instead(one, owners, file)
        says += (
            " AWS's own policy cannot be changed: one of your own takes its place. Users and groups that it is "
            "attached to, which list-entities-for-policy shows, are exchanged in the same way."
        )
    else:
        new = ("--policy-arn", one.id, "--policy-document", file, "--set-as-default")
        lines = [command("aws", "iam", "create-policy-version", *new)]
        says += " A policy has five versions at most: delete an old one if AWS asks for that."
    return Fix(f"{says} {_IDENTITY}", (Block(as_text(document), POLICY), Block("\n".join(lines))))


_IDENTITY: Final = "This is the whole policy as the facts show it, with that change. Audit again after each fix."


def _instead(one: PolicyFacts, owners: Sequence[str], file: str) -> list[str]:
    name = f"{one.name}-named-keys"
    account = next((who.split(":")[4] for who in owners), "")
    own = f"arn:{one.id.split(':')[1]}:iam::{account}:policy/{name}"
    lines = [
        command("aws", "iam", "create-policy", "--policy-name", name, "--policy-document", file),
        command("aws", "iam", "list-entities-for-policy", "--policy-arn", one.id),
    ]
    for who in owners:
        if ":role/" in who:
            role = ("--role-name", who.rpartition("/")[2])
            lines.append(command("aws", "iam", "attach-role-policy", *role, "--policy-arn", own))
            lines.append(command("aws", "iam", "detach-role-policy", *role, "--policy-arn", one.id))
    return lines


def _listed(given: Any) -> list[str]:
    return [str(one) for one in given] if isinstance(given, list) else [str(given)]


def _matches(pattern: str, actions: Iterable[str]) -> bool:
    tokens = parse(pattern.lower(), wildcards=True, variables=False).resolve(lambda _: None) or ()
    return any(glob(tokens, one) for one in actions)
