"""Whom a key policy lets in whom it does not name: anybody, an account as a whole, a service that works for anybody.

An outsider is somebody of whom little is known. Each part of a condition either holds for every one of them, or for
none, or it depends on what they choose: a name, a tag, an encryption context. A statement lets outsiders in where no
part of its condition fails for all of them, and where no denial holds for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sealwax.audit._access import covers, metadata_of, says
from sealwax.audit._facts import KeyFacts
from sealwax.policy import CROSS_ACCOUNT, Policy, Principal, Request, Statement, _values, principal
from sealwax.policy._bounds import OF_KEY
from sealwax.policy._conditions import Clause, Each
from sealwax.policy._documents import Principals
from sealwax.policy._explain import KeyAsSeen
from sealwax.policy._patterns import Template, Variable, Wild

if TYPE_CHECKING:
    from sealwax.audit._account import Account

# These say who asks. What is sent with a request, an encryption context say, does not, and neither does a user's name:
# any account can have one of it.
_NARROWING: Final = frozenset(
    name.lower()
    for name in (
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:ChatbotSourceArn",
        "aws:Ec2InstanceSourceVpc",
        "aws:FederatedProvider",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:SourceOrgID",
        "aws:SourceOrgPaths",
        "aws:SourceVpc",
        "aws:SourceVpcArn",
        "aws:SourceVpce",
        "aws:SourceIp",
        "aws:VpceAccount",
        "aws:VpceOrgID",
        "aws:VpceOrgPaths",
        "aws:VpcSourceIp",
        "aws:UserId",
        "ec2:SourceInstanceArn",
        "kms:CallerAccount",
        "lambda:SourceFunctionArn",
    )
)
# A service that calls has none of these.
_OF_PEOPLE: Final = (
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:userid",
    "aws:username",
    "aws:principaltype",
    "kms:calleraccount",
)
# Whoever is no service has these.
_ALWAYS: Final = ("aws:principalarn", "aws:principalaccount", "kms:calleraccount")
# Part of such an id names those of accounts all over the world.
_WHOLE: Final = (
    "aws:ec2instancesourcevpc",
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:vpceaccount",
    "aws:vpceorgid",
    "kms:calleraccount",
)
_WHOLE_TO_A_SIGN: Final = {
    "aws:principalorgpaths": "/",
    "aws:sourceorgpaths": "/",
    "aws:vpceorgpaths": "/",
    "aws:userid": ":",
}
# A range that is larger than any one holder's.
_LEAST_BITS: Final = {4: 8, 6: 16}

_RESOURCE: Final = "resource"  # what belongs to the key itself
_CONTEXT: Final = "kms:encryptioncontext:"

# What is the same for everybody: it is of the key, of the time, or of every call.
_SETTLED: Final = OF_KEY | {
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalisawsservice",
    "aws:principalservicename",
    "aws:principalservicenameslist",
    "aws:requestedregion",
    "aws:resourceaccount",
    "aws:securetransport",
}
#: Whoever is let in by these is of an organization whose members one knows.
OF_ORGANIZATION: Final = ("aws:principalorgid", "aws:principalorgpaths")
_TYPES: Final = ("Account", "User", "AssumedRole", "FederatedUser")
# Whoever likes can sign in there, or make an account with users there.
_WORLDWIDE: Final = frozenset(
    ("*", "accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com")
)
_NOBODY: Final = "000000000000"  # no account has this number


@dataclass(frozen=True, slots=True)
class Outsider:
    """Somebody whom a policy does not name.

    Attributes:
        account: the account that it is of; None for one that nobody named.
        arn: its ARN, where one of that account is named.
        service: the name of the service that it is, working for an account that nobody named.
    """

    account: str | None = None
    arn: str | None = None
    service: str | None = None


ANYBODY: Final = Outsider()


def lets_in(account: Account, key: KeyFacts, policy: Policy, statement: Statement, who: Outsider) -> tuple[str, ...]:
    """Return what an Allow statement lets an outsider do, whom its Principal is about, in spite of all denials.

    Returns:
        the actions, in order.
    """
    principals = statement.principals
    if statement.effect != "Allow" or principals is None or not _is_about(principals, who):
        return ()
    if not covers(statement, key.arn) or any(meets(account, key, one, who) is False for one in statement.clauses):
        return ()
    # Who gets in for having signed in somewhere is denied by what is about everybody who did.
    signed_in = frozenset() if principals.everyone else principals.providers
    denials = [one for one in policy.statements if one.effect == "Deny" and _denies(account, key, one, who, signed_in)]
    # One can call a key of another account for some actions only; services are of none.
    return tuple(
        action
        for action in sorted(CROSS_ACCOUNT)
        if says(statement, action) and not any(says(one, action) for one in denials)
    )


def worldwide(principals: Principals) -> str | None:
    """Return whom a Principal is about where it is about the world; None where it is not."""
    if principals.negated:
        return None
    if principals.everyone:
        return "everybody"
    named = sorted(principals.providers & _WORLDWIDE)
    if "*" in named:
        return "everybody whom any identity provider knows"
    return f"everybody whom {named[0]} knows" if named else None


def narrows(clause: Clause) -> bool:
    """Whether a part of a condition keeps most of the world out, whatever the key."""
    return _fits(clause, ANYBODY, None) is False


def callers(clause: Clause, own: str) -> frozenset[str] | None:
    """Return the accounts that a part of a condition keeps callers to; None where it does not say.

    Args:
        own: the account of the key.
    """
    name = clause.key.lower()
    if name not in _ALWAYS or not narrows(clause):
        return None
    return frozenset(own if one == _RESOURCE else one for one in map(_account, _holders(clause)))


def names_its_holder(name: str, value: Template) -> bool:
    """Whether a value, with whatever its wildcards stand for, is of one account or one bucket.

    Args:
        name: the name of a pair of an encryption context.
    """
    text = _worst(value)
    return name.startswith("aws:") and text.startswith("arn:") and not _is_open("aws:sourcearn", text)


def meets(account: Account, key: KeyFacts, clause: Clause, who: Outsider) -> bool | None:
    """Whether a part of a condition holds for an outsider: for all of them, for none, or (None) as they choose."""
    name = clause.key.lower()
    if name in _NARROWING or name in _OF_PEOPLE:
        return _of_people(clause, who, key)
    if name.startswith(_CONTEXT) and who.service is not None:
        return _of_context(account, clause, name.removeprefix(_CONTEXT))
    if ":" in name and name.rpartition(":")[0] in _WORLDWIDE:
        return False if _is_positive(clause) and not any(_is_open(name, _worst(one)) for one in clause.values) else None
    settled = name in _SETTLED or (name.startswith("aws:resourcetag/") and key.tags is not None)
    settled = settled or (name == "kms:resourcealiases" and account.facts.aliases is not None)
    if name == "aws:principalservicenameslist" and who.service is not None:
        settled = False  # which names a service has besides, is not known
    if not settled or any(one.has_variables for one in clause.values):
        return None
    request = _request(account, key, who)
    return clause.failure(request.values, request.lookup, deny=False) is None


def _of_people(clause: Clause, who: Outsider, key: KeyFacts) -> bool | None:
    name = clause.key.lower()
    absent = name in _OF_PEOPLE and who.service is not None
    always = name in _ALWAYS and who.service is None
    if clause.operator == "Null":
        wanted = {one.text.lower() for one in clause.values}
        if not absent and not always:
            return None if len(wanted) == 1 else True
        return ("true" if absent else "false") in wanted
    if absent:
        return clause.failure({}, _nothing, deny=False) is None
    if name == "aws:principaltype":
        held = {clause.failure({name: (one,)}, _nothing, deny=False) is None for one in _TYPES}
        return held.pop() if len(held) == 1 else None
    if name not in _NARROWING:
        return None
    fits = _fits(clause, who, key)
    if "Not" not in clause.operator:
        # Without the key, one of these holds for who can do without it.
        spared = clause.each is Each.ALL or clause.if_exists
        return None if spared and not always and fits is False else fits
    if fits is None:
        return None
    if fits is False and clause.each is Each.ANY and not always:
        return None  # nothing is none of these
    return not fits


def _fits(clause: Clause, who: Outsider, key: KeyFacts | None) -> bool | None:
    """Whether the values of a part of a condition are an outsider's: all of them, none, or as it chooses."""
    name = clause.key.lower()
    if name not in _NARROWING or clause.operator == "Null":
        return None
    if key is None and (
        "Not" in clause.operator or clause.each is Each.ALL or (clause.if_exists and name not in _ALWAYS)
    ):
        return None
    if name == "aws:principalarn" and who.arn is not None and not any(one.has_variables for one in clause.values):
        shown = _principal(who)
        if shown is not None:
            plain = replace(clause, operator=clause.operator.replace("Not", ""))
            return plain.failure({name: (shown.role or shown.arn,)}, _nothing, deny=False) is None
    if any(_is_open(name, _worst(one)) for one in clause.values):
        return None
    if who.account is None or name in OF_ORGANIZATION:
        return False
    if name not in _ALWAYS:
        return None  # somebody of a known account may well be there
    own = "" if key is None else key.account
    named = [one for one in _holders(clause) if who.account == (own if _account(one) == _RESOURCE else _account(one))]
    if name != "aws:principalarn":
        return bool(named)
    return None if named else False


def _of_context(account: Account, clause: Clause, name: str) -> bool | None:
    """Whether a service that works for others can have such a context: services write the owner into theirs."""
    if not _is_positive(clause):
        return None
    own = {account.facts.account, *account.facts.trusted_accounts}
    for one in clause.values:
        text = _worst(one)
        if text in own or names_its_holder(name, one):
            continue
        if name.startswith("aws:") and not _is_wild(text):
            continue  # it names one resource
        return None
    return False


def _is_positive(clause: Clause) -> bool:
    return (
        "Not" not in clause.operator
        and clause.operator != "Null"
        and not clause.if_exists
        and clause.each is not Each.ALL
    )


def _is_about(principals: Principals, who: Outsider) -> bool:
    if who.service is not None:
        return who.service in principals.services or (principals.everyone and not principals.negated)
    if principals.negated:
        return who.account is None or who.account not in principals.accounts
    if principals.everyone or principals.providers & _WORLDWIDE:
        return True
    if who.account is None:
        return False
    named = (*principals.accounts, *(_account(one) for one in (*principals.names, *principals.providers)))
    return who.account in named if who.arn is None else who.arn in principals.names


def _denies(account: Account, key: KeyFacts, statement: Statement, who: Outsider, signed_in: frozenset[str]) -> bool:
    """Whether a denial is about every one of these outsiders."""
    principals = statement.principals
    if principals is None or not covers(statement, key.arn):
        return False
    if who.service is not None:
        about = principals.everyone or who.service in principals.services
        about = (who.service not in principals.services) if principals.negated else about
    elif principals.negated:
        about = who.account not in principals.accounts
    else:
        about = principals.everyone or who.account in principals.accounts or who.arn in principals.names
        about = about or bool(signed_in and ("*" in principals.providers or signed_in <= principals.providers))
    return about and all(meets(account, key, one, who) is True for one in statement.clauses)


def _request(account: Account, key: KeyFacts, who: Outsider) -> Request:
    aliases = account.aliases_of(key)
    seen = KeyAsSeen(key.arn, Policy("", None, "", ()), (), metadata_of(key), aliases or (), key.tags or {})
    caller = _principal(who) or principal(f"arn:{key.partition}:iam::{who.account or _NOBODY}:role/outsider")
    return Request("kms:Decrypt", caller, key.arn, account.facts.time, context=seen.conditions())


def _principal(who: Outsider) -> Principal | None:
    name = who.service or who.arn
    try:
        return None if name is None else principal(name)
    except ValueError:
        return None


def _nothing(_: str) -> None:
    return None


def _holders(clause: Clause) -> Sequence[str]:
    return [_worst(one) for one in clause.values]


def _account(text: str) -> str:
    return text.split(":")[4] if text.count(":") >= 5 else text


def _worst(value: Template) -> str:
    """Return a value with * for what the caller brings along: who compares it with itself always finds it the same."""

    def shown(part: str | Wild | Variable) -> str:
        if isinstance(part, Variable):
            return _RESOURCE if part.name.startswith("aws:resource") else "*"
        return part.value if isinstance(part, Wild) else part

    return "".join(map(shown, value.parts))


def _is_open(name: str, value: str) -> bool:
    if not value.strip("*?"):
        return True
    if name in _WHOLE:
        return _is_wild(value)
    if name in _WHOLE_TO_A_SIGN:
        return _is_wild(value.partition(_WHOLE_TO_A_SIGN[name])[0])
    if name in ("aws:sourceip", "aws:vpcsourceip"):
        network = _values.network(value)
        return network is None or network.prefixlen < _LEAST_BITS[network.version]
    if name not in _NARROWING:
        return _is_wild(value)
    fields = value.split(":", 5)
    if len(fields) < 6 or _is_wild(fields[4]):
        return True  # any account
    # Buckets have no account in their names.
    return not fields[4] and _is_wild(fields[5].partition("/")[0])


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text
