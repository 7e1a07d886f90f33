"""Users, roles and access keys, and the caller that an access key stands for."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sqlite3
import string
from collections.abc import Mapping

from sealwax import policy
from sealwax._core.lru import LruMap
from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab._database import Database
from sealwax.lab._model import DEFAULT_ACCOUNT, AccessKey, CallerIdentity, PrincipalRecord, root_of
from sealwax.lab._names import check_text
from sealwax.lab._rootkey import RootKey

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_ID_LETTERS = string.ascii_uppercase + "234567"
# Names that do not exist are cached too, so requests for ever new names must not fill the memory.
_MAX_CACHED = 4096
_EXPIRED_KEPT_SECONDS = 86400
_PRINCIPAL_COLUMNS = "arn, account, kind, name, unique_id, policies, tags"


class PrincipalStore:
    """The lab's users, roles and access keys."""

    def __init__(self, database: Database, root: RootKey) -> None:
        self._database = database
        self._root = root
        self._keys: LruMap[str, AccessKey | None] = LruMap(_MAX_CACHED)
        self._principals: LruMap[str, PrincipalRecord | None] = LruMap(_MAX_CACHED)
        database.on_change(self._keys.clear)
        database.on_change(self._principals.clear)

    def add(
        self, name: str, *, kind: str, account: str, policies: Mapping[str, str], tags: Mapping[str, str]
    ) -> PrincipalRecord:
        """Add a user or a role.

        Args:
            kind: ``user`` or ``role``.
            policies: the identity policies as JSON text, by name.

        Raises:
            LabError: the name or account is invalid, or the name is taken.
            PolicyError: a policy is malformed.
        """
        check_text("name", name)
        check_text("account", account)
        if _NAME.fullmatch(name) is None:
            raise LabError(f"'{printable(name)}' is not a valid name; use at most 64 letters, digits and +=,.@_-")
        if _ACCOUNT.fullmatch(account) is None:
            raise LabError(f"'{printable(account)}' is not an account; use twelve digits")
        for title, text in policies.items():
            policy.parse_identity_policy(text, name=f"identity policy '{printable(title)}'")
        unique_id = _identifier("AIDA" if kind == "user" else "AROA", 17)
        arn = f"arn:aws:iam::{account}:{kind}/{name}"
        added = PrincipalRecord(arn, account, kind, name, unique_id, dict(policies), dict(tags))
        with self._database.writing() as connection:
            if self.principal(arn) is not None:
                raise LabError(f"{arn} already exists; use another name")
            connection.execute(
                f"INSERT INTO principals ({_PRINCIPAL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (arn, account, kind, name, unique_id, json.dumps(added.policies), json.dumps(added.tags)),
            )
        return added

    def principal(self, arn: str) -> PrincipalRecord | None:
        with self._database.reading() as connection:
            if arn not in self._principals:
                row = connection.execute(
                    f"SELECT {_PRINCIPAL_COLUMNS} FROM principals WHERE arn=?",  # noqa: S608
                    (arn,),
                ).fetchone()
                self._principals[arn] = None
                if row is not None:
                    values = dict(zip(_PRINCIPAL_COLUMNS.split(", "), row, strict=True))
                    values |= {name: json.loads(values[name]) for name in ("policies", "tags")}
                    self._principals[arn] = PrincipalRecord(**values)
            return self._principals[arn]

    def named(self, name: str) -> PrincipalRecord:
        """The principal with an ARN, or with a name that is unique.

        Raises:
            LabError: no principal has it, or several.
        """
        with self._database.reading() as connection:
            rows = connection.execute("SELECT arn FROM principals WHERE arn=? OR name=?", (name, name)).fetchall()
        if len(rows) != 1:
            if rows:
                raise LabError(f"the lab has several principals named '{printable(name)}'; use the ARN")
            raise LabError(f"the lab has no principal '{printable(name)}'; add it first")
        principal = self.principal(rows[0][0])
        assert principal is not None
        return principal

    def any(self) -> bool:
        """Whether the lab has principals. Without any, every access key acts as the root."""
        with self._database.reading() as connection:
            return connection.execute("SELECT 1 FROM principals LIMIT 1").fetchone() is not None

    # access keys

    def new_key(self, account: str, principal: PrincipalRecord | None) -> AccessKey:
        """Create a long-term access key for a user or an account's root."""
        return self._store(
            AccessKey(_identifier("AKIA", 16), account, principal.arn if principal is not None else None, _secret())
        )

    def new_session(self, role: PrincipalRecord, session_name: str, expires: float, now: float) -> AccessKey:
        """Create temporary credentials of a role, and remove those that expired more than a day ago."""
        token = base64.b64encode(os.urandom(96)).decode()
        with self._database.writing() as connection:
            connection.execute("DELETE FROM access_keys WHERE expires < ?", (now - _EXPIRED_KEPT_SECONDS,))
            return self._store(
                AccessKey(_identifier("ASIA", 16), role.account, role.arn, _secret(), token, session_name, expires)
            )

    def key_of(self, account: str, principal: PrincipalRecord | None) -> AccessKey:
        """The long-term access key of a user or an account's root; created if there is none."""
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT access_key_id FROM access_keys WHERE account=? AND principal IS ? AND token IS NULL",
                (account, principal.arn if principal is not None else None),
            ).fetchone()
            key = self.key(row[0]) if row is not None else None
            return key or self.new_key(account, principal)

    def key(self, access_key_id: str) -> AccessKey | None:
        with self._database.reading() as connection:
            if access_key_id not in self._keys:
                row = connection.execute(
                    "SELECT access_key_id, account, principal, sealed, token, session_name, expires "
                    "FROM access_keys WHERE access_key_id=?",
                    (access_key_id,),
                ).fetchone()
                self._keys[access_key_id] = self._read(row) if row is not None else None
            return self._keys[access_key_id]

    def _read(self, row: sqlite3.Row) -> AccessKey:
        secret = self._root.unseal(row[3], _label(row[0])).decode()
        return AccessKey(row[0], row[1], row[2], secret, row[4], row[5], row[6])

    def _store(self, key: AccessKey) -> AccessKey:
        sealed = self._root.seal(key.secret.encode(), _label(key.access_key_id))
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO access_keys VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key.access_key_id, key.account, key.principal, sealed, key.token, key.session_name, key.expires),
            )
            self._keys.pop(key.access_key_id, None)
        return key

    # callers

    def caller(self, key: AccessKey) -> CallerIdentity | None:
        """The caller of a request that is signed with this key; None if the principal no longer exists."""
        if key.principal is None:
            return root_of(key.account, key.access_key_id)
        principal = self.principal(key.principal)
        if principal is None:
            return None
        if principal.kind == "user":
            return CallerIdentity(principal.arn, key.account, principal, principal.unique_id, key.access_key_id)
        arn = f"arn:aws:sts::{key.account}:assumed-role/{principal.name}/{key.session_name}"
        user_id = f"{principal.unique_id}:{key.session_name}"
        return CallerIdentity(arn, key.account, principal, user_id, key.access_key_id, key.session_name)

    @staticmethod
    def anybody(access_key_id: str) -> CallerIdentity:
        """The caller for an unknown access key while the lab has no principals."""
        return root_of(DEFAULT_ACCOUNT, access_key_id)


def _identifier(prefix: str, length: int) -> str:
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(length))


def _secret() -> str:
    return base64.b64encode(os.urandom(30)).decode()


def _label(access_key_id: str) -> bytes:
    return f"access key {access_key_id}".encode()
