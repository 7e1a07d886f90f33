"""What a key policy allows outsiders: anyone, a whole account, or a service that works for any account.

Little is known about an outsider. Each clause of a condition holds for all of them, for none of them, or depends on
what they choose: a name, a tag, an encryption context. A statement lets outsiders in if no clause of its condition
fails for all of them and no Deny statement holds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sealwax.audit._facts import KeyFacts
from sealwax.audit._index import AccountIndex
from sealwax.audit._statements import covers, names_action, no_value
from sealwax.policy import CROSS_ACCOUNT, Policy, Principal, Request, Statement, _values, principal
from sealwax.policy._bounds import OF_KEY
from sealwax.policy._conditions import Clause, Each
from sealwax.policy._documents import PrincipalElement
from sealwax.policy._patterns import Pattern, Variable, Wild

#: What ``describe_public`` says of ``*``.
EVERYONE: Final = "everyone"
# These identify the caller. Whatever a caller sends along, such as an encryption context, does not; nor does a user
# name, which any account can give.
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
# Requests of AWS services have none of these.
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
# All other requests have these.
_ALWAYS: Final = ("aws:principalarn", "aws:principalaccount", "kms:calleraccount")
# A pattern over such an id matches accounts all over the world.
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
# Shorter prefixes cover more addresses than a single holder has.
_LEAST_BITS: Final = {4: 8, 6: 16}

_RESOURCE: Final = "resource"  # stands for the owner of the key
_CONTEXT: Final = "kms:encryptioncontext:"

# The same for every caller: values of the key, of the time, or of every call.
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
#: Conditions on these let in an organization, whose members its owner knows.
OF_ORGANIZATION: Final = ("aws:principalorgid", "aws:principalorgpaths")
_TYPES: Final = ("Account", "User", "AssumedRole", "FederatedUser")
# Anyone can sign in there, or create an account with users there.
_WORLDWIDE: Final = frozenset(
    ("*", "accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com")
)
_NOBODY: Final = "000000000000"  # no account has this number


@dataclass(frozen=True, slots=True)
class Outsider:
    """A caller that a policy does not name.

    Attributes:
        account: its account; None for an account that is not named either.
        arn: its ARN, if the policy names a principal of that account.
        service: the name of the service, if it is one that works for any account.
    """

    account: str | None = None
    arn: str | None = None
    service: str | None = None


ANYONE: Final = Outsider()


def actions_open_to(
    account: AccountIndex, key: KeyFacts, policy: Policy, statement: Statement, who: Outsider
) -> tuple[str, ...]:
    """Return the actions, in order, that an Allow statement gives an outsider despite the policy's Deny statements."""
    element = statement.principals
    if statement.effect != "Allow" or element is None or not _is_about(element, who):
        return ()
    if not covers(statement, key.arn) or any(meets(account, key, clause, who) is False for clause in statement.clauses):
        return ()
    # If an outsider gets in by signing in somewhere, a denial of everyone who signs in there is about it.
    signed_in = frozenset() if element.everyone else element.providers
    denials = [
        other for other in policy.statements if other.effect == "Deny" and _denies(account, key, other, who, signed_in)
    ]
    # Other accounts can use only these actions on a key. Services belong to no account.
    return tuple(
        action
        for action in sorted(CROSS_ACCOUNT)
        if names_action(statement, action) and not any(names_action(denial, action) for denial in denials)
    )


def describe_public(element: PrincipalElement) -> str | None:
    """Return whom a Principal element is about if it is open to the world, or None if it is not."""
    if element.negated:
        return None
    if element.everyone:
        return EVERYONE
    named = sorted(element.providers & _WORLDWIDE)
    if "*" in named:
        return "everyone signed in at any identity provider"
    return f"everyone signed in at {named[0]}" if named else None


def narrows(clause: Clause) -> bool:
    """Tell whether a clause keeps most of the world out, whatever the key."""
    return _fits(clause, ANYONE, None) is False


def caller_accounts(clause: Clause, own: str) -> frozenset[str] | None:
    """Return the accounts that a clause limits callers to, or None if it sets no such limit.

    Args:
        own: the account of the key.
    """
    if clause.key.lower() not in _ALWAYS or not narrows(clause):
        return None
    accounts = (_account_of(_widest(pattern)) for pattern in clause.values)
    return frozenset(own if account == _RESOURCE else account for account in accounts)


def names_one_owner(name: str, pattern: Pattern) -> bool:
    """Tell whether everything that matches a pattern belongs to one account or one bucket.

    Args:
        name: the name of a pair of an encryption context.
    """
    text = _widest(pattern)
    return name.startswith("aws:") and text.startswith("arn:") and not _is_open("aws:sourcearn", text)


def meets(account: AccountIndex, key: KeyFacts, clause: Clause, who: Outsider) -> bool | None:
    """Tell whether a clause holds for all such outsiders (True), for none (False), or as they choose (None)."""
    name = clause.key.lower()
    if name in _NARROWING or name in _OF_PEOPLE:
        return _of_people(clause, who, key)
    if name.startswith(_CONTEXT) and who.service is not None:
        return _of_context(account, clause, name.removeprefix(_CONTEXT))
    if ":" in name and name.rpartition(":")[0] in _WORLDWIDE:
        closed = _is_positive(clause) and not any(_is_open(name, _widest(pattern)) for pattern in clause.values)
        return False if closed else None
    settled = name in _SETTLED or (name.startswith("aws:resourcetag/") and key.tags is not None)
    settled = settled or (name == "kms:resourcealiases" and account.facts.aliases is not None)
    if name == "aws:principalservicenameslist" and who.service is not None:
        settled = False  # a service may have further names
    if not settled or any(pattern.has_variables for pattern in clause.values):
        return None
    caller = _principal(who) or principal(f"arn:{key.partition}:iam::{who.account or _NOBODY}:role/outsider")
    request = Request("kms:Decrypt", caller, key.arn, account.facts.time, context=account.conditions_of(key))
    return clause.failure(request.values, request.lookup, deny=False) is None


def _of_people(clause: Clause, who: Outsider, key: KeyFacts) -> bool | None:
    name = clause.key.lower()
    absent = name in _OF_PEOPLE and who.service is not None
    always = name in _ALWAYS and who.service is None
    if clause.operator == "Null":
        wanted = {pattern.text.lower() for pattern in clause.values}
        if not absent and not always:
            return None if len(wanted) == 1 else True
        return ("true" if absent else "false") in wanted
    if absent:
        return clause.failure({}, no_value, deny=False) is None
    if name == "aws:principaltype":
        outcomes = {clause.failure({name: (kind,)}, no_value, deny=False) is None for kind in _TYPES}
        return outcomes.pop() if len(outcomes) == 1 else None
    if name not in _NARROWING:
        return None
    fits = _fits(clause, who, key)
    if "Not" not in clause.operator:
        # These hold for a request without the condition key.
        optional = clause.each is Each.ALL or clause.if_exists
        return None if optional and not always and fits is False else fits
    if fits is None:
        return None
    if fits is False and clause.each is Each.ANY and not always:
        return None  # without a value, ForAnyValue is false
    return not fits


def _fits(clause: Clause, who: Outsider, key: KeyFacts | None) -> bool | None:
    """Tell whether a clause's values match all such outsiders (True), none (False), or as they choose (None)."""
    name = clause.key.lower()
    if name not in _NARROWING or clause.operator == "Null":
        return None
    if key is None and (
        "Not" in clause.operator or clause.each is Each.ALL or (clause.if_exists and name not in _ALWAYS)
    ):
        return None
    has_variables = any(pattern.has_variables for pattern in clause.values)
    if name == "aws:principalarn" and who.arn is not None and not has_variables:
        caller = _principal(who)
        if caller is not None:
            plain = replace(clause, operator=clause.operator.replace("Not", ""))
            return plain.failure({name: (caller.role or caller.arn,)}, no_value, deny=False) is None
    texts = [_widest(pattern) for pattern in clause.values]
    if any(_is_open(name, text) for text in texts):
        return None
    if who.account is None or name in OF_ORGANIZATION:
        return False
    if name not in _ALWAYS:
        return None  # a principal of a known account may well match
    own = "" if key is None else key.account
    accounts = [_account_of(text) for text in texts]
    named = any(who.account == (own if account == _RESOURCE else account) for account in accounts)
    if name != "aws:principalarn":
        return named
    return None if named else False


def _of_context(account: AccountIndex, clause: Clause, name: str) -> bool | None:
    """Tell whether a service that works for strangers can send such a context. Services name the owner in theirs."""
    if not _is_positive(clause):
        return None
    own = {account.facts.account, *account.facts.trusted_accounts}
    for pattern in clause.values:
        text = _widest(pattern)
        if text in own or names_one_owner(name, pattern):
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


def _is_about(element: PrincipalElement, who: Outsider) -> bool:
    if who.service is not None:
        return who.service in element.services or (element.everyone and not element.negated)
    if element.negated:
        return who.account is None or who.account not in element.accounts
    if element.everyone or element.providers & _WORLDWIDE:
        return True
    if who.account is None:
        return False
    if who.arn is not None:
        return who.arn in element.names
    return who.account in element.accounts or any(
        _account_of(name) == who.account for name in (*element.names, *element.providers)
    )


def _denies(
    account: AccountIndex, key: KeyFacts, statement: Statement, who: Outsider, signed_in: frozenset[str]
) -> bool:
    """Tell whether a Deny statement is about all of these outsiders."""
    element = statement.principals
    if element is None or not covers(statement, key.arn):
        return False
    if who.service is not None:
        about = element.everyone or who.service in element.services
        about = (who.service not in element.services) if element.negated else about
    elif element.negated:
        about = who.account not in element.accounts
    else:
        about = element.everyone or who.account in element.accounts or who.arn in element.names
        about = about or bool(signed_in and ("*" in element.providers or signed_in <= element.providers))
    return about and all(meets(account, key, clause, who) is True for clause in statement.clauses)


def _principal(who: Outsider) -> Principal | None:
    name = who.service or who.arn
    try:
        return None if name is None else principal(name)
    except ValueError:
        return None


def _account_of(text: str) -> str:
    return text.split(":")[4] if text.count(":") >= 5 else text


def _widest(pattern: Pattern) -> str:
    """Return a pattern with * for a variable that callers control: compared with their own value, it always matches."""

    def show(part: str | Wild | Variable) -> str:
        if isinstance(part, Variable):
            return _RESOURCE if part.name.startswith("aws:resource") else "*"
        return part.value if isinstance(part, Wild) else part

    return "".join(map(show, pattern.parts))


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
    # The ARN of a bucket names no account.
    return not fields[4] and _is_wild(fields[5].partition("/")[0])


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text
