"""Which wrapped keys may be sent to KMS, under which KeyId, in which order: the caller's allow-list decides.

====================  =====================================================  ==================  ===================
entry                 wrapped keys that are tried                            KeyId sent          KeyId expected back
====================  =====================================================  ==================  ===================
key ARN               under that ARN                                         the entry           the entry
key ARN, multi-Region also under a replica: partition, account, id are equal the entry           the entry
key ID                under that id in the session's Region                  the entry           the wrapped key's
alias ARN             of its account and Region                              the entry           the wrapped key's
alias                 of the session's Region                                the entry           the wrapped key's
:class:`KeyScope`     of its account and Region                              the wrapped key's   the wrapped key's
====================  =====================================================  ==================  ===================

A wrapped key that no entry covers is never sent anywhere. The file's own claim is used as KeyId under a scope only,
which is the caller's word for "any key there".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sealwax.keyring import PROVIDER_AWS_KMS, WrappedKey
from sealwax.kms.names import KeyName, KeyScope, parse_arn

Entry = KeyName | KeyScope


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to make: ``wrapped_key`` goes to ``region`` under ``key_id``; KMS must answer for ``expected_arn``."""

    wrapped_key: WrappedKey
    key_id: str
    region: str
    expected_arn: str
    by_alias: bool


def attempts(
    entries: Sequence[Entry], wrapped_keys: Sequence[WrappedKey], default_region: Callable[[], str]
) -> list[Attempt]:
    """Return the attempts in the order of the allow-list.

    An entry that means a key itself makes the one attempt for its wrapped key. Which wrapped key an alias means, KMS
    alone knows: each alias is tried first with the wrapped key at its own place, since a keyring of several aliases
    stores them in its order, and with the others last.

    Args:
        default_region: called only where an entry names no Region; may raise ConfigurationError.
    """
    claims = [
        (wrapped_key, name)
        for wrapped_key in wrapped_keys
        if wrapped_key.provider == PROVIDER_AWS_KMS and (name := parse_arn(wrapped_key.key_arn)) is not None
    ]
    certain: dict[str, Attempt] = {}
    likely: list[Attempt] = []
    last: list[Attempt] = []
    for place, entry in enumerate(entries):
        for at, (wrapped_key, name) in enumerate(claims):
            attempt = _attempt(entry, wrapped_key, name, default_region)
            if attempt is None:
                continue
            if attempt.by_alias:
                (likely if at == place else last).append(attempt)
            elif wrapped_key.key_arn not in certain:
                certain[wrapped_key.key_arn] = attempt
                likely.append(attempt)
    # An alias may have been moved, so where an entry means the key itself, no alias is tried. No call is made twice.
    plan: dict[tuple[str, str], Attempt] = {}
    for attempt in likely + last:
        if not (attempt.by_alias and attempt.wrapped_key.key_arn in certain):
            plan.setdefault((attempt.key_id, attempt.wrapped_key.key_arn), attempt)
    return list(plan.values())


def _attempt(
    entry: Entry, wrapped_key: WrappedKey, claim: KeyName, default_region: Callable[[], str]
) -> Attempt | None:
    arn = claim.text
    assert claim.region is not None  # every key ARN has one
    if isinstance(entry, KeyScope):
        if (entry.partition, entry.account, entry.region) == (claim.partition, claim.account, claim.region):
            return Attempt(wrapped_key, arn, claim.region, arn, by_alias=False)
        return None
    if entry.account is not None and (entry.partition, entry.account) != (claim.partition, claim.account):
        return None
    if entry.key_id is not None and entry.key_id != claim.key_id:
        return None
    region = entry.region or default_region()
    if region == claim.region:
        return Attempt(wrapped_key, entry.text, region, arn, by_alias=entry.alias is not None)
    if entry.multi_region:
        replica = f"arn:{claim.partition}:kms:{region}:{claim.account}:key/{claim.key_id}"
        return Attempt(wrapped_key, entry.text, region, replica, by_alias=False)
    return None
