"""The lab as a program uses it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealwax import policy
from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab import _rootkey
from sealwax.lab._apierror import ApiError
from sealwax.lab._cloudtrail import CloudTrail
from sealwax.lab._database import STATE_FILE, TRAIL_FILE, Database, private_folder
from sealwax.lab._engine import KmsEngine
from sealwax.lab._faults import Faults
from sealwax.lab._gateway import Gateway
from sealwax.lab._model import (
    DEFAULT_ACCOUNT,
    DEFAULT_REGION,
    ORGANIZATION,
    AccessKey,
    KmsRequest,
    PrincipalRecord,
    root_of,
)
from sealwax.lab._names import ALIAS, check_region, check_text, is_reserved
from sealwax.lab._principals import PrincipalStore
from sealwax.lab._records import KeyRecords
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
        path: the folder; created with mode 0700 if it does not exist.
        passphrase: encrypts the key material at rest. The lab opens with the same passphrase only.
        key_file: a file of at least 32 random bytes, instead of a passphrase.
        clock: returns the lab's time in Unix seconds, for tests of rotation and deletion.

    Attributes:
        path: the folder.
        trail: the CloudTrail events of all calls.
        faults: deliberate faults: throttling, errors, outages.

    Raises:
        LabError: the folder cannot be used, or the passphrase or key file is wrong.

    Example:
        ::

            with Lab("lab") as lab:
                lab.create_key(alias="payments")
                kms = lab.session().client("kms")
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
            self._log = Database(self.path / TRAIL_FILE, TRAIL, durable=False)
            files.callback(self._log.close)
            self._records = KeyRecords(self._state, root)
            self.trail = Trail(self._log, clock())
            self.faults = Faults(self._state)
            self._engine = KmsEngine(
                self._records, self.trail, self.faults, blob_key=root.derive(b"seals of blobs"), clock=clock
            )
            self._principals = PrincipalStore(self._state, root)
            self._clock = clock
            security, cloudtrail = Sts(self._principals, self.trail, clock), CloudTrail(self.trail, None)
            self._gateway = Gateway(self._engine, security, cloudtrail, self._principals, clock)
            self._files = files.pop_all()

    def session(
        self, region: str | None = None, *, principal: str | None = None, account: str | None = None
    ) -> boto3.Session:
        """Return a boto3 session whose KMS, STS and CloudTrail clients use this lab in process.

        Without ``principal`` and ``account`` it signs with the AWS credentials in the environment or in files; without
        those it acts as the root of the account 111122223333. Single sign-on is not used. If AWS_PROFILE names a
        profile that does not exist, the profile is ignored.

        Args:
            region: the Region; None for the user's AWS Region, or else us-east-1.
            principal: the name or ARN of a user or role to act as.
            account: the account whose root to act as.

        Returns:
            The session.

        Raises:
            LabError: there is no such principal.

        Example:
            ``lab.session("eu-west-1", principal="alice").client("kms")``
        """
        from sealwax.lab._transport import new_session

        key: AccessKey | None = None
        if principal is not None:
            key = self._key_of(self._principals.named(principal))
        elif account is not None:
            key = self._principals.key_of(account, None)
        return new_session(self._gateway, region, key, lambda: self._principals.key_of(DEFAULT_ACCOUNT, None))

    def _key_of(self, principal: PrincipalRecord) -> AccessKey:
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
        policy: str | Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Add a user or a role. Once there is one, the lab accepts known access keys only.

        Args:
            name: the name.
            role: whether to add a role, which callers of its account may assume; it has no access key.
            account: the account, twelve digits.
            policy: the identity policy, as JSON text or decoded.
            tags: the tags, for aws:PrincipalTag.

        Returns:
            ``Arn``; for a user also ``AccessKeyId`` and ``SecretAccessKey``.

        Raises:
            LabError: the name or account is invalid, or the name is taken.
            PolicyError: the policy is malformed.

        Example:
            ``lab.add_principal("alice", policy=Path("alice.json").read_text())``
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
        """Return the principal of an ARN and its identity policies, for ``sealwax.policy.evaluate``.

        Args:
            arn: a user, role, session of a role, root or service.

        Returns:
            The principal and its parsed policies.

        Raises:
            LabError: there is no such principal.
        """
        try:
            principal = policy.principal(arn)
        except ValueError as error:
            raise LabError(str(error)) from None
        if principal.kind in ("root", "service"):
            return replace(principal, org_id=ORGANIZATION if principal.account else None), ()
        record = self._principals.named(principal.role or arn)
        principal = policy.principal(
            arn,
            role=principal.role,
            user_id=record.unique_id if principal.kind == "user" else None,
            tags=record.tags,
            org_id=ORGANIZATION,
        )
        policies = record.policies.items()
        return principal, tuple(
            policy.parse_identity_policy(text, name=f"identity policy '{name}'") for name, text in policies
        )

    def call(
        self, operation: str, *, region: str = DEFAULT_REGION, account: str = DEFAULT_ACCOUNT, **members: Any
    ) -> dict[str, Any]:
        """Run an operation of KMS as an account's root, without a client.

        Args:
            operation: the operation, as in ``"DisableKey"``.
            region: the Region.
            account: the account, twelve digits.
            members: the request's parameters, as in its JSON.

        Returns:
            The members of the response; times are Unix seconds.

        Raises:
            LabError: KMS's error code and message, or the Region is invalid.

        Example:
            ``lab.call("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)``
        """
        check_region(region)
        request = KmsRequest(
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
        """Create a symmetric encryption key and an alias for it.

        Args:
            alias: the alias name, with or without ``alias/``. If it cannot be created, neither is the key.
            region: the Region.
            description: the description of the key.

        Returns:
            The KeyMetadata of the key; times are Unix seconds.

        Raises:
            LabError: the alias is invalid, reserved or exists, or the Region is invalid.

        Example:
            ``arn = lab.create_key(alias="payments")["Arn"]``
        """
        name = ""
        if alias is not None:
            check_text("alias", alias)
            name = alias if alias.startswith(ALIAS) else ALIAS + alias
            if is_reserved(name):  # KMS refuses it without a word
                raise LabError(
                    f"the alias '{printable(name)}' cannot be created: names that begin with 'alias/aws/' are reserved "
                    "for AWS services; use another name"
                )
        check_text("description", description)
        with self._records.change():
            metadata: dict[str, Any] = self.call("CreateKey", region=region, Description=description)["KeyMetadata"]
            if name:
                self.call("CreateAlias", region=region, AliasName=name, TargetKeyId=metadata["KeyId"])
        return metadata

    def list_keys(self) -> list[dict[str, Any]]:
        """Return the KeyMetadata of every key in the lab, with the names of its aliases as ``Aliases``."""
        keys = []
        for key in self._records.every_key():
            shown = self.call("DescribeKey", region=key.region, account=key.account, KeyId=key.key_id)["KeyMetadata"]
            aliases = self._records.aliases(key.account, key.region, key.key_id)
            keys.append(shown | {"Aliases": [alias.name for alias in aliases]})
        return keys

    def close(self) -> None:
        """Close the lab's files. Its sessions cannot be used afterwards."""
        self._files.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
