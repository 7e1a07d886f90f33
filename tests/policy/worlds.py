"""Generated keys with their policies and grants, principals with theirs, and what is asked: drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

Json = dict[str, Any]

HOME: Final = "111122223333"
ABROAD: Final = "444455556666"


@dataclass(frozen=True)
class Person:
    """A principal. ``arn`` is what it signs as, ``behind`` what policies are attached to (None for a root user)."""

    arn: str
    account: str
    kind: str
    name: str
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def behind(self) -> str | None:
        return None if self.kind == "root" else f"arn:aws:iam::{self.account}:{self.kind}/{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for one in (self.arn, self.behind) if one))


def _user(account: str, name: str, *tags: tuple[str, str]) -> Person:
    return Person(f"arn:aws:iam::{account}:user/{name}", account, "user", name, tags)


def _session(account: str, role: str, *tags: tuple[str, str]) -> Person:
    return Person(f"arn:aws:sts::{account}:assumed-role/{role}/s1", account, "role", role, tags)


PEOPLE: Final = (
    _user(HOME, "alice", ("team", "blue")),
    _user(HOME, "bob"),
    _session(HOME, "app", ("team", "red")),
    Person(f"arn:aws:iam::{HOME}:root", HOME, "root", "root"),
    _user(ABROAD, "carol"),
    _session(ABROAD, "partner"),
)
TAGS: Final = {"stage": "live"}
CONTEXTS: Final[tuple[Mapping[str, str], ...]] = (
    {},
    {"purpose": "backup"},
    {"purpose": "log"},
    {"Purpose": "backup"},
    {"purpose": "backup", "id": "7"},
    {"id": "7"},
    {"purpose": "Backup", "id": "*"},
    {"purpose": "backup", "PURPOSE": "log"},
    {"purpose": "alice"},
    {"purpose": "*"},
)
ACTIONS: Final = ("Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey", "GetKeyPolicy")
ALONG_ABROAD: Final = frozenset({"Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey"})


@dataclass(frozen=True)
class World:
    """A key policy, the identity policies of each person, and grants as ListGrants shows them."""

    key_policy: Json
    identity: Mapping[Person, list[Json]]
    grants: list[Json]


def world(seed: int, key: str) -> World:
    """Draw a world about a key."""
    random = Random(seed)
    draw = _Draw(random, key)
    statements = [draw.statement(of_key=True) for _ in range(random.randint(1, 4))]
    if random.random() < 0.4:
        statements.append(
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HOME}:root"}, "Action": "kms:*", "Resource": "*"}
        )
    identity = {
        person: [
            {"Version": "2012-10-17", "Statement": [draw.statement(of_key=False) for _ in range(random.randint(1, 3))]}
            for _ in range(random.choice((0, 1, 1, 2)))
        ]
        for person in PEOPLE
        if person.kind != "root"
    }
    grants = [draw.grant(number) for number in range(random.choice((0, 0, 1, 2, 3)))]
    return World({"Version": "2012-10-17", "Statement": statements}, identity, grants)


def questions(seed: int, number: int) -> Iterator[tuple[Person, str, Mapping[str, str]]]:
    """Draw what is asked in a world."""
    random = Random(-1 - seed)
    for _ in range(number):
        action = random.choices(ACTIONS, (5, 2, 3, 1, 1))[0]
        # The API takes no context for these.
        context: Mapping[str, str] = {} if action in ("DescribeKey", "GetKeyPolicy") else random.choice(CONTEXTS)
        yield random.choice(PEOPLE), action, context


class _Draw:
    def __init__(self, random: Random, key: str) -> None:
        self._random = random
        self._key = key

    def _some(self, pool: tuple[Any, ...], most: int = 2) -> Any:
        found = self._random.sample(pool, self._random.randint(1, most))
        return found[0] if len(found) == 1 else found

    def statement(self, *, of_key: bool) -> Json:
        random = self._random
        found: Json = {"Effect": random.choices(("Allow", "Deny"), (5, 1))[0]}
        if of_key:
            found |= self._principal(found["Effect"])
        names = (
            "kms:*",
            "kms:Decrypt",
            "KMS:decrypt",
            "kms:Enc*",
            "kms:GenerateDataKey*",
            "kms:De*",
            "*",
            "kms:?ecrypt",
        )
        found["NotAction" if random.random() < 0.1 else "Action"] = self._some(names)
        beginning = self._key.rpartition("/")[0]
        here: tuple[str, ...] = ("*", "*", self._key, beginning + "/*", beginning + "/other", "arn:aws:kms:*:*:key/*")
        found["NotResource" if random.random() < 0.07 else "Resource"] = self._some(here)
        if random.random() < 0.55:
            found["Condition"] = {}
            for _ in range(random.choice((1, 1, 2))):
                operator, name, values = self._condition()
                tests = found["Condition"].setdefault(operator, {})
                if name.lower() not in {one.lower() for one in tests}:
                    tests[name] = values
        return found

    def _principal(self, effect: str) -> Json:
        random = self._random
        everyone: tuple[str, ...] = tuple(name for person in PEOPLE for name in person.names)
        if effect == "Deny" and random.random() < 0.15:
            return {"NotPrincipal": {"AWS": self._some(everyone, 3)}}
        if random.random() < 0.1:
            return {"Principal": random.choice(("*", {"AWS": "*"}))}
        accounts = (HOME, f"arn:aws:iam::{ABROAD}:root", f"arn:aws:iam::{HOME}:root")
        return {"Principal": {"AWS": self._some(everyone + accounts, 3)}}

    def _condition(self) -> tuple[str, str, Any]:
        random = self._random
        texts = (
            "backup",
            "log",
            "b*",
            "?og",
            "*",
            "blue",
            "live",
            "Backup",
            "${aws:username}",
            "${aws:PrincipalTag/team}",
        )
        names = ("kms:EncryptionContext:purpose", "kms:encryptioncontext:Purpose", "kms:EncryptionContext:id")
        plain = ("Equals", "Equals", "NotEquals", "Like", "NotLike", "EqualsIgnoreCase")
        kind = random.randrange(10)
        if kind < 5:
            operator = "String" + random.choice(plain) + random.choice(("", "", "IfExists"))
            return operator, random.choice(names), self._some((*texts, "7"))
        if kind == 5:
            name = random.choice(("kms:EncryptionContext:id", "kms:EncryptionContextKeys", "kms:ViaService"))
            return "Null", name, random.choice(("true", "false"))
        if kind == 6:
            each = random.choice(("ForAllValues:", "ForAnyValue:")) + random.choice(("StringEquals", "StringLike"))
            return each, "kms:EncryptionContextKeys", self._some(("purpose", "id", "p*", "Purpose"))
        if kind == 7:
            pool = (f"arn:aws:iam::{HOME}:*", "arn:aws:iam::*:role/*", *(p.behind or p.arn for p in PEOPLE))
            return "ArnLike", "aws:PrincipalArn", self._some(pool)
        if kind == 8:
            name = random.choice(("aws:PrincipalTag/team", "aws:ResourceTag/stage", "kms:CallerAccount", "kms:KeySpec"))
            return "String" + random.choice(plain), name, self._some((*texts, "red", HOME, ABROAD, "SYMMETRIC_DEFAULT"))
        return "Bool", random.choice(("aws:SecureTransport", "kms:MultiRegion")), random.choice(("true", "false"))

    def grant(self, number: int) -> Json:
        random = self._random
        pool = tuple(name for person in PEOPLE for name in person.names)
        found: Json = {
            "GrantId": f"{number:064x}",
            "GranteePrincipal": random.choice(pool),
            "Operations": random.sample(sorted(ALONG_ABROAD), random.randint(1, 3)),
            "IssuingAccount": f"arn:aws:iam::{HOME}:root",
        }
        if random.random() < 0.6:
            kind = random.choice(("EncryptionContextSubset", "EncryptionContextEquals"))
            pairs = random.choice([one for one in CONTEXTS if one and len({n.lower() for n in one}) == len(one)])
            found["Constraints"] = {kind: dict(pairs)}
        return found
