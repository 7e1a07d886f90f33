"""The requests that are sent to AWS and to the lab alike, in this order: what KMS does, and above all what it refuses.

"$main.arn" stands for what a side keeps under that name: its keys, roles and aliases, and answers to earlier requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sealwax._rehearse.plan import CONTEXT

_OTHER: Final = {"purpose": "other"}
_SAMPLE: Final = b"This sample of sealwax rehearse is not a secret."
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        what: what is asked, or what is wrong with it.
        operation: for example ``"Decrypt"``.
        parameters: its parameters.
        who: the caller, or a role.
        region: 0 for the first Region, 1 for the second.
        keep: the name that later requests find the answer's fields under.
        after_change: whether the answer depends on a change that KMS may not know everywhere yet.
        service: ``"kms"`` or ``"sts"``.
    """

    what: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    who: str = "caller"
    region: int = 0
    keep: str = ""
    after_change: bool = False
    service: str = "kms"

    @property
    def name(self) -> str:
        return f"{self.operation}: {self.what}"

    @property
    def method(self) -> str:
        return _WORD.sub("_", self.operation).lower()


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Mapping[str, Any]], bytes]:
    """Return what changes a kept ciphertext."""
    return lambda kept: change(bytes(kept.get(name, b"")))


def _flipped(blob: bytes) -> bytes:
    return blob[:-1] + bytes(last ^ 1 for last in blob[-1:])


def _ask(operation: str, what: str, /, who: str = "caller", region: int = 0, **parameters: Any) -> Asked:
    return Asked(what, operation, parameters, who, region)


def _describing() -> Iterator[Asked]:
    for name in ("main", "next", "global"):
        yield _ask("DescribeKey", f"{name} by ARN", KeyId=f"${name}.arn")
        yield _ask("DescribeKey", f"{name} by alias", KeyId=f"${name}.alias")
        yield _ask("GetKeyPolicy", f"of {name}", KeyId=f"${name}.arn", PolicyName="default")
        yield _ask("ListResourceTags", f"of {name}", KeyId=f"${name}.arn")
        yield _ask("ListAliases", f"of {name}", KeyId=f"${name}.arn")
    yield _ask("DescribeKey", "by id", KeyId="$main.id")
    yield _ask("DescribeKey", "by the ARN of an alias", KeyId="$main.alias_arn")
    yield _ask("DescribeKey", "the replica", KeyId="$replica.arn", region=1)
    yield _ask("DescribeKey", "a key of the other Region", KeyId="$main.id", region=1)
    yield _ask("DescribeKey", "a key that does not exist", KeyId=_NOBODY)
    yield _ask("DescribeKey", "an alias that does not exist", KeyId="$none.alias")
    yield _ask("DescribeKey", "no key", KeyId="")
    yield _ask("DescribeKey", "a name with a space", KeyId="a key")
    yield _ask("DescribeKey", "nothing named")
    yield _ask("DescribeKey", "as a stranger", "stranger", KeyId="$main.arn")
    yield _ask("GetKeyPolicy", "of another name", KeyId="$main.arn", PolicyName="other")
    yield _ask("ListAliases", "with a limit of 0", Limit=0)
    yield _ask("ListKeys", "with a limit of 1,001", Limit=1001)
    yield _ask("ListKeys", "with a marker that is none", Marker="none")
    yield Asked("the caller", "GetCallerIdentity", service="sts")
    yield _ask("ListAliases", "with a limit of 1,001", Limit=1001)


def _encrypting() -> Iterator[Asked]:
    ask = {"KeyId": "$main.arn", "Plaintext": _SAMPLE, "EncryptionContext": CONTEXT}
    yield Asked("with a context", "Encrypt", ask, keep="blob")
    yield Asked("without a context", "Encrypt", {"KeyId": "$main.arn", "Plaintext": _SAMPLE}, keep="bare")
    yield Asked("under the multi-Region key", "Encrypt", ask | {"KeyId": "$global.arn"}, keep="wide")
    for what, change in (
        ("by alias", {"KeyId": "$main.alias"}),
        ("no bytes", {"Plaintext": b""}),
        ("4,096 bytes", {"Plaintext": bytes(4096)}),
        ("4,097 bytes", {"Plaintext": bytes(4097)}),
        ("with an algorithm of RSA", {"EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}),
        ("with an algorithm that does not exist", {"EncryptionAlgorithm": "ROT13"}),
        ("with an empty context", {"EncryptionContext": {}}),
        ("with a context of 8,193 bytes", {"EncryptionContext": {"name": "x" * 8193}}),
        ("as a dry run", {"DryRun": True}),
        ("with a grant token that is none", {"GrantTokens": ["none"]}),
        ("with 11 grant tokens", {"GrantTokens": ["none"] * 11}),
        ("under a key by a name that is none", {"KeyId": "a key"}),
    ):
        yield Asked(what, "Encrypt", ask | change)
    for who in ("reader", "stranger"):
        yield Asked(f"as the {who}", "Encrypt", ask, who)


def _decrypting() -> Iterator[Asked]:
    ask: dict[str, Any] = {"CiphertextBlob": "$blob.CiphertextBlob", "EncryptionContext": CONTEXT}
    for what, change in (
        ("with its context", {}),
        ("with its key named", {"KeyId": "$main.arn"}),
        ("with its key's alias", {"KeyId": "$main.alias"}),
        ("with another key named", {"KeyId": "$next.arn"}),
        ("with another context", {"EncryptionContext": _OTHER}),
        ("with a larger context", {"EncryptionContext": CONTEXT | {"more": "x"}}),
        ("with the context in capitals", {"EncryptionContext": {"PURPOSE": "rehearsal"}}),
        ("with an empty context", {"EncryptionContext": {}}),
        ("without bytes", {"CiphertextBlob": b""}),
        ("one byte", {"CiphertextBlob": b"\1"}),
        ("bytes that are no ciphertext", {"CiphertextBlob": bytes(range(200))}),
        ("6,145 bytes", {"CiphertextBlob": bytes(6145)}),
        ("without its last byte", {"CiphertextBlob": _changed("blob.CiphertextBlob", lambda blob: blob[:-1])}),
        ("with a byte more", {"CiphertextBlob": _changed("blob.CiphertextBlob", lambda blob: blob + b"\0")}),
        (
            "with its last bit flipped",
            {"CiphertextBlob": _changed("blob.CiphertextBlob", _flipped)},
        ),
        ("with another algorithm", {"EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}),
        ("as a dry run", {"DryRun": True}),
    ):
        yield Asked(what, "Decrypt", ask | change)
    yield _ask("Decrypt", "what has no context", CiphertextBlob="$bare.CiphertextBlob")
    yield Asked("what has no context, with one", "Decrypt", ask | {"CiphertextBlob": "$bare.CiphertextBlob"})
    yield Asked("nothing named", "Decrypt")
    wide = ask | {"CiphertextBlob": "$wide.CiphertextBlob"}
    yield Asked("in the replica's Region", "Decrypt", wide, region=1)
    yield Asked("a single-Region ciphertext in the other Region", "Decrypt", ask, region=1)
    yield Asked("as the reader", "Decrypt", ask, "reader")
    yield Asked("as the reader, with another context", "Decrypt", ask | {"EncryptionContext": _OTHER}, "reader")
    yield Asked(
        "as the reader, under another key", "Decrypt", ask | {"CiphertextBlob": "$wide.CiphertextBlob"}, "reader"
    )
    yield Asked("as a stranger", "Decrypt", ask, "stranger")


def _generating() -> Iterator[Asked]:
    ask: dict[str, Any] = {"KeyId": "$main.arn", "EncryptionContext": CONTEXT}
    sizes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("AES_256", {"KeySpec": "AES_256"}),
        ("AES_128", {"KeySpec": "AES_128"}),
        ("64 bytes", {"NumberOfBytes": 64}),
        ("no bytes", {"NumberOfBytes": 0}),
        ("1,025 bytes", {"NumberOfBytes": 1025}),
        ("a spec and a number", {"KeySpec": "AES_256", "NumberOfBytes": 32}),
        ("neither spec nor number", {}),
        ("a spec that does not exist", {"KeySpec": "AES_512"}),
        ("as a dry run", {"KeySpec": "AES_256", "DryRun": True}),
    )
    for operation in ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext"):
        for what, change in sizes if operation == "GenerateDataKey" else sizes[::2]:
            yield Asked(what, operation, ask | change)
        yield Asked("as a stranger", operation, ask | {"KeySpec": "AES_256"}, "stranger")
    yield _ask("GenerateRandom", "32 bytes", NumberOfBytes=32)
    yield _ask("GenerateRandom", "1,025 bytes", NumberOfBytes=1025)


def _reencrypting() -> Iterator[Asked]:
    ask: dict[str, Any] = {
        "CiphertextBlob": "$blob.CiphertextBlob",
        "SourceEncryptionContext": CONTEXT,
        "DestinationKeyId": "$next.arn",
        "DestinationEncryptionContext": CONTEXT,
    }
    for what, change in (
        ("to another key", {}),
        ("to the same key", {"DestinationKeyId": "$main.arn"}),
        ("to an alias", {"DestinationKeyId": "$next.alias"}),
        ("to another context", {"DestinationEncryptionContext": _OTHER}),
        ("with another context", {"SourceEncryptionContext": _OTHER}),
        ("with its key named", {"SourceKeyId": "$main.arn"}),
        ("with another key named", {"SourceKeyId": "$next.arn"}),
        ("to an alias that does not exist", {"DestinationKeyId": "$none.alias"}),
        ("bytes that are no ciphertext", {"CiphertextBlob": bytes(range(200))}),
        ("as a dry run", {"DryRun": True}),
    ):
        yield Asked(what, "ReEncrypt", ask | change)
    yield Asked("as the reader", "ReEncrypt", ask, "reader")


def _granting() -> Iterator[Asked]:
    ask: dict[str, Any] = {
        "KeyId": "$main.arn",
        "GranteePrincipal": "$stranger.role",
        "Operations": ["Decrypt"],
        "Constraints": {"EncryptionContextSubset": CONTEXT},
    }
    yield Asked("to decrypt with a context", "CreateGrant", ask | {"Name": "rehearsal"}, keep="grant")
    for what, change in (
        ("the same name again", {"Name": "rehearsal"}),
        ("without operations", {"Operations": []}),
        ("an operation that does not exist", {"Operations": ["Read"]}),
        ("an operation of RSA", {"Operations": ["Sign"]}),
        ("to nobody", {"GranteePrincipal": "nobody"}),
        ("with a name with a space", {"Name": "a name"}),
        ("as a dry run", {"DryRun": True}),
    ):
        yield Asked(what, "CreateGrant", ask | change)
    blob = {"CiphertextBlob": "$blob.CiphertextBlob", "EncryptionContext": CONTEXT}
    token = {"GrantTokens": [lambda kept: kept.get("grant.GrantToken", "none")]}
    yield Asked("as a grantee, with the token", "Decrypt", blob | token, "stranger")
    yield Asked(
        "as a grantee, with another context", "Decrypt", blob | token | {"EncryptionContext": _OTHER}, "stranger"
    )
    yield Asked("as a grantee", "Encrypt", {"KeyId": "$main.arn", "Plaintext": b"x", **token}, "stranger")
    yield Asked("of the key", "ListGrants", {"KeyId": "$main.arn", "GrantId": "$grant.GrantId"}, after_change=True)
    yield _ask("ListGrants", "with an id that is none", KeyId="$main.arn", GrantId="0" * 64)
    yield _ask("RevokeGrant", "with an id that is none", KeyId="$main.arn", GrantId="0" * 64)
    yield _ask("RetireGrant", "with a token that is none", GrantToken="none")
    yield _ask("RevokeGrant", "the grant", KeyId="$main.arn", GrantId="$grant.GrantId")


def _changing() -> Iterator[Asked]:
    yield _ask("GetKeyRotationStatus", "of a key that does not rotate", KeyId="$next.arn")
    yield _ask("EnableKeyRotation", "every 89 days", KeyId="$next.arn", RotationPeriodInDays=89)
    yield _ask("EnableKeyRotation", "every 90 days", KeyId="$next.arn", RotationPeriodInDays=90)
    yield Asked("of a key that rotates", "GetKeyRotationStatus", {"KeyId": "$next.arn"}, after_change=True)
    yield _ask("DisableKeyRotation", "of a key that rotates", KeyId="$next.arn")
    yield _ask("ListKeyRotations", "of a key that never rotated", KeyId="$next.arn")
    yield _ask("ReplicateKey", "a single-Region key", KeyId="$main.arn", ReplicaRegion="$far", Tags="$tags")
    yield _ask("ReplicateKey", "a second time", KeyId="$global.arn", ReplicaRegion="$far", Tags="$tags")
    yield _ask("TagResource", "with a tag of AWS", KeyId="$next.arn", Tags=[{"TagKey": "aws:x", "TagValue": "x"}])
    yield _ask("TagResource", "with one", KeyId="$next.arn", Tags=[{"TagKey": "more", "TagValue": "x"}])
    yield _ask("UntagResource", "the tag", KeyId="$next.arn", TagKeys=["more"])
    yield _ask("CreateAlias", "that exists", AliasName="$main.alias", TargetKeyId="$main.arn")
    yield _ask("CreateAlias", "of the next key", AliasName="$more.alias", TargetKeyId="$next.arn")
    yield _ask("UpdateAlias", "to the main key", AliasName="$more.alias", TargetKeyId="$main.arn")
    yield _ask("DeleteAlias", "it", AliasName="$more.alias")
    yield _ask("PutKeyPolicy", "that is not JSON", KeyId="$next.arn", PolicyName="default", Policy="{")
    yield _ask("PutKeyPolicy", "that nobody could change", KeyId="$next.arn", PolicyName="default", Policy=_LOCKED_OUT)
    yield _ask("UpdateKeyDescription", "of 8,193 characters", KeyId="$next.arn", Description="x" * 8193)
    yield _ask("UpdateKeyDescription", "of a few", KeyId="$next.arn", Description="rehearsed")
    yield _ask("CancelKeyDeletion", "of a key that stays", KeyId="$next.arn")
    yield _ask("ScheduleKeyDeletion", "in 6 days", KeyId="$next.arn", PendingWindowInDays=6)
    yield from _in_states()


_LOCKED_OUT: Final = '{"Version":"2012-10-17","Statement":[]}'


def _in_states() -> Iterator[Asked]:
    """Use the next key while it is disabled, while its deletion is pending, and afterwards."""
    encrypt = {"KeyId": "$next.arn", "Plaintext": b"x"}
    describe = {"KeyId": "$next.arn"}
    yield _ask("DisableKey", "the next key", KeyId="$next.arn")
    yield Asked("of a disabled key", "DescribeKey", describe, after_change=True)
    yield Asked("under a disabled key", "Encrypt", encrypt, after_change=True)
    yield _ask("ScheduleKeyDeletion", "of a disabled key", KeyId="$next.arn", PendingWindowInDays=7)
    yield Asked("of a key that is deleted", "DescribeKey", describe, after_change=True)
    yield Asked("under a key that is deleted", "Encrypt", encrypt, after_change=True)
    yield _ask("EnableKey", "that is deleted", KeyId="$next.arn")
    yield _ask("CancelKeyDeletion", "of the next key", KeyId="$next.arn")
    yield _ask("EnableKey", "the next key", KeyId="$next.arn")
    yield Asked("of a key that is enabled again", "DescribeKey", describe, after_change=True)


REQUESTS: Final = (
    *_describing(),
    *_encrypting(),
    *_decrypting(),
    *_generating(),
    *_reencrypting(),
    *_granting(),
    *_changing(),
)
