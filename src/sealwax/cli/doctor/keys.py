"""The checks of one key: whether it exists, its state, and what the caller may do with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from sealwax import errors
from sealwax._aws.session import Clients
from sealwax.cli.doctor.lines import Line, State, failed
from sealwax.kms import _names, _rights
from sealwax.kms._metadata import Metadata

# What encrypting and decrypting under one key do not need.
_OPTIONAL: Final = {"extra keys": "to encrypt under several keys", "rewrap": "to rewrap and rotate"}
_POLICIES: Final = {"identity-based policy": "your IAM policy", "resource-based policy": "the key policy"}
_FIXES: Final = {
    "Disabled": "enable it with 'aws kms enable-key --key-id {key}', or use another key",
    "PendingDeletion": "cancel the deletion with 'aws kms cancel-key-deletion --key-id {key}' and 'aws kms "
    "enable-key', or use another key",
    "PendingReplicaDeletion": "cancel the deletion with 'aws kms cancel-key-deletion --key-id {key}', or use another "
    "key",
    "PendingImport": "import its key material with 'aws kms import-key-material', or use another key",
    "Unavailable": "connect its key store with 'aws kms connect-custom-key-store', or use another key",
}


def region_of(name: str) -> str | None:
    """Return the Region in a key's name; None if it has none, or names no key."""
    try:
        return _names.parse(name).region
    except errors.KmsError:
        return None


class Examination:
    """Looks at one key.

    Args:
        context: that of the dry runs.
        caller: the caller's ARN; "" if it is unknown.

    Attributes:
        region: its Region; "" if it is unknown.
        reached: whether KMS answered.
    """

    def __init__(self, name: str, clients: Clients, context: Mapping[str, str], caller: str) -> None:
        self._name = name
        self._context = context
        self._caller = caller
        self._checkup: _rights.KeyCheckup | errors.KmsError
        self.region = ""
        self.reached = False
        try:
            self._checkup = _rights.KeyCheckup(name, clients)
            self.region = self._checkup.region
        except errors.KmsError as error:
            self._checkup = error

    def lines(self) -> Iterator[Line]:
        if isinstance(self._checkup, errors.KmsError):
            yield self._unnamed(self._checkup)
            return
        try:
            metadata = self._checkup.metadata()
        except errors.AccessDeniedError as error:
            self.reached = True
            yield from self._undescribed(self._checkup, error)
            return
        except errors.KmsError as error:
            self.reached = not isinstance(error, errors.UnavailableError)
            yield self._unusable(error)
            return
        self.reached = True
        flaw = self._flaw(metadata)
        yield flaw or Line("ok", "key", f"{self._name}: {metadata.arn}, enabled", key=self._name)
        if flaw is None:
            for right in self._checkup.rights(self._context):
                yield self._right(right, metadata.arn)

    def _unnamed(self, error: errors.KmsError) -> Line:
        if error.key is None:
            return Line("not checked", "key", f"{self._name}: no AWS Region is set", key=self._name)
        why, _, meant = str(error).partition(" (did you mean ")
        fix = f"did you mean {meant.rstrip(')')}" if meant else "name it by its ID, its ARN, alias/NAME or an alias ARN"
        return Line("needs fixing", "key", why, fix, self._name)

    def _undescribed(self, checkup: _rights.KeyCheckup, denied: errors.AccessDeniedError) -> Iterator[Line]:
        """Check a key that the caller may not describe, which encrypting and decrypting do not need."""
        rights = list(checkup.rights(self._context))
        wrong = next((r.error for r in rights if r.error and not isinstance(r.error, errors.AccessDeniedError)), None)
        if wrong is not None:
            yield self._unusable(wrong)
            return
        detail = f"{self._name}: kms:DescribeKey is denied"
        arn = _rights.explain(denied).key_arn
        if all(right.error for right in rights):
            elsewhere = self._elsewhere(arn)
            fix = elsewhere or "check the name and the Region, then the lines below"
            why = f"{detail}, and so is everything else; the key may not exist"
            yield Line("needs fixing", "key", why, fix, self._name)
        else:
            yield Line("ok", "key", f"{detail}, but not needed: the key exists and is enabled", key=self._name)
        for right in rights:
            yield self._right(right, arn)

    def _elsewhere(self, arn: str) -> str:
        """Return what to do about a key of another account; "" for the caller's own."""
        key = _names.parse_arn(arn) or _names.parse(self._name)
        own = self._caller.split(":")[4] if self._caller.count(":") >= 5 else ""
        if not own or key.account in (None, own):
            return ""
        return (
            f"the key is in account {key.account}, and you are in account {own}: both the key policy and your IAM "
            "policy must allow it"
        )

    def _unusable(self, error: errors.KmsError) -> Line:
        line = failed("key", error, self._name)
        fix = line.fix
        if isinstance(error, errors.KeyNotFoundError):
            account = f" of account {self._caller.split(':')[4]}" if self._caller.count(":") >= 5 else ""
            name = _names.parse(self._name)
            where = f"{name.region or self.region}{account if name.account is None else f' of account {name.account}'}"
            fix = f"it was looked for in {where}; check the name, --region and --profile, or see: sealwax keys list"
        return Line("needs fixing", "key", line.detail, fix, self._name)

    def _flaw(self, key: Metadata) -> Line | None:
        """Return the line about a key that cannot be used by anybody; None if it can."""

        def line(why: str, fix: str) -> Line:
            return Line("needs fixing", "key", f"{self._name}: {key.arn} {why}", fix, self._name)

        if key.manager == "AWS":
            return line("is an AWS managed key, which only AWS services may use", "create a customer managed key")
        if key.spec != "SYMMETRIC_DEFAULT":
            return line(f"has the KeySpec {key.spec}", "use a symmetric encryption key (KeySpec SYMMETRIC_DEFAULT)")
        if key.state == "Enabled":
            return None
        until = "" if key.deletion is None else f", and will be deleted at {key.deletion:%Y-%m-%d %H:%M %Z}"
        fix = _FIXES.get(key.state, "wait until it is Enabled, or use another key").format(key=key.arn)
        return line(f"is in the state {key.state}{until}", fix)

    def _right(self, right: _rights.Right, arn: str) -> Line:
        actions = " and ".join(right.actions)
        if right.error is None:
            return Line(
                "ok",
                right.use,
                f"{self._name}: {actions} {'is' if len(right.actions) == 1 else 'are'} allowed",
                key=self._name,
            )
        purpose = _OPTIONAL.get(right.use)
        state: State = "optional" if purpose else "needs fixing"
        if not isinstance(right.error, errors.AccessDeniedError):
            return failed(right.use, right.error, self._name)
        denial = _rights.explain(right.error)
        why = f"{self._name}: {denial.action or actions} is denied"
        if purpose:
            why += f"; it is only needed {purpose}"
        return Line(state, right.use, why, self._remedy(right, denial, arn or denial.key_arn), self._name)

    def _remedy(self, right: _rights.Right, denial: _rights.Denial, arn: str) -> str:
        """Return what to change so that a denied request is allowed."""
        action = denial.action or right.actions[0]
        if denial.denying:
            policy = _POLICIES.get(denial.denying, f"the {denial.denying}")
            who = self._caller or "PRINCIPAL"
            return (
                f"a Deny statement in {policy} forbids it, and no Allow overrides that; "
                f"find it with: sealwax policy explain {who} {action} {arn or self._name}"
            )
        statement: dict[str, object] = {
            "Effect": "Allow",
            "Action": right.actions[0] if len(right.actions) == 1 else list(right.actions),
            "Resource": arn or f"the ARN of {self._name}",
        }
        policy = _POLICIES.get(denial.lacking, f"the {denial.lacking}" if denial.lacking else "your IAM policy")
        if denial.lacking == "resource-based policy":
            statement |= {"Principal": {"AWS": self._caller or "your ARN"}, "Resource": "*"}
        if self._context:
            pairs = {f"kms:EncryptionContext:{name}": value for name, value in self._context.items()}
            statement["Condition"] = {"StringEquals": pairs}
        unless = "" if self._context else "; if the policy requires an encryption context, give it with -c"
        both = f"; {elsewhere}" if (elsewhere := self._elsewhere(arn)) else ""
        return f"add to {policy}: {json.dumps(statement)}{unless}{both}"
