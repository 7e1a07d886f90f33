"""Checks that call KMS directly, without the library's keyring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core.format.header import MAX_CIPHERTEXT_BYTES
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, WrappedKey, wipe
from sealwax.kms import _hygiene
from sealwax.kms._names import parse_arn
from sealwax.prove._proof import Failed, NotShown, Proof, check, pairs

_ALLOWED: Final = "DryRunOperationException"
# KMS's errors for a wrapped key that it cannot decrypt. If a policy requires the context, access is denied first.
_REFUSALS: Final = (errors.WrappedKeyRefusedError, errors.WrongKeyError)


def _check_blob(answer: Mapping[str, object]) -> bytes:
    blob = answer.get("CiphertextBlob")
    if not isinstance(blob, bytes):
        raise Failed("the response has no wrapped key")
    if not 1 <= len(blob) <= MAX_CIPHERTEXT_BYTES:
        raise Failed(f"the wrapped key has {len(blob)} bytes")
    return blob


@check("generate-data-key", "GenerateDataKey returns a new 32-byte key and its wrapped form", requests=2)
def generate_data_key(proof: Proof) -> str:
    with _new_key(proof)[0] as other:
        proof.data_key, proof.wrapped_key = _new_key(proof)
        if other.buffer == proof.data_key.buffer:
            raise Failed("two calls returned the same data key")
    return f"{DATA_KEY_BYTES} bytes, wrapped in {len(proof.wrapped_key.ciphertext)}; two calls returned different keys"


def _new_key(proof: Proof) -> tuple[DataKey, WrappedKey]:
    answer, plaintext = proof.ask_for_key(
        "generate_data_key", "generating a data key", KeySpec="AES_256", **pairs("EncryptionContext", proof.context)
    )
    size = len(plaintext)
    if size != DATA_KEY_BYTES:
        wipe(plaintext)
        raise Failed(f"the data key has {size} bytes, not {DATA_KEY_BYTES}")
    data_key = DataKey(plaintext)
    blob = _check_blob(answer)
    if data_key.buffer in blob:
        raise Failed("the wrapped key contains the data key in plaintext")
    arn = answer.get("KeyId")
    if not isinstance(arn, str) or parse_arn(arn) is None:
        raise Failed("the response has no key ARN")
    proof.arn = arn
    return data_key, WrappedKey(arn, blob)


@check("generate-no-plaintext", "GenerateDataKeyWithoutPlaintext returns a wrapped key and no plaintext", requests=1)
def generate_no_plaintext(proof: Proof) -> str:
    answer, plaintext = proof.ask_for_key(
        "generate_data_key_without_plaintext",
        "making a wrapped data key",
        KeySpec="AES_256",
        **pairs("EncryptionContext", proof.context),
    )
    revealed = bool(plaintext) or proof.revealed
    wipe(plaintext)
    if revealed:
        raise Failed("the response has a plaintext key")
    return f"{len(_check_blob(answer))} bytes, and no plaintext"


def _decrypt(proof: Proof, blob: bytes, context: Mapping[str, str]) -> bytearray:
    _, plaintext = proof.ask_for_key(
        "decrypt", "decrypting the data key", CiphertextBlob=blob, **pairs("EncryptionContext", context)
    )
    return plaintext


@check("decrypt", "Decrypt returns the same data key", needs=[generate_data_key], requests=1)
def decrypt(proof: Proof) -> str:
    assert proof.data_key is not None
    assert proof.wrapped_key is not None
    plaintext = _decrypt(proof, proof.wrapped_key.ciphertext, proof.context)
    try:
        if plaintext != proof.data_key.buffer:
            raise Failed("it returned a different data key from GenerateDataKey's")
    finally:
        wipe(plaintext)
    return "the same 32 bytes"


@check(
    "own-rights",
    "dry runs tell what the caller may do, and agree with what it did",
    needs=[generate_data_key, decrypt],
    requests=5,
)
def own_rights(proof: Proof) -> str:
    assert proof.wrapped_key is not None
    context = pairs("EncryptionContext", proof.context)
    shape = proof.client.meta.service_model.operation_model("Decrypt").input_shape
    ignoring = shape is not None and "DryRunModifiers" in shape.members
    # Without a ciphertext, if botocore has that option.
    blob: dict[str, object] = (
        {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]} if ignoring else {"CiphertextBlob": proof.wrapped_key.ciphertext}
    )
    target = proof.options.to or proof.key
    dry_runs: dict[str, dict[str, object]] = {
        "generate_data_key": {"KeySpec": "AES_256", **context},
        "generate_data_key_without_plaintext": {"KeySpec": "AES_256", **context},
        "encrypt": {"Plaintext": b"sealwax prove", **context},
        "decrypt": blob | context,
        "re_encrypt": {"SourceKeyId": proof.key, "DestinationKeyId": target, **_both(proof.context), **blob},
    }
    may: dict[str, bool] = {}
    for operation, parameters in dry_runs.items():
        try:
            _dry_run(proof, operation, parameters)
        except errors.AccessDeniedError:
            may[operation] = False
        except errors.RequestRefusedError as error:
            if error.code != _ALLOWED:
                raise
            may[operation] = True
        else:
            raise Failed(f"{_camel(operation)} was executed despite DryRun")
    for operation in ("generate_data_key", "decrypt"):
        if not may[operation]:
            raise Failed(f"the dry run of {_camel(operation)} was denied, but {_camel(operation)} was not")
    denied = [_camel(operation) for operation, allowed in may.items() if not allowed]
    return f"may {', '.join(_camel(name) for name, allowed in may.items() if allowed)}" + (
        f"; may not {', '.join(denied)}" if denied else ""
    )


def _dry_run(proof: Proof, operation: str, parameters: Mapping[str, Any]) -> None:
    if operation == "encrypt":  # its plaintext is not a secret
        proof.ask(operation, "a dry run", DryRun=True, **parameters)
    else:
        wipe(proof.ask_for_key(operation, "a dry run", DryRun=True, **parameters)[1])


def _camel(operation: str) -> str:
    return operation.title().replace("_", "")


def _both(context: Mapping[str, str]) -> dict[str, object]:
    return {**pairs("SourceEncryptionContext", context), **pairs("DestinationEncryptionContext", context)}


@check(
    "denied-principal",
    "a principal without permission can neither decrypt nor re-encrypt",
    needs=[decrypt],
    requests=lambda proof: 0 if proof.options.denied is None else 2,
)
def denied_principal(proof: Proof) -> str:
    caller = proof.as_denied()
    assert proof.arn is not None
    assert proof.wrapped_key is not None
    blob = {"CiphertextBlob": proof.wrapped_key.ciphertext}

    def decrypt_as_denied() -> None:
        with _hygiene.Exchange():
            context = pairs("EncryptionContext", proof.context)
            caller.call(proof.region, "decrypt", "decrypting it", str(proof.arn), KeyId=proof.arn, **blob, **context)

    def re_encrypt_as_denied() -> None:
        both = {"SourceKeyId": proof.arn, "DestinationKeyId": proof.arn, **_both(proof.context)}
        try:
            caller.call(proof.region, "re_encrypt", "re-encrypting it", str(proof.arn), DryRun=True, **blob, **both)
        except errors.RequestRefusedError as error:
            if error.code != _ALLOWED:
                raise

    proof.refused("its Decrypt", decrypt_as_denied, errors.AccessDeniedError)
    proof.refused("its ReEncrypt", re_encrypt_as_denied, errors.AccessDeniedError)
    return "AccessDenied for Decrypt and ReEncrypt, with the right context"


# --- what KMS must refuse


def refused(proof: Proof, what: str, blob: bytes, context: Mapping[str, str], *by: type[errors.SealwaxError]) -> str:
    """Return what refused: ``KMS`` or a ``policy``."""
    error = proof.refused(what, lambda: wipe(_decrypt(proof, blob, context)), *_REFUSALS, *by)
    return "policy" if isinstance(error, errors.AccessDeniedError) else "KMS"


def _contexts_refused(proof: Proof, contexts: Mapping[str, Mapping[str, str]]) -> str:
    assert proof.wrapped_key is not None
    blob = proof.wrapped_key.ciphertext
    by = {what: refused(proof, what, blob, pairs_, errors.AccessDeniedError) for what, pairs_ in contexts.items()}
    if "policy" in by.values():
        # With the right context it must still be allowed, or the policy denies everything.
        wipe(_decrypt(proof, blob, proof.context))
    return "; ".join(f"{what}: refused by {refuser}" for what, refuser in by.items())


@check("context-wrong", "KMS refuses a different context", needs=[decrypt], requests=1)
def context_wrong(proof: Proof) -> str:
    return _contexts_refused(proof, {"another context": wrong(proof.context)})


def wrong(context: Mapping[str, str]) -> dict[str, str]:
    """Return another context, with the same names if possible."""
    similar = [dict.fromkeys(context, value) for value in ("sealwax-prove-other", "?")] if context else []
    return next(other for other in (*similar, {"sealwax-prove": "other"}) if other != context and _is_valid(other))


def _is_valid(context: Mapping[str, str]) -> bool:
    try:
        ctx.encode(context)
    except errors.ContextError:  # too large
        return False
    return True


@check(
    "context-missing",
    "KMS refuses to decrypt without the context",
    needs=[decrypt],
    requests=lambda proof: 1 if proof.context else 0,
)
def context_missing(proof: Proof) -> str:
    if not proof.context:
        raise NotShown("the samples have no context")
    return _contexts_refused(proof, {"no context": {}})


@check(
    "context-altered",
    "KMS refuses a context that differs in one character or one pair",
    needs=[decrypt],
    requests=lambda proof: len(altered(proof.context)) if proof.context else 0,
)
def context_altered(proof: Proof) -> str:
    if not proof.context:
        raise NotShown("the samples have no context")
    contexts = altered(proof.context)
    if not contexts:
        raise NotShown("the context is too large to change")
    return _contexts_refused(proof, contexts)


def altered(context: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return contexts that differ a little from this one, by how they differ."""
    name, value = next(iter(context.items()))
    changed = value[:-1] + ("x" if value[-1:] != "x" else "y")
    more = "sealwax-prove" if "sealwax-prove" not in context else "sealwax-prove-more"
    contexts = {"one character": {**context, name: changed}}
    if more not in context:
        contexts["one pair more"] = {**context, more: ""}
    if len(context) > 1:
        contexts["one pair less"] = {key: value for key, value in context.items() if key != name}
    return {what: other for what, other in contexts.items() if _is_valid(other)}


@check("tampered-wrapped-key", "KMS refuses a wrapped key with a flipped bit", needs=[decrypt], requests=3)
def tampered_wrapped_key(proof: Proof) -> str:
    assert proof.wrapped_key is not None
    blob = proof.wrapped_key.ciphertext
    for at in (0, len(blob) // 2, len(blob) - 1):
        refused(proof, f"a wrapped key with a bit of byte {at} flipped", flipped(blob, at), proof.context)
    return "a change of the first, middle or last byte: refused by KMS"


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
