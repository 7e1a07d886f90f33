"""The lab as a program uses it: a folder, opened."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealwax import policy
from sealwax.errors import LabError
from sealwax.lab import _rootkey
from sealwax.lab._apierror import ApiError
from sealwax.lab._cloudtrail import CloudTrail
from sealwax.lab._database import STATE_FILE, Database, private_folder
from sealwax.lab._engine import Engine
from sealwax.lab._faults import Faults
from sealwax.lab._gateway import Gateway
from sealwax.lab._model import DEFAULT_ACCOUNT, DEFAULT_REGION, ORGANIZATION, AccessKey, Principal, Request, root_of
from sealwax.lab._names import ALIAS, check_region
from sealwax.lab._principals import Principals
from sealwax.lab._records import Records
from sealwax.lab._schema import STATE, TRAIL
from sealwax.lab._sts import Sts
from sealwax.lab._trail import Trail
from sealwax.lab._wire import new_request_id
from sealwax.policy._documents import text_of

if TYPE_CHECKING:
    import boto3

_SESSION_SECONDS = 12 * 3600


class Lab:
    """An embedded KMS in a folder, which several processes may use at once.

    Args:
        path: the folder; made (mode 0700) when missing.
        passphrase: encrypts the key material at rest; the same one opens the lab again.
        key_file: the same with a file of at least 32 random bytes instead.
        clock: the lab's time in Unix seconds, for tests of rotation and deletion.

    Raises:
        LabError: the folder cannot be used, or the passphrase or key file does not open it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        passphrase: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        private_folder(self.path)
        with contextlib.ExitStack() as files:
            self._state = Database(self.path / STATE_FILE, STATE, durable=True)
            files.callback(self._state.close)
            with self._state.writing() as connection:
                root = _rootkey.load(connection, passphrase, None if key_file is None else Path(key_file))
            self._log = Database(self.path / "trail.db", TRAIL, durable=False)
            files.callback(self._log.close)
            self._records = Records(self._state, root)
            self.trail = Trail(self._log, clock())
            self.faults = Faults(self._state)
            self._engine = Engine(
                self._records, self.trail, self.faults, blob_key=root.derive(b"seals of blobs"), clock=clock
            )
            self._principals = Principals(self._state, root)
            self._clock = clock
            security, cloudtrail = Sts(self._principals, self.trail, clock), CloudTrail(self.trail, None)
            self._gateway = Gateway(self._engine, security, cloudtrail, self._principals, clock)
            self._files = files.pop_all()

    def session(
        self, region: str | None = None, *, principal: str | None = None, account: str | None = None
    ) -> boto3.Session:
        """A boto3 session whose KMS, STS and CloudTrail clients talk to this lab in process.

        Without ``principal`` and ``account`` it signs with the credentials that the user has set in the environment
        or in files, else as the root of the account 111122223333. Single sign-on is not asked, and a profile that the
        environment names and no file has counts as none.

        Args:
            region: the Region; None takes what the user has set for AWS, else us-east-1.
            principal: the name or ARN of the user or role to act as.
            account: the account whose root to act as.

        Raises:
            LabError: there is no such principal.
        """
        from sealwax.lab._transport import new_session

        key: AccessKey | None = None
        if principal is not None:
            key = self._key_of(self._principals.named(principal))
        elif account is not None:
            key = self._principals.key_of(account, None)
        return new_session(self._gateway, region, key, lambda: self._principals.key_of(DEFAULT_ACCOUNT, None))

    def _key_of(self, principal: Principal) -> AccessKey:
        if principal.kind == "user":
            return self._principals.key_of(principal.account, principal)
        now = self._clock()
        return self._principals.new_session(principal, "sealwax-lab", now + _SESSION_SECONDS, now)

    def add_principal(
        self,
        name: str,
        *,
        role: bool = False,
        account: str = DEFAULT_ACCOUNT,
        policy: str | Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Add a user or a role. From the first one on, the lab serves known access keys only.

        Args:
            role: a role, which the callers of its account may assume; it has no access key of its own.
            policy: its identity policy, as JSON text or decoded.
            tags: its tags, for aws:PrincipalTag.

        Returns:
            Arn, and for a user AccessKeyId and SecretAccessKey.

        Raises:
            LabError: the name or account cannot be one, or is taken.
            PolicyError: the policy is malformed.
        """
        policies = {}
        if policy is not None:
            policies["policy"] = text_of(policy, "identity policy")
        with self._records.change():
            added = self._principals.add(
                name, kind="role" if role else "user", account=account, policies=policies, tags=tags or {}
            )
            if role:
                return {"Arn": added.arn}
            key = self._principals.new_key(account, added)
        return {"Arn": added.arn, "AccessKeyId": key.access_key_id, "SecretAccessKey": key.secret}

    def known(self, arn: str) -> tuple[policy.Principal, tuple[policy.Policy, ...]]:
        """Who an ARN names to the evaluator of policies, and the identity policies that it has.

        Raises:
            LabError: there is no such principal.
        """
        try:
            who = policy.principal(arn)
        except ValueError as error:
            raise LabError(str(error)) from None
        if who.kind in ("root", "service"):
            return replace(who, org_id=ORGANIZATION if who.account else None), ()
        behind = self._principals.named(who.role or arn)
        tagged = policy.principal(
            arn,
            role=who.role,
            user_id=behind.unique_id if who.kind == "user" else None,
            tags=behind.tags,
            org_id=ORGANIZATION,
        )
        parsed = (
            policy.parse_identity_policy(text, name=f"identity policy {name}") for name, text in behind.policies.items()
        )
        return tagged, tuple(parsed)

    def call(
        self, operation: str, *, region: str = DEFAULT_REGION, account: str = DEFAULT_ACCOUNT, **members: Any
    ) -> dict[str, Any]:
        """Run an operation as an account's root, without a wire and a signature.

        Args:
            members: the request's members as JSON has them.

        Returns:
            The answer's members; times are Unix seconds.

        Raises:
            LabError: KMS's error code and sentence, or the Region cannot be one.
        """
        check_region(region)
        request = Request(
            operation=operation,
            document=members,
            region=region,
            caller=root_of(account),
            request_id=new_request_id(),
            source_ip="127.0.0.1",
            user_agent="sealwax lab",
            secure=True,
        )
        try:
            return self._engine.serve(request)
        except ApiError as error:
            raise LabError(f"{operation}: {error.code}{': ' if error.message else ''}{error.message}") from error

    def create_key(
        self, *, alias: str | None = None, region: str = DEFAULT_REGION, description: str = ""
    ) -> dict[str, Any]:
        """Make a key, and an alias for it: both or neither.

        Args:
            alias: with or without the ``alias/`` in front.

        Returns:
            The KeyMetadata of the new key; times are Unix seconds.
        """
        with self._records.change():
            metadata: dict[str, Any] = self.call("CreateKey", region=region, Description=description)["KeyMetadata"]
            if alias is not None:
                name = alias if alias.startswith(ALIAS) else ALIAS + alias
                self.call("CreateAlias", region=region, AliasName=name, TargetKeyId=metadata["KeyId"])
        return metadata

    def list_keys(self) -> list[dict[str, Any]]:
        """Every key of the lab: its KeyMetadata, with its alias names as ``Aliases``."""
        found = []
        for key in self._records.every_key():
            shown = self.call("DescribeKey", region=key.region, account=key.account, KeyId=key.key_id)["KeyMetadata"]
            aliases = self._records.aliases(key.account, key.region, key.key_id)
            found.append(shown | {"Aliases": [alias.name for alias in aliases]})
        return found

    def close(self) -> None:
        """Close the lab's files. Sessions that were made from it can no longer be used."""
        self._files.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
