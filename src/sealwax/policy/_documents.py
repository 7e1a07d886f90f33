"""Policy documents: the strict way from JSON to statements.

Sources: "Grammar of the IAM JSON policy language" in the IAM User Guide and "Creating a key policy" in the KMS
Developer Guide. A document that breaks a rule is refused as a whole, with the statement, the element and the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Never

from sealwax.errors import PolicyError
from sealwax.policy import _conditions, _patterns
from sealwax.policy._conditions import Clause
from sealwax.policy._patterns import Template, shown

MAX_KEY_POLICY: Final = 32_768  # bytes
MAX_IDENTITY_POLICY: Final = 10_240  # characters that are no white space: the largest, all inline policies of a role

_ACTION: Final = re.compile(r"\*|(?:\*|[A-Za-z0-9-]+):[A-Za-z0-9*?]+")
_CHARACTERS: Final = re.compile("[\t\n\r\x20-\xff]*")
_SID: Final = re.compile(r"[A-Za-z0-9]*")
_PRINCIPAL: Final = re.compile(
    r"arn:aws[a-z-]*:(?:"
    r"iam::[0-9]{12}:(?:root|(?:user|role)/[^\s*?:]+)"
    r"|sts::[0-9]{12}:(?:assumed-role/[^\s*?:/]+/[^\s*?:/]+|federated-user/[^\s*?:/]+))"
)
_UNIQUE_ID: Final = re.compile(r"A[A-Z0-9]{15,127}")  # what AWS shows for a principal that was deleted
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9.-]*\.(?:amazonaws\.com(?:\.cn)?|amazon\.com|aws\.internal)")
_PROVIDER: Final = re.compile(
    r"\*|[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+(?:/[^\s*?]*)?|arn:aws[a-z-]*:iam::[0-9]{12}:(?:saml|oidc)-provider/[^\s*?]+"
)


@dataclass(frozen=True, slots=True)
class Principals:
    """A Principal or NotPrincipal element.

    Attributes:
        negated: whether it is NotPrincipal.
        everyone: whether it holds ``*``.
        accounts: the twelve digits of the accounts it names as a whole.
        names: the ARNs of users, roles and sessions.
        services: the service principals.
        providers: the identity providers under Federated, ``*`` for any: whoever signed in there.
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
        principals: who it is about; None in an identity policy.
        not_action: whether the actions are those it is not about.
        resources: the resources; None where a key policy leaves them out, which makes the statement ineffective.
        not_resource: whether the resources are those it is not about.
        clauses: the parts of its Condition, all of which must hold.
    """

    policy: str
    sid: str | None
    index: int
    effect: Literal["Allow", "Deny"]
    principals: Principals | None
    actions: tuple[Template, ...]
    not_action: bool
    resources: tuple[Template, ...] | None
    not_resource: bool
    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return _label(self.policy, self.index, self.sid)


def _label(policy: str, index: int, sid: str | None) -> str:
    return f"statement '{shown(sid)}' of the {policy}" if sid else f"statement {index} of the {policy}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document that was understood whole."""

    name: str
    id: str | None
    version: str
    statements: tuple[Statement, ...]

    @property
    def unconditional(self) -> bool:
        """Whether it says the same at any time and in any context: it has neither conditions nor variables."""
        return not any(
            statement.clauses or any(one.has_variables for one in statement.resources or ())
            for statement in self.statements
        )


def parse_key_policy(document: str | bytes | Mapping[str, Any], *, name: str = "key policy") -> Policy:
    """Read a key policy.

    Args:
        document: the JSON text, or the document already decoded.
        name: how decisions and errors call it.

    Raises:
        PolicyError: the document breaks a rule.
    """
    text = text_of(document, name)
    if len(text) > MAX_KEY_POLICY or len(text.encode(errors="replace")) > MAX_KEY_POLICY:
        raise PolicyError(f"the {name} is larger than {MAX_KEY_POLICY} bytes")
    return _Reader(name, of_key=True).policy(_load(text, name))


def parse_identity_policy(document: str | bytes | Mapping[str, Any], *, name: str = "identity policy") -> Policy:
    """Read a policy of a user, group or role.

    Args:
        document: the JSON text, or the document already decoded.
        name: how decisions and errors call it.

    Raises:
        PolicyError: the document breaks a rule.
    """
    text = text_of(document, name)
    if len(re.sub(r"\s", "", text)) > MAX_IDENTITY_POLICY:
        raise PolicyError(f"the {name} is larger than {MAX_IDENTITY_POLICY} characters")
    return _Reader(name, of_key=False).policy(_load(text, name))


def text_of(document: str | bytes | Mapping[str, Any], name: str) -> str:
    """Return a policy as JSON text.

    Raises:
        PolicyError: it cannot be told as JSON, or is not UTF-8.
    """
    if isinstance(document, str):
        return document
    if isinstance(document, Mapping):
        try:
            return json.dumps(
                dict(document), default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except (TypeError, ValueError, RecursionError):
            raise PolicyError(f"the {name} holds what JSON cannot say") from None
    try:
        return bytes(document).decode()
    except UnicodeDecodeError:
        raise PolicyError(f"the {name} is not UTF-8") from None


def _plain(value: Any) -> Any:
    """Return what JSON has for a Mapping or a Sequence of another class than dict, list and tuple."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError


def _load(text: str, name: str) -> Mapping[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise PolicyError(f"the {name} has '{shown(key)}' twice in one object")
            found[key] = value
        return found

    def no_constant(word: str) -> Never:
        raise PolicyError(f"the {name} is not JSON: {word} is no value")

    if not _CHARACTERS.fullmatch(text):
        raise PolicyError(f"the {name} holds characters outside of Latin-1, which AWS refuses in a policy")
    try:
        # Numbers stay as they were written: a policy compares texts.
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
    """A JSON number: its text, and never mistaken for a string."""

    __slots__ = ()


class _Reader:
    """Reads one document; every refusal names the statement that it is about."""

    def __init__(self, name: str, *, of_key: bool) -> None:
        self._name = name
        self._of_key = of_key
        self._variables = False

    def policy(self, raw: Mapping[str, Any]) -> Policy:
        where = f"the {self._name}"
        _known(raw, {"Version", "Statement", "Id"}, where)
        version = raw.get("Version", "2008-10-17")
        if version not in ("2008-10-17", "2012-10-17"):
            raise PolicyError(f"{where} has a Version that is neither 2012-10-17 nor 2008-10-17")
        self._variables = version == "2012-10-17"
        identifier = raw.get("Id")
        if identifier is not None and not self._of_key:
            raise PolicyError(f"{where} has an Id, which only policies of resources can have")
        if identifier is not None and not _is_text(identifier):
            raise PolicyError(f"{where} has an Id that is not a string")
        listed = raw.get("Statement")
        if isinstance(listed, dict):
            listed = [listed]
        if not isinstance(listed, list) or not listed:
            raise PolicyError(f"{where} has no Statement")
        statements = tuple(self._statement(one, index) for index, one in enumerate(listed, 1))
        sids = [statement.sid for statement in statements if statement.sid]
        if not self._of_key and len(set(sids)) != len(sids):
            raise PolicyError(f"{where} uses a Sid twice")
        return Policy(self._name, identifier, version, statements)

    def _statement(self, raw: Any, index: int) -> Statement:
        where = f"statement {index} of the {self._name}"
        if not isinstance(raw, dict):
            raise PolicyError(f"{where} is not an object")
        sid = raw.get("Sid")
        if sid is not None and (not _is_text(sid) or not (self._of_key or _SID.fullmatch(sid))):
            raise PolicyError(f"{where} has a Sid that is not made of letters and digits")
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

    def _principals(self, raw: Mapping[str, Any], where: str) -> Principals:
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
            raise PolicyError(f"{where} has a NotPrincipal of *, which is about nobody")
        everyone = "*" in names
        return Principals(
            negated,
            everyone,
            frozenset(accounts),
            frozenset(names - {"*"}),
            frozenset(services),
            frozenset(providers),
        )

    @staticmethod
    def _action(text: str) -> Template:
        if not _ACTION.fullmatch(text):
            raise PolicyError(f"'{shown(text)}' is not an action: a service, a colon and a name")
        return _patterns.parse(text.lower(), wildcards=True, variables=False)

    def _resources(self, raw: Mapping[str, Any], where: str) -> tuple[bool, tuple[Template, ...] | None]:
        if self._of_key and "Resource" not in raw and "NotResource" not in raw:
            # AWS takes such a key policy, and the statement has no effect.
            return False, None
        element = _either(raw, "Resource", "NotResource", where)
        return element == "NotResource", _each(raw[element], where, "a resource", self._resource)

    def _resource(self, text: str) -> Template:
        template = _patterns.parse(text, wildcards=True, variables=self._variables)
        if text == "*":
            return template
        fields = text.split(":", 5)
        if fields[0] != "arn" or (len(fields) < 6 and not text.endswith("*")):
            raise PolicyError(f"'{shown(text)}' is neither * nor an ARN")
        if self._variables and any("${" in part for part in fields[:5]):
            raise PolicyError(f"'{shown(text)}' has a policy variable before the fifth colon")
        return template

    def _clauses(self, raw: Any, where: str, *, foreign: bool, providers: frozenset[str]) -> tuple[Clause, ...]:
        if not isinstance(raw, dict):
            raise PolicyError(f"{where} has a Condition that is not an object")
        found: list[Clause] = []
        for operator, tests in raw.items():
            if not isinstance(tests, dict):
                raise PolicyError(f"{where} has a Condition whose {shown(operator)} is not an object")
            if len({key.lower() for key in tests}) != len(tests):
                raise PolicyError(f"{where} has a condition key twice in {shown(operator)}")
            for key, given in tests.items():
                texts = _texts(given, f"{where}: {shown(operator)} of {shown(key)}", scalars=True)
                if self._of_key and operator.startswith("ForAllValues:") and key.lower().startswith(_SINGLE):
                    raise PolicyError(
                        f"{where} uses ForAllValues: with {shown(key)}, so a request without it would fit; leave it out"
                    )
                try:
                    found.append(
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
        return tuple(found)


# PutKeyPolicy and CreateKey answer OverlyPermissiveCondition to these.
_SINGLE: Final = ("kms:encryptioncontext:", "aws:requesttag/")


def _is_of_provider(key: str, providers: frozenset[str]) -> bool:
    """Whether a condition key is one that an identity provider of the statement fills, such as ``NAME:aud``."""
    name = key.lower().rpartition(":")[0]
    named = {one.partition("-provider/")[2] or one for one in providers}
    return bool(name) and (name in named or (name == "saml" and any("saml-provider" in one for one in providers)))


def _reaches_kms(actions: tuple[Template, ...], not_action: bool) -> bool:
    if not_action:
        return not any(action.text in ("*", "*:*", "kms:*") for action in actions)
    return any(action.text.split(":")[0] in ("*", "kms") for action in actions)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Number)


def _known(raw: Mapping[str, Any], names: set[str], where: str) -> None:
    for name in raw:
        if name not in names:
            raise PolicyError(f"{where} has an element '{shown(name)}' that cannot stand there")


def _either(raw: Mapping[str, Any], plain: str, negated: str, where: str) -> str:
    present = [name for name in (plain, negated) if name in raw]
    if len(present) != 1:
        raise PolicyError(
            f"{where} {'has both' if present else 'needs'} {plain} {'and' if present else 'or'} {negated}"
        )
    return present[0]


def _texts(given: Any, where: str, *, required: bool = True, scalars: bool = False) -> tuple[str, ...]:
    """Return one string or a list of strings as a tuple; with ``scalars``, numbers and booleans as their texts."""
    listed: Iterable[Any] = given if isinstance(given, list | tuple) else [given]
    found: list[str] = []
    for one in listed:
        if scalars and isinstance(one, bool):
            found.append("true" if one else "false")
        elif _is_text(one) or (scalars and isinstance(one, _Number)):
            found.append(str(one))
        else:
            raise PolicyError(f"{where} is not a string or a list of strings")
    if required and not found:
        raise PolicyError(f"{where} is an empty list")
    return tuple(found)


def _each(given: Any, where: str, what: str, read: Callable[[str], Template]) -> tuple[Template, ...]:
    found: list[Template] = []
    for text in _texts(given, f"{where}: {what}"):
        try:
            found.append(read(text))
        except PolicyError as error:
            raise PolicyError(f"{where}: {error}") from None
    return tuple(found)
