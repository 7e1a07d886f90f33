"""Checks of moving envelopes: to another key, to new key material, to another Region."""

from __future__ import annotations

import time
from typing import Any, Final

from sealwax import errors
from sealwax._core import envelope
from sealwax._core.context import printable
from sealwax.prove._envelopes import round_trip
from sealwax.prove._proof import NOT_ASKED, SAMPLE, Failed, NotShown, Proof, check

# KMS says that it finishes most rotations within a minute; each look costs a request.
_PAUSE_SECONDS: Final = 2.0


def _rewrapped(proof: Proof, to: str) -> bytes:
    """Return the envelope under ``to``, once it is seen that nothing but its wrapped key has changed.

    Raises:
        Failed: it has, or its wrapped key has not.
    """
    moved = proof.sealer().rewrap(proof.sealed, to=to, context=proof.to_bind)
    before, after = envelope.inspect(proof.sealed), envelope.inspect(moved)
    if _payload(moved) != _payload(proof.sealed):
        raise Failed("the payload changed")
    if before.wrapped_keys[0].ciphertext == after.wrapped_keys[0].ciphertext:
        raise Failed("the wrapped key did not change")
    if proof.sealer(after.wrapped_keys[0].key_arn).decrypt(moved, context=proof.to_bind) != SAMPLE:
        raise Failed("the sample did not come back")
    return moved


def _payload(sealed: bytes) -> bytes:
    return sealed[envelope.inspect(sealed).header.preamble.payload_offset :]


@check("reencrypt-same-key", "re-wrapped under the same key, an envelope opens", needs=[round_trip], requests=2)
def reencrypt_same_key(proof: Proof) -> str:
    _rewrapped(proof, proof.key)
    return "by ReEncrypt; another wrapped key, the same payload"


@check(
    "reencrypt-other-key",
    "re-wrapped under another key, an envelope opens with that one",
    needs=[round_trip],
    requests=lambda proof: 0 if proof.options.to is None else 2,
)
def reencrypt_other_key(proof: Proof) -> str:
    if proof.options.to is None:
        raise NotShown("no other key was named: give --to")
    moved = _rewrapped(proof, proof.options.to)
    arn = envelope.inspect(moved).wrapped_keys[0].key_arn
    if arn == proof.arn:
        raise NotShown(f"'{printable(proof.options.to)}' is the same key: name another with --to")
    return f"under '{arn}', by ReEncrypt; the same payload"


@check(
    "rotation",
    "after a rotation an old envelope opens, and a re-wrap moves it to the new key material",
    needs=[round_trip],
    requests=lambda proof: 6 if proof.options.allow_changes else 0,
)
def rotation(proof: Proof) -> str:
    if not proof.options.allow_changes:
        raise NotShown("a rotation cannot be undone: allow it with --allow-changes")
    old = _material(proof)
    try:
        proof.ask("rotate_key_on_demand", "rotating the key", proof.arn)  # which takes no alias
    except errors.RequestRefusedError as error:  # its 25 rotations are used up, or one is under way
        raise NotShown(str(error)) from None
    deadline = time.monotonic() + proof.options.patience
    while (new := _material(proof)) == old:
        if time.monotonic() > deadline:
            raise NotShown(f"the rotation took longer than {proof.options.patience:g} s")
        time.sleep(_PAUSE_SECONDS)
    if proof.sealer().decrypt(proof.sealed, context=proof.to_bind) != SAMPLE:
        raise Failed("an envelope of before the rotation did not open")
    moved = envelope.inspect(_rewrapped(proof, proof.key)).wrapped_keys[0].key_material_id.hex()
    if moved != new:
        raise Failed(f"the re-wrapped envelope is under key material {moved or 'of no name'}, not {new}")
    return f"from key material {old[:12]}... to {new[:12]}..."


def _material(proof: Proof) -> str:
    material = _described(proof).get("CurrentKeyMaterialId")
    if not isinstance(material, str) or not material:
        raise NotShown("KMS names no key material for this key")
    return material


def _described(proof: Proof) -> dict[str, Any]:
    return proof.ask("describe_key", "describing the key").get("KeyMetadata") or {}


@check(
    "replicas",
    "an envelope opens in every Region that has a replica of the key",
    needs=[round_trip],
    requests=1,
)
def replicas(proof: Proof) -> str:
    family = _described(proof).get("MultiRegionConfiguration")
    if family is None:
        raise NotShown("it is no multi-Region key")
    members = (family.get("PrimaryKey") or {}, *(family.get("ReplicaKeys") or ()))
    arns = [arn for member in members if isinstance(arn := member.get("Arn"), str) and arn != proof.arn]
    if not arns:
        raise NotShown("it has no replica")
    failures: list[str] = []
    unasked: errors.SealwaxError | None = None
    for arn in arns:
        try:
            if proof.sealer(arn).decrypt(proof.sealed, context=proof.to_bind) != SAMPLE:
                failures.append(f"{arn}: the sample did not come back")
        except NOT_ASKED as error:
            unasked = error
        except errors.SealwaxError as error:
            failures.append(str(error))
    if failures:
        raise Failed("; ".join(failures))
    if unasked is not None:
        raise unasked
    return f"opened in {', '.join(sorted(arn.split(':')[3] for arn in arns))}"
