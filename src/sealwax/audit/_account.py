"""An account as rules see it: its index, and who can do what with which key.

The evaluator answers for each principal, with the context that a matching statement's conditions ask for. Principals
and keys that no statement connects are skipped, and identical policies are evaluated once.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import Final

from sealwax.audit._access import AccessSolver, Allowed
from sealwax.audit._decryptions import DecryptionCalls, decryption_calls
from sealwax.audit._index import AccountIndex
from sealwax.audit._report import Access, Gap

DECRYPT: Final = "kms:Decrypt"
REENCRYPT_FROM: Final = "kms:ReEncryptFrom"
REENCRYPT_TO: Final = "kms:ReEncryptTo"
ENCRYPT: Final = ("kms:GenerateDataKey", "kms:Encrypt")
ADMINISTER: Final = ("kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:DisableKey")
CREATE_GRANT: Final = "kms:CreateGrant"
UPDATE_ALIAS: Final = "kms:UpdateAlias"
ACTIONS: Final = (DECRYPT, REENCRYPT_FROM, REENCRYPT_TO, *ENCRYPT, *ADMINISTER, CREATE_GRANT, UPDATE_ALIAS)

# How the access picture groups the actions.
_USES: Final = {
    "administer": ADMINISTER,
    "decrypt": (DECRYPT,),
    "encrypt": ENCRYPT,
    "grant": (CREATE_GRANT,),
}


class Account(AccountIndex):
    """An account's facts with the evaluator's answers about them."""

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """What the facts do not hold, and whatever in them cannot be evaluated."""
        unclear = {calls.caller: calls.why for calls in self.decryptions if calls.why}
        return (
            *super().gaps,
            *(
                Gap("its decryption calls", caller, "", f"whether they are allowed is unknown: {why}", refused=False)
                for caller, why in unclear.items()
            ),
        )

    @cached_property
    def decryptions(self) -> tuple[DecryptionCalls, ...]:
        """What was decrypted under which key, by whom, and whether they are allowed to."""
        return tuple(decryption_calls(self))

    @cached_property
    def allowed(self) -> tuple[Allowed, ...]:
        """Who can do which of the ``ACTIONS`` on which of the account's own keys, as far as the facts show."""
        return tuple(allowed for action in ACTIONS for allowed in AccessSolver(self, action).solve())

    @cached_property
    def allowed_by_key(self) -> dict[str, list[Allowed]]:
        by_key: dict[str, list[Allowed]] = defaultdict(list)
        for allowed in self.allowed:
            by_key[allowed.key.arn].append(allowed)
        return by_key

    @cached_property
    def allowed_by_principal(self) -> dict[str, list[Allowed]]:
        by_principal: dict[str, list[Allowed]] = defaultdict(list)
        for allowed in self.allowed:
            by_principal[allowed.principal].append(allowed)
        return by_principal

    def access(self) -> tuple[Access, ...]:
        """Return who can use which key."""
        uses: dict[tuple[str, str], set[str]] = defaultdict(set)
        reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for allowed in self.allowed:
            for use, actions in _USES.items():
                if allowed.action in actions:
                    pair = (allowed.key.arn, allowed.principal)
                    uses[pair].add(use)
                    reason = allowed.decision.reason.removesuffix(f" {allowed.action}").removesuffix(" allows")
                    reasons[pair][reason.removesuffix(" allow")] = None
        return tuple(
            Access(*pair, tuple(use for use in _USES if use in uses[pair]), tuple(reasons[pair]))
            for pair in sorted(uses)
        )
