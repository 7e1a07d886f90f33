"""Decides by the caller's allow-list which wrapped keys are sent to KMS, under which KeyId, and in which order.

=================  =============================================================  =============  ================
entry              wrapped keys that are tried                                    KeyId sent     asked in
=================  =============================================================  =============  ================
key ARN            under that ARN                                                 the entry      the ARN's Region
key ID             under that id in the session's Region                          the entry      the session's
alias ARN          of its account and Region                                      the entry      the ARN's Region
alias              of the session's Region                                        the entry      the session's
KeyScope           of its account and Region                                      the key's ARN  the scope's
=================  =============================================================  =============  ================

Each entry also covers data keys wrapped by a related multi-Region key: one of another Region with the same partition,
account and ID. The call still goes to the entry's own Region, and KMS must answer with the ARN of the key there.

Some formats do not say which key wrapped a data key (``UnnamedKey``). Each entry that names a key makes one attempt
with it as KeyId, and KMS must answer for that key. A scope makes none: it would have to guess the key.

A wrapped key that no entry covers is never sent anywhere. The file's own claim is used as KeyId under a scope only,
which is the caller's word for "any key there".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sealwax._core.keyring import PROVIDER_AWS_KMS, UnnamedKey, WrappedKey
from sealwax._text import printable
from sealwax.errors import WrongKeyError
from sealwax.kms._names import KeyName, KeyScope, check_answered, parse_arn

Entry = KeyName | KeyScope

_LAST: Final = 2  # after an alias with the wrapped key at its own position, and with the others


@dataclass(frozen=True, slots=True)
class Attempt:
    """A possible call: send ``wrapped_key`` to ``region`` under ``key_id``; KMS must answer for ``expected_arn``.

    Attributes:
        guess: the entry, if the wrapped key does not say which key it is under; ``expected_arn`` is then empty.
    """

    wrapped_key: WrappedKey
    key_id: str
    region: str
    expected_arn: str
    by_alias: bool
    guess: KeyName | None = None

    @property
    def related(self) -> bool:
        """Whether it uses a related multi-Region key, in another Region than the wrapped key's own."""
        return self.expected_arn != self.wrapped_key.key_arn

    @property
    def shown_key(self) -> str:
        """The wrapped key's own claim, or the key that is tried."""
        return self.wrapped_key.key_arn or self.key_id

    def check(self, answered: str) -> None:
        """Refuse an answer of KMS for another key.

        Raises:
            WrongKeyError: it is for another key.
        """
        if self.guess is not None:
            check_answered(answered, self.guess, self.region)
        elif answered != self.expected_arn:
            raise WrongKeyError(
                f"KMS answered for key '{printable(answered[:200])}' instead of '{printable(self.expected_arn)}': the "
                "data names a key that did not wrap its data key",
                key=self.expected_arn,
            )


def attempts(
    entries: Sequence[Entry], wrapped_keys: Sequence[WrappedKey], default_region: Callable[[], str]
) -> list[Attempt]:
    """Return the attempts, likely ones first, otherwise in the order of the allow-list.

    An entry that names a key makes one attempt per wrapped key of that key. Only KMS knows which wrapped key an alias
    means: each alias is tried with the wrapped key at its own position first, because a keyring of several aliases
    stores them in its order, and then with the others. Attempts with a related key, or in a second Region with the same
    wrapped key, come last, so that they do not use up the attempts that others need.

    Args:
        default_region: called only if an entry names no Region; may raise ConfigurationError.
    """
    claims = [
        (wrapped_key, name)
        for wrapped_key in wrapped_keys
        if wrapped_key.provider == PROVIDER_AWS_KMS and (name := parse_arn(wrapped_key.key_arn)) is not None
    ]
    possible = [
        (position, at, isinstance(entry, KeyScope), attempt)
        for position, entry in enumerate(entries)
        for at, (wrapped_key, name) in enumerate(claims)
        if (attempt := _attempt(entry, wrapped_key, name, default_region)) is not None
    ]
    named: set[tuple[str, str]] = set()
    tried: set[str] = set()
    ranked: list[tuple[int, int, int, Attempt]] = []
    for position, at, by_scope, attempt in sorted(possible, key=lambda candidate: candidate[3].by_alias):
        arn, region = attempt.wrapped_key.key_arn, attempt.region
        if not attempt.by_alias:
            rank = _LAST if arn in tried or (by_scope and attempt.related) else 0
            if rank == 0:
                tried.add(arn)
            named.add((arn, region))
        elif (arn, region) in named:
            continue  # an alias may have been moved: if an entry names the key itself, no alias is tried
        else:
            rank = (_LAST if arn in tried or attempt.related else 0) + (at != position)
        ranked.append((rank, position, at, attempt))
    # No call is made twice. A message of another format may have several wrapped keys under one key.
    plan: dict[tuple[str, str, str, bytes], Attempt] = {}
    for *_, attempt in sorted(ranked, key=lambda candidate: candidate[:3]):
        key, alias = attempt.wrapped_key, attempt.key_id if attempt.by_alias else ""
        plan.setdefault((key.key_arn, attempt.region, alias, key.ciphertext), attempt)
    unnamed = [wrapped_key for wrapped_key in wrapped_keys if isinstance(wrapped_key, UnnamedKey)]
    return [*plan.values(), *_guesses(entries, unnamed, default_region)]


def _guesses(
    entries: Sequence[Entry], unnamed: Sequence[UnnamedKey], default_region: Callable[[], str]
) -> Iterator[Attempt]:
    for wrapped_key in unnamed:
        for entry in entries:
            if isinstance(entry, KeyName):
                region = entry.region or default_region()
                yield Attempt(wrapped_key, entry.text, region, "", entry.alias is not None, entry)


def _attempt(
    entry: Entry, wrapped_key: WrappedKey, claim: KeyName, default_region: Callable[[], str]
) -> Attempt | None:
    if entry.account is not None and (entry.partition, entry.account) != (claim.partition, claim.account):
        return None
    if isinstance(entry, KeyName) and entry.key_id not in (None, claim.key_id):
        return None
    region = entry.region or default_region()
    expected = claim.related(region)
    if expected is None:
        return None
    key_id, by_alias = (entry.text, entry.alias is not None) if isinstance(entry, KeyName) else (expected, False)
    return Attempt(wrapped_key, key_id, region, expected, by_alias)
