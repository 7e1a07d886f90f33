"""The Condition element: operators, their three modifiers, and what each does where a key is missing.

Sources in the IAM User Guide: "IAM JSON policy elements: Condition operators", "Conditions with multiple context keys
or values" and "Set operators for multivalued context keys".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sealwax.errors import PolicyError
from sealwax.policy import _keys, _patterns, _values
from sealwax.policy._keys import Type
from sealwax.policy._patterns import Lookup, Template, Token, shown

Compare = Callable[[Sequence[Token], str], bool]


class Each(Enum):
    """A set operator."""

    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


@dataclass(frozen=True, slots=True)
class Operator:
    """A condition operator without its modifiers.

    Attributes:
        compare: tells whether one value of the policy fits one value of the request.
        negated: whether the operator asks that no value fits.
        types: the types of keys it can be used with.
        check: raises PolicyError for a value that the operator can never compare.
        wildcards: whether ``*`` and ``?`` are wildcards.
        variables: whether policy variables may stand in the values.
    """

    compare: Compare
    negated: bool
    types: frozenset[Type]
    check: Callable[[str], object]
    wildcards: bool = False
    variables: bool = False


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(str(token) for token in tokens)


def _same(tokens: Sequence[Token], value: str) -> bool:
    return _plain(tokens) == value


def _same_ignoring_case(tokens: Sequence[Token], value: str) -> bool:
    return _plain(tokens).lower() == value.lower()


def _ordered(read: Callable[[str], object | None], relation: Callable[[Any, Any], bool]) -> Compare:
    def compare(tokens: Sequence[Token], value: str) -> bool:
        ours, theirs = read(_plain(tokens)), read(value)
        return ours is not None and theirs is not None and relation(theirs, ours)

    return compare


def _in_network(tokens: Sequence[Token], value: str) -> bool:
    network, address = _values.network(_plain(tokens)), _values.address(value)
    return network is not None and address is not None and address in network


def _same_bytes(tokens: Sequence[Token], value: str) -> bool:
    ours = _values.binary(_plain(tokens))
    return ours is not None and ours == _values.binary(value)


def _must_be(what: str, read: Callable[[str], object | None]) -> Callable[[str], object]:
    def check(text: str) -> object:
        if read(text) is None:
            raise PolicyError(f"'{shown(text)}' is not {what}")
        return None

    return check


def _any_text(_: str) -> object:
    return None


def _arn_like(text: str) -> object:
    if _patterns.split_arn((text,)) is None:
        raise PolicyError(f"'{shown(text)}' is not an ARN of six components, each of which may hold wildcards")
    return None


_EVERY_TYPE: Final = frozenset(Type)
_NUMBERS: Final = frozenset({Type.NUMBER, Type.DATE, Type.OPEN})
_DATES: Final = frozenset({Type.DATE, Type.OPEN})
_BOOLS: Final = frozenset({Type.BOOL, Type.OPEN})
_ARNS: Final = frozenset({Type.ARN, Type.OPEN})
_TEXTS: Final = frozenset({Type.STRING, Type.OPEN})
_ADDRESSES: Final = frozenset({Type.ADDRESS})

_RELATIONS: Final[dict[str, tuple[Callable[[Any, Any], bool], bool]]] = {
    "Equals": (operator.eq, False),
    "NotEquals": (operator.eq, True),
    "LessThan": (operator.lt, False),
    "LessThanEquals": (operator.le, False),
    "GreaterThan": (operator.gt, False),
    "GreaterThanEquals": (operator.ge, False),
}


def _operators() -> dict[str, Operator]:
    table = {
        "StringEqualsIgnoreCase": Operator(_same_ignoring_case, False, _EVERY_TYPE, _any_text, variables=True),
        "StringNotEqualsIgnoreCase": Operator(_same_ignoring_case, True, _EVERY_TYPE, _any_text, variables=True),
        "Bool": Operator(
            _same_ignoring_case, False, _BOOLS, _must_be("true or false", _values.boolean), variables=True
        ),
        "BinaryEquals": Operator(_same_bytes, False, _TEXTS, _must_be("base64", _values.binary)),
    }
    for word, negated in (("Equals", False), ("NotEquals", True)):
        table["String" + word] = Operator(_same, negated, _EVERY_TYPE, _any_text, variables=True)
    for word, negated in (("Like", False), ("NotLike", True)):
        table["String" + word] = Operator(
            _patterns.glob, negated, _EVERY_TYPE, _any_text, wildcards=True, variables=True
        )
    for word, negated in (("Equals", False), ("Like", False), ("NotEquals", True), ("NotLike", True)):
        table["Arn" + word] = Operator(_patterns.glob_arn, negated, _ARNS, _arn_like, wildcards=True, variables=True)
    for word, (relation, negated) in _RELATIONS.items():
        table["Numeric" + word] = Operator(
            _ordered(_values.number, relation), negated, _NUMBERS, _must_be("a number", _values.number)
        )
        table["Date" + word] = Operator(
            _ordered(_values.date, relation), negated, _DATES, _must_be("a date", _values.date)
        )
    for name, negated in (("IpAddress", False), ("NotIpAddress", True)):
        table[name] = Operator(_in_network, negated, _ADDRESSES, _must_be("an IP address or range", _values.network))
    return table


OPERATORS: Final = _operators()


@dataclass(frozen=True, slots=True)
class Clause:
    """One operator applied to one key: a part of a Condition, all of whose parts must hold.

    Attributes:
        operator: the operator as written, with its modifiers.
        key: the key as written.
        values: what the policy compares with; one that fits is enough.
    """

    operator: str
    key: str
    values: tuple[Template, ...]
    each: Each | None
    if_exists: bool

    def failure(self, context: Mapping[str, tuple[str, ...]], lookup: Lookup, *, deny: bool) -> str | None:
        """Return why the condition does not hold, or None when it does.

        Args:
            context: the values of the request by the lower-case names of their keys.
            lookup: the value of a policy variable.
            deny: whether the statement denies; where AWS leaves the meaning open, the answer that gives less access
                depends on it.
        """
        name = shown(self.key)
        given = context.get(self.key.lower(), ())
        if self.operator == "Null":
            wanted = {template.text.lower() for template in self.values}
            if ("false" if given else "true") in wanted:
                return None
            return f"{name} is present" if given else f"{name} is absent"
        if self.each is not None:
            # AWS: an empty string is an empty set of values.
            given = tuple(value for value in given if value)
        if not given and self.each is not None:
            # ForAnyValue of nothing is false even with IfExists.
            return None if self.each is Each.ALL else f"{name} is absent"
        if not given and self.if_exists:
            return None
        rule = OPERATORS[_base(self.operator)]
        # A variable without a value leaves nothing that could be equal or like, and so a negated operator holds.
        resolved = [template.resolve(lookup) for template in self.values]
        if not given:
            return None if rule.negated else f"{name} is absent"
        fits = [
            any(rule.compare(tokens, value) for tokens in resolved if tokens is not None) != rule.negated
            for value in given
        ]
        # Without a set operator a key has one value, but for encryption context keys that differ only in case: then
        # every pair must fit to allow, and any is enough to deny.
        need_all = self.each is Each.ALL or (self.each is None and not deny)
        if all(fits) if need_all else any(fits):
            return None
        return f"{name} does not satisfy {self.operator}"


def _base(written: str) -> str:
    for each in Each:
        written = written.removeprefix(each.value)
    return written.removesuffix("IfExists")


def parse(written: str, key: str, texts: Sequence[str], *, variables: bool, foreign: bool) -> Clause:
    """Read one operator with one of its keys.

    Args:
        written: the operator with its modifiers.
        key: the condition key.
        texts: the values.
        variables: whether this version of the language has policy variables.
        foreign: whether the statement cannot reach KMS, so that keys of other services may stand in it.

    Raises:
        PolicyError: an unknown operator or key, or a value that the operator can never compare.
    """
    each = next((one for one in Each if written.startswith(one.value)), None)
    if_exists = written.endswith("IfExists")
    base = _base(written)
    known = _keys.find(key)
    if known is None:
        if not foreign:
            raise PolicyError(f"'{shown(key)}' is not a condition key of KMS requests")
        known = _keys.Key(key, Type.OPEN, many=each is not None)
    if written == "Null":
        for text in texts:
            _must_be("true or false", _values.boolean)(text)
        return Clause(written, key, tuple(Template(text, ()) for text in texts), None, False)
    rule = OPERATORS.get(base)
    if rule is None:
        raise PolicyError(f"'{shown(written)}' is not a condition operator")
    if known.type not in rule.types:
        raise PolicyError(f"{written} cannot be used with {shown(key)}, whose value is {known.type.value}")
    if known.many and each is None:
        raise PolicyError(f"{shown(key)} can have many values and needs ForAllValues: or ForAnyValue: before {written}")
    templates = []
    for text in texts:
        template = _patterns.parse(text, wildcards=rule.wildcards, variables=variables and rule.variables)
        if not template.has_variables:
            rule.check(text)
        templates.append(template)
    return Clause(written, key, tuple(templates), each, if_exists)
