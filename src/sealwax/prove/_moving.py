"""Checks of re-wrapping: under the same key, under another key, after a rotation, and in another Region."""

from __future__ import annotations

import time
from typing import Final

from sealwax import errors
from sealwax._aws.responses import Answer
from sealwax._core import envelope
from sealwax._text import printable
from sealwax.prove._envelopes import round_trip
from sealwax.prove._proof import SAMPLE, UNANSWERED, Failed, NotShown, Proof, check

# According to KMS, most rotations finish within a minute. Each poll costs a request.
_POLL_SECONDS: Final = 2.0


def _rewrapped(proof: Proof, to: str) -> bytes:
    """Return the envelope re-wrapped under ``to``; only its wrapped key may change.

    Raises:
        Failed: something else changed, or the wrapped key did not.
    """
    moved = proof.sealer().rewrap(proof.sealed, to=to, context=proof.to_bind)
    before, after = envelope.inspect(proof.sealed), envelope.inspect(moved)
    if _payload(moved) != _payload(proof.sealed):
        raise Failed("the payload changed")
    if before.wrapped_keys[0].ciphertext == after.wrapped_keys[0].ciphertext:
        raise Failed("the wrapped key did not change")
    if proof.sealer(after.wrapped_keys[0].key_arn).decrypt(moved, context=proof.to_bind) != SAMPLE:
        raise Failed("the envelope decrypts to other data")
    return moved


def _payload(sealed: bytes) -> bytes:
    return sealed[envelope.inspect(sealed).header.preamble.payload_offset :]


@check("reencrypt-same-key", "an envelope re-wrapped under the same key decrypts", needs=[round_trip], requests=2)
def reencrypt_same_key(proof: Proof) -> str:
    _rewrapped(proof, proof.key)
    return "by ReEncrypt: the wrapped key changed, the payload did not"


@check(
    "reencrypt-other-key",
    "an envelope re-wrapped under another key decrypts with that key",
    needs=[round_trip],
    requests=lambda proof: 0 if proof.options.to is None else 2,
)
def reencrypt_other_key(proof: Proof) -> str:
    if proof.options.to is None:
        raise NotShown("this needs another key", option="to")
    moved = _rewrapped(proof, proof.options.to)
    arn = envelope.inspect(moved).wrapped_keys[0].key_arn
    if arn == proof.arn:
        raise NotShown(f"'{printable(proof.options.to)}' is the same key; give another one")
    return f"under '{arn}', by ReEncrypt: the payload did not change"


@check(
    "rotation",
    "after a rotation, an old envelope decrypts, and a re-wrap moves it to the new key material",
    needs=[round_trip],
    requests=lambda proof: 6 if proof.options.allow_changes else 0,
)
def rotation(proof: Proof) -> str:
    if not proof.options.allow_changes:
        raise NotShown("this rotates the key, which cannot be undone", option="allow_changes")
    old = _material(proof)
    try:
        proof.ask("rotate_key_on_demand", "rotating the key", proof.arn)  # it does not take an alias
    except errors.RequestRefusedError as error:  # its 25 rotations are used up, or one is in progress
        raise NotShown(str(error)) from None
    deadline = time.monotonic() + proof.options.rotation_timeout
    while (new := _material(proof)) == old:
        if time.monotonic() > deadline:
            raise NotShown(f"the rotation took longer than {proof.options.rotation_timeout:g} seconds")
        time.sleep(_POLL_SECONDS)
    if proof.sealer().decrypt(proof.sealed, context=proof.to_bind) != SAMPLE:
        raise Failed("an envelope from before the rotation decrypts to other data")
    moved = envelope.inspect(_rewrapped(proof, proof.key)).wrapped_keys[0].key_material_id.hex()
    if moved != new:
        raise Failed(f"the re-wrapped envelope is under key material {moved or 'without an ID'}, not {new}")
    return f"from key material {old[:12]}... to {new[:12]}..."


def _material(proof: Proof) -> str:
    material = _metadata(proof).get("CurrentKeyMaterialId")
    if not isinstance(material, str) or not material:
        raise NotShown("KMS did not return the ID of the key's material")
    return material


def _metadata(proof: Proof) -> Answer:
    return proof.ask("describe_key", "kms:DescribeKey").optional_part("KeyMetadata")


@check(
    "replicas",
    "an envelope decrypts in every Region that has a replica of the key",
    needs=[round_trip],
    requests=1,
)
def replicas(proof: Proof) -> str:
    family = _metadata(proof).get("MultiRegionConfiguration")
    if family is None:
        raise NotShown("the key is not a multi-Region key")
    members = (family.get("PrimaryKey") or {}, *(family.get("ReplicaKeys") or ()))
    arns = [arn for member in members if isinstance(arn := member.get("Arn"), str) and arn != proof.arn]
    if not arns:
        raise NotShown("the key has no replica")
    failures: list[str] = []
    unanswered: errors.SealwaxError | None = None
    for arn in arns:
        try:
            if proof.sealer(arn).decrypt(proof.sealed, context=proof.to_bind) != SAMPLE:
                failures.append(f"{arn}: the envelope decrypts to other data")
        except UNANSWERED as error:
            unanswered = error
        except errors.SealwaxError as error:
            failures.append(str(error))
    if failures:
        raise Failed("; ".join(failures))
    if unanswered is not None:
        raise unanswered
    return f"decrypted in {', '.join(sorted(arn.split(':')[3] for arn in arns))}"
