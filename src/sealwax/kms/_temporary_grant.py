"""Temporary grants: created, and later retired or revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealwax import errors
from sealwax._aws import sts
from sealwax._aws.session import Clients, Session
from sealwax.kms import _names
from sealwax.kms._calls import KmsCaller, RetryPolicy


@dataclass(frozen=True, slots=True)
class TemporaryGrant:
    """An existing grant. The token is not a secret: it only lets the grantee use the grant at once."""

    key: str
    id: str
    token: str


class TemporaryGrants:
    """Creates and ends grants."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._caller = KmsCaller(Clients(session), RetryPolicy(), None, None)

    def whoami(self) -> str:
        """Return the caller's ARN (sts:GetCallerIdentity, which no policy can deny).

        Raises:
            KmsError: STS did not answer.
        """
        return sts.whoami(self._session, "asking STS who the caller is")

    def create(self, request: Mapping[str, object]) -> TemporaryGrant:
        """Create a grant (kms:CreateGrant on its key).

        If the request has a unique ``Name``, a retry after a lost answer does not create a second grant.

        Args:
            request: the parameters of CreateGrant; ``KeyId`` is the key's ARN.

        Raises:
            KmsError: KMS refused, or its answer was lost; in that case the grant may exist.
        """
        key = str(request["KeyId"])
        answer = self._caller.call(_region(key), "create_grant", "creating the grant", key, **request)
        return TemporaryGrant(key, answer.need("GrantId", str), answer.need("GrantToken", str))

    def end(self, grant: TemporaryGrant) -> None:
        """Retire a grant as its retiring principal, or else revoke it (kms:RevokeGrant). It may be gone already.

        Raises:
            KmsError: it still exists; the message says how to revoke it.
        """
        region = _region(grant.key)
        try:
            # By token, which works at once: KMS may not find a new grant by its ID yet.
            self._caller.call(region, "retire_grant", "retiring the grant", grant.key, GrantToken=grant.token)
        except errors.KmsError as retiring:
            if _is_gone(retiring):
                return
            try:
                self._caller.call(
                    region, "revoke_grant", "revoking the grant", grant.key, KeyId=grant.key, GrantId=grant.id
                )
            except errors.KmsError as revoking:
                if _is_gone(revoking):
                    return
                raise type(revoking)(
                    f"the grant {grant.id} still exists: {retiring} {revoking} Revoke it with 'aws kms revoke-grant "
                    f"--region {region} --key-id {grant.key} --grant-id {grant.id}'.",
                    code=revoking.code,
                    request_id=revoking.request_id,
                    key=grant.key,
                ) from None


def _is_gone(error: errors.KmsError) -> bool:
    return isinstance(error, errors.KeyNotFoundError) or error.code == "InvalidGrantTokenException"


def _region(key: str) -> str:
    region = _names.parse(key).region
    assert region is not None
    return region
