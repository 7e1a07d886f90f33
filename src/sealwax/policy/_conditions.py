"""The Condition element: its operators, their three modifiers, and their meaning if a condition key is missing.

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
from sealwax.policy._keys import ValueType
from sealwax.policy._patterns import Lookup, Pattern, Token, shown

Compare = Callable[[Sequence[Token], str], bool]
Relation = Callable[[Any, Any], bool]


class Each(Enum):
    """A set operator."""

    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


@dataclass(frozen=True, slots=True)
class Operator:
    """A condition operator without its modifiers.

    Attributes:
        compare: tells whether a value of the policy matches a value of the request.
        negated: whether no value may match.
        types: the types of condition keys that it applies to.
        check: raises PolicyError for a value that the operator can never match.
        wildcards: whether ``*`` and ``?`` are wildcards.
        variables: whether values can contain policy variables.
    """

    compare: Compare
    negated: bool
    types: frozenset[ValueType]
    check: Callable[[str], object]
    wildcards: bool = False
    variables: bool = False


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(str(token) for token in tokens)


def _same(tokens: Sequence[Token], value: str) -> bool:
    return _plain(tokens) == value


def _same_ignoring_case(tokens: Sequence[Token], value: str) -> bool:
    return _plain(tokens).lower() == value.lower()


def _ordered(read: Callable[[str], object | None], relation: Relation) -> Compare:
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


def _must_be(kind: str, read: Callable[[str], object | None]) -> Callable[[str], object]:
    def check(text: str) -> object:
        if read(text) is None:
            raise PolicyError(f"'{shown(text)}' is not {kind}")
        return None

    return check


def _any_text(_: str) -> object:
    return None


def _arn_like(text: str) -> object:
    if _patterns.split_arn((text,)) is None:
        raise PolicyError(f"'{shown(text)}' is not an ARN with six parts (wildcards are allowed within a part)")
    return None


_EVERY_TYPE: Final = frozenset(ValueType)
_NUMBERS: Final = frozenset({ValueType.NUMBER, ValueType.DATE, ValueType.OPEN})
_DATES: Final = frozenset({ValueType.DATE, ValueType.OPEN})
_BOOLS: Final = frozenset({ValueType.BOOL, ValueType.OPEN})
_ARNS: Final = frozenset({ValueType.ARN, ValueType.OPEN})
_TEXTS: Final = frozenset({ValueType.STRING, ValueType.OPEN})
_ADDRESSES: Final = frozenset({ValueType.ADDRESS})

_RELATIONS: Final[dict[str, tuple[Relation, bool]]] = {
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


# How many values of a policy a reason lists.
_MOST_LISTED: Final = 3


@dataclass(frozen=True, slots=True)
class Clause:
    """One operator on one condition key. All clauses of a Condition must hold.

    Attributes:
        operator: the operator as written, with its modifiers.
        key: the condition key as written.
        values: the values of the policy, any of which may match.
        each: its set operator, if any.
        if_exists: whether the operator ends with IfExists.
    """

    operator: str
    key: str
    values: tuple[Pattern, ...]
    each: Each | None
    if_exists: bool

    def failure(self, context: Mapping[str, tuple[str, ...]], lookup: Lookup, *, deny: bool) -> str | None:
        """Return why the clause does not hold, or None if it does.

        Args:
            context: the values of the request by lower-case condition key.
            lookup: returns the value of a policy variable.
            deny: whether the statement denies. If AWS does not define a case, the stricter answer depends on it.

        Returns:
            The reason as part of a sentence, or None.
        """
        name = shown(self.key)
        given = context.get(self.key.lower(), ())
        if self.operator == "Null":
            wanted = {pattern.text.lower() for pattern in self.values}
            if ("false" if given else "true") in wanted:
                return None
            return f"{name} is present" if given else f"{name} is absent"
        if self.each is not None:
            # AWS treats an empty string as an empty set of values.
            given = tuple(value for value in given if value)
        if not given and self.each is not None:
            # ForAnyValue of nothing is false even with IfExists.
            return None if self.each is Each.ALL else f"{name} is absent"
        if not given and self.if_exists:
            return None
        rule = OPERATORS[_base(self.operator)]
        # A variable without a value matches nothing, so a negated operator holds.
        resolved = [pattern.resolve(lookup) for pattern in self.values]
        if not given:
            return None if rule.negated else f"{name} is absent"
        fits = [
            any(rule.compare(tokens, value) for tokens in resolved if tokens is not None) != rule.negated
            for value in given
        ]
        # Without a set operator a key has one value, except for encryption context keys that differ only in case. Then
        # every pair must match to allow, and any is enough to deny.
        need_all = self.each is Each.ALL or (self.each is None and not deny)
        if all(fits) if need_all else any(fits):
            return None
        # The values of the policy only: the caller knows those of the request, and may keep them out of a log.
        return f"{name} does not satisfy {self.operator} {self._wanted()}"

    def _wanted(self) -> str:
        texts = ", ".join(f"'{shown(pattern.text)}'" for pattern in self.values[:_MOST_LISTED])
        more = len(self.values) - _MOST_LISTED
        return f"{texts} and {more} more" if more > 0 else texts


def _base(written: str) -> str:
    for each in Each:
        written = written.removeprefix(each.value)
    return written.removesuffix("IfExists")


def parse(written: str, key: str, texts: Sequence[str], *, variables: bool, foreign: bool) -> Clause:
    """Parse one operator with one of its condition keys.

    Args:
        written: the operator with its modifiers.
        key: the condition key.
        texts: the values.
        variables: whether this version of the language has policy variables.
        foreign: whether the statement cannot apply to KMS, so that condition keys of other services are accepted.

    Raises:
        PolicyError: an unknown operator or key, or a value that the operator can never match.
    """
    each = next((modifier for modifier in Each if written.startswith(modifier.value)), None)
    if_exists = written.endswith("IfExists")
    base = _base(written)
    known = _keys.find(key)
    if known is None:
        if not foreign:
            raise PolicyError(f"'{shown(key)}' is not a condition key of KMS requests")
        known = _keys.ConditionKey(key, ValueType.OPEN, many=each is not None)
    if written == "Null":
        for text in texts:
            _must_be("true or false", _values.boolean)(text)
        return Clause(written, key, tuple(Pattern(text, ()) for text in texts), None, False)
    rule = OPERATORS.get(base)
    if rule is None:
        raise PolicyError(f"'{shown(written)}' is not a condition operator")
    if known.type not in rule.types:
        raise PolicyError(f"{written} cannot be used with {shown(key)}, whose value is {known.type.value}")
    if known.many and each is None:
        raise PolicyError(f"{shown(key)} can have many values; write ForAllValues:{written} or ForAnyValue:{written}")
    patterns = []
    for text in texts:
        pattern = _patterns.parse(text, wildcards=rule.wildcards, variables=variables and rule.variables)
        if not pattern.has_variables:
            rule.check(text)
        patterns.append(pattern)
    return Clause(written, key, tuple(patterns), each, if_exists)
