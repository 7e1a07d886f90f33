"""Checks that ask KMS itself, without the library's keyring in between."""

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
# What KMS says of a wrapped key that it cannot open; where a policy asks for the context, the policy says no first.
_REFUSALS: Final = (errors.WrappedKeyRefusedError, errors.WrongKeyError)


def _check_blob(answer: Mapping[str, Any]) -> bytes:
    blob: bytes = answer.get("CiphertextBlob") or b""
    if not 1 <= len(blob) <= MAX_CIPHERTEXT_BYTES:
        raise Failed(f"the wrapped key has {len(blob)} bytes")
    return blob


@check("generate-data-key", "GenerateDataKey gives a new 32-byte key and its wrapped form", requests=2)
def generate_data_key(proof: Proof) -> str:
    with _new_key(proof)[0] as other:
        proof.data_key, proof.wrapped_key = _new_key(proof)
        if other.buffer == proof.data_key.buffer:
            raise Failed("two calls gave one data key")
    return f"{DATA_KEY_BYTES} bytes, wrapped in {len(proof.wrapped_key.ciphertext)}; two calls gave two keys"


def _new_key(proof: Proof) -> tuple[DataKey, WrappedKey]:
    answer, plaintext = proof.ask_for_key(
        "generate_data_key", "making a data key", KeySpec="AES_256", **pairs("EncryptionContext", proof.context)
    )
    size = len(plaintext)
    if size != DATA_KEY_BYTES:
        wipe(plaintext)
        raise Failed(f"the data key has {size} bytes, not {DATA_KEY_BYTES}")
    data_key = DataKey(plaintext)
    blob = _check_blob(answer)
    if data_key.buffer in blob:
        raise Failed("the wrapped key holds the data key as it is")
    arn = answer.get("KeyId")
    if not isinstance(arn, str) or parse_arn(arn) is None:
        raise Failed("the answer names no key ARN")
    proof.arn = arn
    return data_key, WrappedKey(arn, blob)


@check("generate-no-plaintext", "GenerateDataKeyWithoutPlaintext gives a wrapped key and no plaintext", requests=1)
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
        raise Failed("the answer holds a plaintext key")
    return f"{len(_check_blob(answer))} bytes, and no plaintext"


def _decrypt(proof: Proof, blob: bytes, context: Mapping[str, str]) -> bytearray:
    _, plaintext = proof.ask_for_key(
        "decrypt", "opening the data key", CiphertextBlob=blob, **pairs("EncryptionContext", context)
    )
    return plaintext


@check("decrypt", "Decrypt recovers the same data key", needs=[generate_data_key], requests=1)
def decrypt(proof: Proof) -> str:
    assert proof.data_key is not None
    assert proof.wrapped_key is not None
    plaintext = _decrypt(proof, proof.wrapped_key.ciphertext, proof.context)
    try:
        if plaintext != proof.data_key.buffer:
            raise Failed("it gave another data key than GenerateDataKey did")
    finally:
        wipe(plaintext)
    return "the same 32 bytes"


@check(
    "own-rights",
    "dry runs say what the caller may do, and agree with what it did",
    needs=[generate_data_key, decrypt],
    requests=5,
)
def own_rights(proof: Proof) -> str:
    assert proof.wrapped_key is not None
    context = pairs("EncryptionContext", proof.context)
    shape = proof.client.meta.service_model.operation_model("Decrypt").input_shape
    ignoring = shape is not None and "DryRunModifiers" in shape.members
    # A right is asked for without a ciphertext where botocore can; else with the one there is.
    blob: dict[str, Any] = (
        {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]} if ignoring else {"CiphertextBlob": proof.wrapped_key.ciphertext}
    )
    target = proof.options.to or proof.key
    asked: dict[str, dict[str, Any]] = {
        "generate_data_key": {"KeySpec": "AES_256", **context},
        "generate_data_key_without_plaintext": {"KeySpec": "AES_256", **context},
        "encrypt": {"Plaintext": b"sealwax prove", **context},
        "decrypt": blob | context,
        "re_encrypt": {"SourceKeyId": proof.key, "DestinationKeyId": target, **_both(proof.context), **blob},
    }
    may: dict[str, bool] = {}
    for operation, parameters in asked.items():
        try:
            _dry_run(proof, operation, parameters)
        except errors.AccessDeniedError:
            may[operation] = False
        except errors.RequestRefusedError as error:
            if error.code != _ALLOWED:
                raise
            may[operation] = True
        else:
            raise Failed(f"{_spoken(operation)} was done in earnest, though DryRun was asked for")
    for operation in ("generate_data_key", "decrypt"):
        if not may[operation]:
            raise Failed(f"the dry run of {_spoken(operation)} is denied, and {_spoken(operation)} was not")
    denied = [_spoken(operation) for operation, allowed in may.items() if not allowed]
    return f"may {', '.join(_spoken(name) for name, allowed in may.items() if allowed)}" + (
        f"; may not {', '.join(denied)}" if denied else ""
    )


def _dry_run(proof: Proof, operation: str, parameters: Mapping[str, Any]) -> None:
    if operation == "encrypt":  # what it holds is no secret
        proof.ask(operation, "a dry run", DryRun=True, **parameters)
    else:
        wipe(proof.ask_for_key(operation, "a dry run", DryRun=True, **parameters)[1])


def _spoken(operation: str) -> str:
    return operation.title().replace("_", "")


def _both(context: Mapping[str, str]) -> dict[str, Any]:
    return pairs("SourceEncryptionContext", context) | pairs("DestinationEncryptionContext", context)


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
            caller.call(proof.region, "decrypt", "opening it", str(proof.arn), KeyId=proof.arn, **blob, **context)

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


def _refused(proof: Proof, what: str, blob: bytes, context: Mapping[str, str], *by: type[errors.SealwaxError]) -> str:
    """Return who refused: KMS or, before KMS looked, a policy."""
    error = proof.refused(what, lambda: wipe(_decrypt(proof, blob, context)), *_REFUSALS, *by)
    return "policy" if isinstance(error, errors.AccessDeniedError) else "KMS"


def _contexts_refused(proof: Proof, contexts: Mapping[str, Mapping[str, str]]) -> str:
    assert proof.wrapped_key is not None
    blob = proof.wrapped_key.ciphertext
    by = {what: _refused(proof, what, blob, pairs_, errors.AccessDeniedError) for what, pairs_ in contexts.items()}
    if "policy" in by.values():
        # Who may still Decrypt with the right context is denied for the wrong one, and not altogether.
        wipe(_decrypt(proof, blob, proof.context))
    return "; ".join(f"{what}: refused by {who}" for what, who in by.items())


@check("context-wrong", "KMS refuses another context", needs=[decrypt], requests=1)
def context_wrong(proof: Proof) -> str:
    return _contexts_refused(proof, {"another context": wrong(proof.context)})


def wrong(context: Mapping[str, str]) -> dict[str, str]:
    near = [dict.fromkeys(context, value) for value in ("sealwax-prove-other", "?")] if context else []
    return next(one for one in (*near, {"sealwax-prove": "other"}) if one != context and _possible(one))


def _possible(context: Mapping[str, str]) -> bool:
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
        raise NotShown("the samples are bound to no context")
    return _contexts_refused(proof, {"no context": {}})


@check(
    "context-altered",
    "KMS refuses a context that differs in one character or one pair",
    needs=[decrypt],
    requests=lambda proof: len(altered(proof.context)) if proof.context else 0,
)
def context_altered(proof: Proof) -> str:
    if not proof.context:
        raise NotShown("the samples are bound to no context")
    near = altered(proof.context)
    if not near:
        raise NotShown("the context is too large to be altered a little")
    return _contexts_refused(proof, near)


def altered(context: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what is near to a context and is not it."""
    name, value = next(iter(context.items()))
    changed = value[:-1] + ("x" if value[-1:] != "x" else "y")
    more = "sealwax-prove" if "sealwax-prove" not in context else "sealwax-prove-more"
    found = {"one character": {**context, name: changed}}
    if more not in context:
        found["one pair more"] = {**context, more: ""}
    if len(context) > 1:
        found["one pair less"] = {key: value for key, value in context.items() if key != name}
    return {what: one for what, one in found.items() if _possible(one)}


@check("tampered-wrapped-key", "KMS refuses a wrapped key with a flipped bit", needs=[decrypt], requests=3)
def tampered_wrapped_key(proof: Proof) -> str:
    assert proof.wrapped_key is not None
    blob = proof.wrapped_key.ciphertext
    for at in (0, len(blob) // 2, len(blob) - 1):
        _refused(proof, f"a wrapped key with a bit of byte {at} flipped", flipped(blob, at), proof.context)
    return "first, middle and last byte"


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
