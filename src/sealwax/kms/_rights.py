"""What the caller may do with a KMS key, by dry runs: KMS checks each request as usual, and does nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sealwax import errors
from sealwax._aws.session import Clients
from sealwax.kms import _hygiene, _metadata, _names
from sealwax.kms._calls import KmsCaller, RetryPolicy

_ALLOWED: Final = "DryRunOperationException"
_RETRIES: Final = RetryPolicy(attempts=2, deadline=10)
_WITHOUT_BLOB: Final[Mapping[str, Any]] = {"DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
_NAMED_ACTION: Final = re.compile(r"to perform: (kms:[A-Za-z]+)")
_NAMED_KEY: Final = re.compile(r"on resource: (arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)")
_LACKING: Final = re.compile(r"because no ([a-z -]{1,60}) allows")
_DENYING: Final = re.compile(r"with an explicit deny in an? ([a-z -]{1,60}(?:policy|boundary))")


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that a caller may or may not do with a key.

    Attributes:
        use: ``"encrypt"``, ``"decrypt"``, ``"extra keys"`` (encrypt under several keys) or ``"rewrap"``.
        actions: the IAM actions that it needs.
        error: why it failed; None if it is allowed.
    """

    use: str
    actions: tuple[str, ...]
    error: errors.KmsError | None


@dataclass(frozen=True, slots=True)
class Denial:
    """What AWS says of a denied request.

    Attributes:
        action: the denied action; "" if AWS does not say.
        key_arn: the key; "" if AWS does not say.
        lacking: the kind of policy that would have to allow it; "" if AWS does not say.
        denying: the kind of policy with a Deny statement; "" if there is none.
    """

    action: str
    key_arn: str
    lacking: str
    denying: str


def explain(error: errors.AccessDeniedError) -> Denial:
    """Return what AWS says of a denied request."""
    texts = (pattern.search(str(error)) for pattern in (_NAMED_ACTION, _NAMED_KEY, _LACKING, _DENYING))
    return Denial(*(match[1] if match else "" for match in texts))


class KeyCheckup:
    """Looks at one KMS key, and what the caller may do with it.

    IAM actions: kms:DescribeKey for ``metadata``.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        clients: those of the session. ``_hygiene.attach`` must be among what prepares them.

    Raises:
        ConfigurationError: this names no key, or no Region is set.
    """

    def __init__(self, key: str, clients: Clients) -> None:
        self.name = _names.parse(key)
        self.region = self.name.region or clients.region
        self._clients = clients
        self._caller = KmsCaller(clients, _RETRIES, None, None)

    def metadata(self) -> _metadata.Metadata:
        """Describe the key.

        Raises:
            KmsError: KMS did not answer, or refused.
        """
        client = self._clients.kms(self.region)
        return _metadata.fetch(client, self.name, self.region, "kms:DescribeKey")

    def rights(self, context: Mapping[str, str]) -> Iterator[Right]:
        """Yield what the caller may do, one dry run after the other.

        Args:
            context: the KMS context of the requests.
        """
        key, ours = self.name.text, {"EncryptionContext": context} if context else {}
        both = {f"{side}{name}": pairs for side in ("Source", "Destination") for name, pairs in ours.items()}
        requests: tuple[tuple[str, str, tuple[str, ...], dict[str, object]], ...] = (
            (
                "encrypt",
                "generate_data_key",
                ("kms:GenerateDataKey",),
                {"KeyId": key, "KeySpec": "AES_256", "DryRun": True, **ours},
            ),
            ("decrypt", "decrypt", ("kms:Decrypt",), {"KeyId": key, **_WITHOUT_BLOB, **ours}),
            (
                "extra keys",
                "encrypt",
                ("kms:Encrypt",),
                {"KeyId": key, "Plaintext": b"sealwax", "DryRun": True, **ours},
            ),
            (
                "rewrap",
                "re_encrypt",
                ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
                {"SourceKeyId": key, "DestinationKeyId": key, **_WITHOUT_BLOB, **both},
            ),
        )
        for use, operation, actions, parameters in requests:
            yield Right(use, actions, self._refusal(operation, f"a dry run of {' and '.join(actions)}", parameters))

    def _refusal(self, operation: str, doing: str, parameters: Mapping[str, object]) -> errors.KmsError | None:
        try:
            # If an endpoint ignores DryRun, the data key that it returns is wiped.
            with contextlib.nullcontext() if operation == "encrypt" else _hygiene.Exchange():
                self._caller.call(self.region, operation, doing, self.name.text, **parameters)
        except errors.KmsError as error:
            return None if error.code == _ALLOWED else error
        return errors.RequestRefusedError(
            f"{doing} was executed despite DryRun: the endpoint is not AWS KMS. Check the endpoint and proxies.",
            key=self.name.text,
        )
