"""Checks of envelopes: what the library encrypts with a data key, and what it refuses to decrypt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core import envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey, wipe
from sealwax.prove._proof import SAMPLE, Failed, NotShown, Proof, check
from sealwax.prove._requests import altered, decrypt, flipped, generate_data_key, wrong

T = TypeVar("T")

_DECRYPT: Final = "Sealer.decrypt"


class FixedKeyring:
    """A keyring with one given data key. It does not call KMS."""

    def __init__(self, data_key: DataKey, wrapped_key: WrappedKey) -> None:
        self._data_key = data_key
        self._wrapped_key = wrapped_key

    def generate(
        self,
        context: Mapping[str, str],  # noqa: ARG002
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,  # noqa: ARG002
    ) -> T:
        with self._data_key.duplicate() as lent:
            return use(lent, (self._wrapped_key,))

    def unwrap(
        self,
        wrapped_keys: Sequence[WrappedKey],  # noqa: ARG002
        context: Mapping[str, str],  # noqa: ARG002
        use: Callable[[DataKey], T],
    ) -> T:
        with self._data_key.duplicate() as lent:
            return use(lent)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        raise NotImplementedError


def _fixed_keyring(proof: Proof) -> FixedKeyring:
    assert proof.data_key is not None
    assert proof.wrapped_key is not None
    return FixedKeyring(proof.data_key, proof.wrapped_key)


def derive(data_key: DataKey, header: hdr.Header, head: bytes) -> tuple[bytearray, bytes, bytes]:
    """Derive an envelope's payload key, which the caller wipes, its base nonce and its commitment.

    This follows the specification of the format, and shares no code with the library's reader.

    Args:
        head: the first 56 bytes of the payload.
    """
    preamble = header.preamble
    info = payload.info(preamble.suite, preamble.envelope_id, preamble.kms_context, ctx.EMPTY)
    salt = head[: payload.SALT_BYTES]
    derived = bytearray(76)
    HKDFExpand(hashes.SHA512(), 76, payload.LABEL + salt + info).derive_into(data_key.buffer, derived)
    try:
        with memoryview(derived) as view:
            return bytearray(view[:32]), bytes(view[32:44]), bytes(view[44:])
    finally:
        wipe(derived)


@check("local-encryption", "the data key encrypts and decrypts locally with AES-256-GCM", needs=[generate_data_key])
def local_encryption(proof: Proof) -> str:
    sealer = proof.options.parts.sealer(_fixed_keyring(proof))
    sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
    proof.record("Sealer.encrypt")
    if SAMPLE[:32] in sealed:
        raise Failed("the envelope contains the sample in plaintext")
    if sealer.decrypt(sealed, context=proof.to_bind) != SAMPLE:
        raise Failed("the envelope decrypts to other data")
    proof.record(_DECRYPT)
    if _decrypt_independently(proof, sealed) != SAMPLE:
        raise Failed("plain AES-256-GCM decrypts it to other data")
    proof.record("AESGCM.decrypt")
    return f"{len(SAMPLE)} bytes, decrypted by sealwax and by plain AES-256-GCM"


def _decrypt_independently(proof: Proof, sealed: bytes) -> bytes:
    assert proof.data_key is not None
    header = envelope.inspect(sealed).header
    body = sealed[header.preamble.payload_offset :]
    head, chunks = body[: payload.HEAD_BYTES], body[payload.HEAD_BYTES :]
    key, nonce, commitment = derive(proof.data_key, header, head)
    try:
        if head[payload.SALT_BYTES :] != commitment:
            raise Failed("the commitment is not that of the data key")
        aead = AESGCM(key)
        plaintext = b""
        for number, at in enumerate(range(0, len(chunks), payload.SEALED_CHUNK_BYTES)):
            chunk_nonce = (int.from_bytes(nonce, "big") ^ number).to_bytes(12, "big")
            plaintext += aead.decrypt(chunk_nonce, chunks[at : at + payload.SEALED_CHUNK_BYTES], None)
    except InvalidTag:
        raise Failed("a chunk is not encrypted with AES-256-GCM under the data key") from None
    finally:
        wipe(key)
    return plaintext


@check(
    "context-in-payload",
    "with the right data key and another context, the payload does not decrypt",
    needs=[local_encryption],
)
def context_in_payload(proof: Proof) -> str:
    sealer = proof.options.parts.sealer(_fixed_keyring(proof))
    sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
    other = wrong(proof.context)
    forged = _with(sealed, kms_context=ctx.encode(other))
    error = proof.refused(
        "a payload under another context",
        lambda: sealer.decrypt(forged, context=other),
        errors.CommitmentError,
    )
    proof.record(_DECRYPT, error)
    return "a header with another context: CommitmentError"


def _with(
    sealed: bytes, *, kms_context: bytes | None = None, wrapped_keys: Sequence[WrappedKey] | None = None
) -> bytes:
    """Return an envelope with the same payload and another header."""
    header = envelope.inspect(sealed).header
    forged = hdr.lay_out(
        envelope_id=header.preamble.envelope_id,
        kms_context=header.preamble.kms_context if kms_context is None else kms_context,
        local_pairs=header.preamble.local_pairs,
        wrapped_keys=header.slot.wrapped_keys if wrapped_keys is None else wrapped_keys,
        slot_count=1,
    )
    return forged.to_bytes() + sealed[header.preamble.payload_offset :]


@check(
    "tampered-ciphertext",
    "an altered, truncated or extended payload does not decrypt",
    needs=[local_encryption],
)
def tampered_ciphertext(proof: Proof) -> str:
    sealer = proof.options.parts.sealer(_fixed_keyring(proof))
    sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
    start = envelope.inspect(sealed).header.preamble.payload_offset
    first = start + payload.HEAD_BYTES
    second = first + payload.SEALED_CHUNK_BYTES
    third = second + payload.SEALED_CHUNK_BYTES
    tampered = {
        "another salt": flipped(sealed, start),
        "another commitment": flipped(sealed, start + payload.SALT_BYTES),
        "a flipped bit in a chunk": flipped(sealed, first + 100),
        "a flipped bit in a tag": flipped(sealed, len(sealed) - 1),
        "two swapped chunks": sealed[:first] + sealed[second:third] + sealed[first:second] + sealed[third:],
        "a payload without its last chunk": sealed[:third],
        "a payload without its last byte": sealed[:-1],
        "a payload with an extra byte": sealed + b"\0",
    }
    for what, data in tampered.items():
        error = proof.refused(what, partial(sealer.decrypt, data, context=proof.to_bind), errors.PayloadError)
        proof.record(_DECRYPT, error)
    return f"{len(tampered)} ways of tampering, all refused"


@check("round-trip", "an envelope encrypted with KMS decrypts with KMS", needs=[local_encryption, decrypt], requests=2)
def round_trip(proof: Proof) -> str:
    sealer = proof.sealer()
    sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
    if sealer.decrypt(sealed, context=proof.to_bind) != SAMPLE:
        raise Failed("the envelope decrypts to other data")
    proof.sealed = sealed
    return f"{len(SAMPLE)} bytes in an envelope of {len(sealed)}"


@check(
    "context-at-envelope",
    "a wrong, missing or altered context is refused before KMS is called",
    needs=[round_trip],
)
def context_at_envelope(proof: Proof) -> str:
    sealer = proof.sealer()
    contexts: dict[str, Mapping[str, str] | ctx.NoContext] = {"a wrong context": wrong(proof.context)}
    if proof.context:
        contexts |= {"a missing context": ctx.NO_CONTEXT, **altered(proof.context)}
    for what, context in contexts.items():
        error = proof.refused(what, partial(sealer.decrypt, proof.sealed, context=context), errors.ContextError)
        proof.record(_DECRYPT, error)
    if any(item.is_request for item in proof.evidence):
        raise Failed("KMS was called although the context could not be right")
    return f"{len(contexts)} wrong contexts refused without calling KMS"


@check(
    "swapped-wrapped-key",
    "another envelope's wrapped key, which KMS decrypts, does not decrypt the payload",
    needs=[round_trip],
    requests=1,
)
def swapped_wrapped_key(proof: Proof) -> str:
    if proof.wrapped_key is None:
        raise NotShown("there is no other wrapped key")
    sealer = proof.sealer()
    swapped = _with(proof.sealed, wrapped_keys=[proof.wrapped_key])
    error = proof.refused(
        "a swapped wrapped key", lambda: sealer.decrypt(swapped, context=proof.to_bind), errors.CommitmentError
    )
    proof.record(_DECRYPT, error)
    if not any(item.is_request and item.error is None for item in proof.evidence):
        raise NotShown("KMS did not decrypt the other wrapped key")
    return "KMS decrypted it, and the payload's commitment refused it"
