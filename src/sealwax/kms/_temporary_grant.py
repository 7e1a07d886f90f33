"""A grant for a while: created under a name that tells when it is due, and ended again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealwax import errors
from sealwax._aws import sts
from sealwax._aws.session import Clients, Session
from sealwax.kms import _names
from sealwax.kms._calls import Caller, RetryPolicy


@dataclass(frozen=True, slots=True)
class LentGrant:
    """A grant that exists. The token is no secret: it lets its grantee use the grant at once."""

    key: str
    id: str
    token: str


class Lender:
    """Creates grants and ends them.

    Args:
        session: where clients come from.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._caller = Caller(Clients(session), RetryPolicy(), None, None)

    def whoami(self) -> str:
        """Return the ARN of the caller (sts:GetCallerIdentity, which nobody can be denied).

        Raises:
            KmsError: STS does not say.
        """
        return sts.whoami(self._session, "asking STS who shall be able to retire the grant")

    def create(self, request: Mapping[str, Any]) -> LentGrant:
        """Create a grant (kms:CreateGrant on its key).

        With a name that no other grant has, a request that is repeated because its answer was lost makes no second one.

        Args:
            request: as CreateGrant takes it; ``KeyId`` is the ARN of the key.

        Raises:
            KmsError: KMS did not, or its answer was lost: then a grant of that name may exist.
        """
        key = request["KeyId"]
        answer = self._caller.call(_region(key), "create_grant", "creating the grant", key, **request)
        return LentGrant(key, answer.need("GrantId", str), answer.need("GrantToken", str))

    def end(self, grant: LentGrant) -> None:
        """Retire a grant as its retiring principal, else revoke it (kms:RevokeGrant). One that is gone is well.

        Raises:
            KmsError: it still exists; the message says how to end it.
        """
        region = _region(grant.key)
        try:
            # By its token, which works at once: by its id, KMS may not find a new grant yet.
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
                    f"the grant {grant.id} still exists: {retiring} {revoking} End it with 'aws kms revoke-grant "
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
