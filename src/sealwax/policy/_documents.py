"""Policy documents: strict parsing of JSON to statements.

Sources: "Grammar of the IAM JSON policy language" in the IAM User Guide and "Creating a key policy" in the KMS
Developer Guide. A document that breaks a rule is refused as a whole, with the statement, the element and the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Never, TypeAlias, TypeGuard

from sealwax.errors import PolicyError
from sealwax.policy import _conditions, _patterns
from sealwax.policy._conditions import Clause
from sealwax.policy._patterns import Pattern, shown

#: A JSON object, such as a policy document or a statement.
Document: TypeAlias = dict[str, Any]

MAX_KEY_POLICY: Final = 32_768  # bytes
MAX_IDENTITY_POLICY: Final = 10_240  # characters without white space; the limit of all inline policies of a role

_ACTION: Final = re.compile(r"\*|(?:\*|[A-Za-z0-9-]+):[A-Za-z0-9*?]+")
_CHARACTERS: Final = re.compile("[\t\n\r\x20-\xff]*")
_SID: Final = re.compile(r"[A-Za-z0-9]*")
_PRINCIPAL: Final = re.compile(
    r"arn:aws[a-z-]*:(?:"
    r"iam::[0-9]{12}:(?:root|(?:user|role)/[^\s*?:]+)"
    r"|sts::[0-9]{12}:(?:assumed-role/[^\s*?:/]+/[^\s*?:/]+|federated-user/[^\s*?:/]+))"
)
_UNIQUE_ID: Final = re.compile(r"A[A-Z0-9]{15,127}")  # what AWS shows for a deleted principal
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9.-]*\.(?:amazonaws\.com(?:\.cn)?|amazon\.com|aws\.internal)")
_PROVIDER: Final = re.compile(
    r"\*|[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+(?:/[^\s*?]*)?|arn:aws[a-z-]*:iam::[0-9]{12}:(?:saml|oidc)-provider/[^\s*?]+"
)


@dataclass(frozen=True, slots=True)
class PrincipalElement:
    """A Principal or NotPrincipal element.

    Attributes:
        negated: whether it is NotPrincipal.
        everyone: whether it holds ``*``.
        accounts: the ids of the accounts that it names as a whole.
        names: the ARNs of users, roles and sessions.
        services: the service principals.
        providers: the identity providers under Federated; ``*`` for any.
    """

    negated: bool
    everyone: bool
    accounts: frozenset[str]
    names: frozenset[str]
    services: frozenset[str]
    providers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a policy.

    Attributes:
        policy: the name of the document.
        sid: its Sid, or None.
        index: its place in the document, from 1.
        effect: Allow or Deny.
        principals: its Principal or NotPrincipal element; None in an identity policy.
        actions: the patterns of its Action or NotAction element.
        not_action: whether it is NotAction.
        resources: the patterns of its Resource or NotResource element; None if a key policy omits it, which makes the
            statement ineffective.
        not_resource: whether it is NotResource.
        clauses: the parts of its Condition, all of which must hold.
    """

    policy: str
    sid: str | None
    index: int
    effect: Literal["Allow", "Deny"]
    principals: PrincipalElement | None
    actions: tuple[Pattern, ...]
    not_action: bool
    resources: tuple[Pattern, ...] | None
    not_resource: bool
    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return _label(self.policy, self.index, self.sid)


def _label(policy: str, index: int, sid: str | None) -> str:
    return f"statement '{shown(sid)}' of the {policy}" if sid else f"statement {index} of the {policy}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy document.

    Attributes:
        name: its name in decisions and errors.
        id: its Id, or None.
        version: the version of the policy language.
        statements: its statements, in order.
    """

    name: str
    id: str | None
    version: str
    statements: tuple[Statement, ...]

    @property
    def unconditional(self) -> bool:
        """Whether it decides the same at any time and in any context: it has neither conditions nor variables."""
        return not any(
            statement.clauses or any(pattern.has_variables for pattern in statement.resources or ())
            for statement in self.statements
        )


def parse_key_policy(document: str | bytes | Mapping[str, object], *, name: str = "key policy") -> Policy:
    """Parse a key policy.

    Args:
        document: the JSON text, or the decoded document.
        name: its name in decisions and errors.

    Returns:
        The policy, for ``evaluate``.

    Raises:
        PolicyError: the document breaks a rule.
    """
    text = text_of(document, name)
    if len(text) > MAX_KEY_POLICY or len(text.encode(errors="replace")) > MAX_KEY_POLICY:
        raise PolicyError(f"the {name} is larger than {MAX_KEY_POLICY} bytes")
    return _Reader(name, of_key=True).policy(_load(text, name))


def parse_identity_policy(document: str | bytes | Mapping[str, object], *, name: str = "identity policy") -> Policy:
    """Parse a policy of a user, group or role.

    Args:
        document: the JSON text, or the decoded document.
        name: its name in decisions and errors.

    Returns:
        The policy, for ``evaluate``.

    Raises:
        PolicyError: the document breaks a rule.
    """
    text = text_of(document, name)
    if len(re.sub(r"\s", "", text)) > MAX_IDENTITY_POLICY:
        raise PolicyError(f"the {name} is larger than {MAX_IDENTITY_POLICY} characters")
    return _Reader(name, of_key=False).policy(_load(text, name))


def text_of(document: str | bytes | Mapping[str, object], name: str) -> str:
    """Return a policy as JSON text.

    Raises:
        PolicyError: it cannot be written as JSON, or is not UTF-8.
    """
    if isinstance(document, str):
        return document
    if isinstance(document, Mapping):
        try:
            return json.dumps(
                dict(document), default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except (TypeError, ValueError, RecursionError):
            raise PolicyError(f"the {name} holds values that JSON cannot represent") from None
    try:
        return bytes(document).decode()
    except UnicodeDecodeError:
        raise PolicyError(f"the {name} is not UTF-8") from None


def _plain(value: object) -> object:
    """Return a Mapping or Sequence of any class as a dict or list."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError


def _load(text: str, name: str) -> Mapping[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, value in pairs:
            if key in members:
                raise PolicyError(f"the {name} has '{shown(key)}' twice in one object")
            members[key] = value
        return members

    def no_constant(word: str) -> Never:
        raise PolicyError(f"the {name} is not JSON: {word} is not a value")

    if not _CHARACTERS.fullmatch(text):
        raise PolicyError(f"the {name} holds characters outside Latin-1, which AWS refuses in policies")
    try:
        # Numbers stay as written, because policies compare strings.
        raw = json.loads(
            text, object_pairs_hook=unique, parse_constant=no_constant, parse_int=_Number, parse_float=_Number
        )
    except (ValueError, RecursionError) as error:
        detail = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise PolicyError(f"the {name} is not JSON{detail}") from None
    if not isinstance(raw, dict):
        raise PolicyError(f"the {name} is not a JSON object")
    return raw


class _Number(str):
    """A JSON number, as text that is not mistaken for a string."""

    __slots__ = ()


class _Reader:
    """Parses one document. Every error names the statement that it is about."""

    def __init__(self, name: str, *, of_key: bool) -> None:
        self._name = name
        self._of_key = of_key
        self._variables = False

    def policy(self, raw: Mapping[str, object]) -> Policy:
        where = f"the {self._name}"
        _known(raw, {"Version", "Statement", "Id"}, where)
        version = raw.get("Version", "2008-10-17")
        if version not in ("2008-10-17", "2012-10-17"):
            raise PolicyError(f"{where} has a Version that is neither 2012-10-17 nor 2008-10-17")
        self._variables = version == "2012-10-17"
        identifier = _optional_text(raw, "Id", f"{where} has an Id that is not a string")
        if identifier is not None and not self._of_key:
            raise PolicyError(f"{where} has an Id, which only resource policies can have")
        listed = raw.get("Statement")
        if isinstance(listed, dict):
            listed = [listed]
        if not isinstance(listed, list) or not listed:
            raise PolicyError(f"{where} has no Statement")
        statements = tuple(self._statement(entry, index) for index, entry in enumerate(listed, 1))
        sids = [statement.sid for statement in statements if statement.sid]
        if not self._of_key and len(set(sids)) != len(sids):
            raise PolicyError(f"{where} uses a Sid twice")
        return Policy(self._name, identifier, str(version), statements)

    def _statement(self, raw: object, index: int) -> Statement:
        where = f"statement {index} of the {self._name}"
        if not isinstance(raw, dict):
            raise PolicyError(f"{where} is not an object")
        problem = f"{where} has a Sid that is not made of letters and digits"
        sid = _optional_text(raw, "Sid", problem)
        if sid is not None and not (self._of_key or _SID.fullmatch(sid)):
            raise PolicyError(problem)
        where = _label(self._name, index, sid)
        allowed = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
        if self._of_key:
            allowed |= {"Principal", "NotPrincipal"}
        _known(raw, allowed, where)
        effect = raw.get("Effect")
        if effect not in ("Allow", "Deny"):
            raise PolicyError(f"{where} has an Effect that is neither Allow nor Deny")
        principals = self._principals(raw, where) if self._of_key else None
        not_action = _either(raw, "Action", "NotAction", where) == "NotAction"
        actions = _each(raw["NotAction" if not_action else "Action"], where, "an action", self._action)
        not_resource, resources = self._resources(raw, where)
        return Statement(
            self._name,
            sid,
            index,
            effect,
            principals,
            actions,
            not_action,
            resources,
            not_resource,
            self._clauses(
                raw.get("Condition", {}),
                where,
                foreign=not _reaches_kms(actions, not_action),
                providers=principals.providers if principals else frozenset(),
            ),
        )

    def _principals(self, raw: Mapping[str, object], where: str) -> PrincipalElement:
        element = _either(raw, "Principal", "NotPrincipal", where)
        given = raw[element]
        negated = element == "NotPrincipal"
        if given == "*":
            given = {"AWS": "*"}
        if not isinstance(given, dict) or not given:
            raise PolicyError(f"{where} has a {element} that is neither * nor an object")
        _known(given, {"AWS", "Service", "Federated"}, f"the {element} of {where}")
        names: set[str] = set()
        accounts: set[str] = set()
        for text in _texts(given.get("AWS", ()), f"the {element} of {where}", required="AWS" in given):
            if re.fullmatch("[0-9]{12}", text):
                accounts.add(text)
            elif _PRINCIPAL.fullmatch(text) and text.endswith(":root"):
                accounts.add(text.split(":")[4])
            elif text == "*" or _PRINCIPAL.fullmatch(text) or _UNIQUE_ID.fullmatch(text):
                names.add(text)
            else:
                raise PolicyError(
                    f"{where} has a {element} '{shown(text)}' that is not an account, user, role or session"
                )
        services = _texts(given.get("Service", ()), f"the {element} of {where}", required="Service" in given)
        for text in services:
            if not _SERVICE.fullmatch(text):
                raise PolicyError(f"{where} has a {element} '{shown(text)}' that is not the name of an AWS service")
        providers = _texts(given.get("Federated", ()), f"the {element} of {where}", required="Federated" in given)
        for text in providers:
            if not _PROVIDER.fullmatch(text):
                raise PolicyError(f"{where} has a {element} '{shown(text)}' that is not an identity provider")
        if negated and "*" in names:
            raise PolicyError(f"{where} has a NotPrincipal of *, which excludes everyone")
        everyone = "*" in names
        return PrincipalElement(
            negated,
            everyone,
            frozenset(accounts),
            frozenset(names - {"*"}),
            frozenset(services),
            frozenset(providers),
        )

    @staticmethod
    def _action(text: str) -> Pattern:
        if not _ACTION.fullmatch(text):
            raise PolicyError(f"'{shown(text)}' is not an action, which has the form service:Name")
        return _patterns.parse(text.lower(), wildcards=True, variables=False)

    def _resources(self, raw: Mapping[str, object], where: str) -> tuple[bool, tuple[Pattern, ...] | None]:
        if self._of_key and "Resource" not in raw and "NotResource" not in raw:
            # AWS accepts this in a key policy, but the statement has no effect.
            return False, None
        element = _either(raw, "Resource", "NotResource", where)
        return element == "NotResource", _each(raw[element], where, "a resource", self._resource)

    def _resource(self, text: str) -> Pattern:
        template = _patterns.parse(text, wildcards=True, variables=self._variables)
        if text == "*":
            return template
        fields = text.split(":", 5)
        if fields[0] != "arn" or (len(fields) < 6 and not text.endswith("*")):
            raise PolicyError(f"'{shown(text)}' is neither * nor an ARN")
        if self._variables and any("${" in part for part in fields[:5]):
            raise PolicyError(f"'{shown(text)}' has a policy variable before the fifth colon")
        return template

    def _clauses(self, raw: object, where: str, *, foreign: bool, providers: frozenset[str]) -> tuple[Clause, ...]:
        if not isinstance(raw, dict):
            raise PolicyError(f"{where} has a Condition that is not an object")
        clauses: list[Clause] = []
        for operator, tests in raw.items():
            if not isinstance(tests, dict):
                raise PolicyError(f"{where} has a Condition whose {shown(operator)} is not an object")
            if len({key.lower() for key in tests}) != len(tests):
                raise PolicyError(f"{where} has a condition key twice in {shown(operator)}")
            for key, given in tests.items():
                texts = _texts(given, f"{where}: {shown(operator)} of {shown(key)}", scalars=True)
                if self._of_key and operator.startswith("ForAllValues:") and key.lower().startswith(_SINGLE):
                    raise PolicyError(
                        f"{where} uses ForAllValues: with {shown(key)}, so a request without that key would match; "
                        "leave ForAllValues: out"
                    )
                try:
                    clauses.append(
                        _conditions.parse(
                            operator,
                            key,
                            texts,
                            variables=self._variables,
                            foreign=foreign or _is_of_provider(key, providers),
                        )
                    )
                except PolicyError as error:
                    raise PolicyError(f"{where}: {error}") from None
        return tuple(clauses)


# PutKeyPolicy and CreateKey refuse ForAllValues: on these as OverlyPermissiveCondition.
_SINGLE: Final = ("kms:encryptioncontext:", "aws:requesttag/")


def _is_of_provider(key: str, providers: frozenset[str]) -> bool:
    """Tell whether a condition key belongs to an identity provider of the statement, such as ``NAME:aud``."""
    name = key.lower().rpartition(":")[0]
    named = {provider.partition("-provider/")[2] or provider for provider in providers}
    is_saml = any("saml-provider" in provider for provider in providers)
    return bool(name) and (name in named or (name == "saml" and is_saml))


def _reaches_kms(actions: tuple[Pattern, ...], not_action: bool) -> bool:
    if not_action:
        return not any(action.text in ("*", "*:*", "kms:*") for action in actions)
    return any(action.text.split(":")[0] in ("*", "kms") for action in actions)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, _Number)


def _optional_text(raw: Mapping[str, object], name: str, problem: str) -> str | None:
    value = raw.get(name)
    if value is not None and not _is_text(value):
        raise PolicyError(problem)
    return value


def _known(raw: Mapping[str, object], names: set[str], where: str) -> None:
    for name in raw:
        if name not in names:
            raise PolicyError(f"{where} has an unknown element '{shown(name)}'")


def _either(raw: Mapping[str, object], plain: str, negated: str, where: str) -> str:
    present = [name for name in (plain, negated) if name in raw]
    if len(present) != 1:
        raise PolicyError(
            f"{where} {'has both' if present else 'needs'} {plain} {'and' if present else 'or'} {negated}"
        )
    return present[0]


def _texts(given: object, where: str, *, required: bool = True, scalars: bool = False) -> tuple[str, ...]:
    """Return a string or a list of strings as a tuple. With ``scalars``, numbers and booleans become strings."""
    values: Iterable[object] = given if isinstance(given, list | tuple) else [given]
    texts: list[str] = []
    for value in values:
        if scalars and isinstance(value, bool):
            texts.append("true" if value else "false")
        elif _is_text(value) or (scalars and isinstance(value, _Number)):
            texts.append(str(value))
        else:
            raise PolicyError(f"{where} is not a string or a list of strings")
    if required and not texts:
        raise PolicyError(f"{where} is an empty list")
    return tuple(texts)


def _each(given: object, where: str, what: str, read: Callable[[str], Pattern]) -> tuple[Pattern, ...]:
    patterns: list[Pattern] = []
    for text in _texts(given, f"{where}: {what}"):
        try:
            patterns.append(read(text))
        except PolicyError as error:
            raise PolicyError(f"{where}: {error}") from None
    return tuple(patterns)
