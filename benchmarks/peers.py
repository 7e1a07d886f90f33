"""The others, each behind the same few functions: a value or a stream there and back."""

from __future__ import annotations

import io
import os
from typing import Any, Final, Protocol

import aws_encryption_sdk
import pyrage
import tink
from aws_encryption_sdk.caches.local import LocalCryptoMaterialsCache
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider
from aws_encryption_sdk.materials_managers.caching import CachingCryptoMaterialsManager
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from tink import aead, streaming_aead

MIB: Final = 1 << 20
CONTEXT: Final = {"purpose": "bench"}
_AAD: Final = b"purpose=bench"


class Source(io.RawIOBase):
    """``count`` times the same MiB, read front to back."""

    def __init__(self, block: bytes, count: int) -> None:
        self._block = block
        self._left = count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        self._left -= 1
        buffer[:MIB] = self._block
        return MIB

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            return b""
        assert size >= MIB
        self._left -= 1
        return self._block


class Sink(io.RawIOBase):
    """Counts what is written to it."""

    def __init__(self) -> None:
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        return size


class Peer(Protocol):
    def encrypt(self, value: bytes) -> bytes: ...

    def decrypt(self, sealed: bytes) -> bytes: ...

    def encrypt_stream(self, block: bytes, count: int) -> None: ...

    def decrypt_stream(self, sealed: bytes) -> None: ...

    def seal_stream(self, block: bytes, count: int) -> bytes:
        """Return what :meth:`decrypt_stream` opens."""
        ...


class Cobblestone:
    """The construction alone, from pyca/cryptography."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def encrypt(self, value: bytes) -> bytes:
        encryptor = Cobblestone256Encryptor(self._key, _AAD)
        return b"".join((encryptor.update(value), encryptor.finalize()))

    def decrypt(self, sealed: bytes) -> bytes:
        decryptor = Cobblestone256Decryptor(self._key, _AAD)
        return b"".join((decryptor.update(sealed), decryptor.finalize()))

    def encrypt_stream(self, block: bytes, count: int) -> None:
        encryptor, sink, out = Cobblestone256Encryptor(self._key, _AAD), Sink(), bytearray(2 * MIB)
        with memoryview(out) as view:
            for _ in range(count):
                sink.write(view[: encryptor.update_into(block, out)])
        sink.write(encryptor.finalize())

    def decrypt_stream(self, sealed: bytes) -> None:
        decryptor, sink, out = Cobblestone256Decryptor(self._key, _AAD), Sink(), bytearray(2 * MIB)
        with memoryview(sealed) as source, memoryview(out) as view:
            for at in range(0, len(sealed), MIB):
                sink.write(view[: decryptor.update_into(source[at : at + MIB], out)])
        sink.write(decryptor.finalize())

    def seal_stream(self, block: bytes, count: int) -> bytes:
        return self.encrypt(block * count)


class _StaticKey(RawMasterKeyProvider):
    provider_id = "bench"

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self._wrapping_key = os.urandom(32)

    def _get_raw_key(self, key_id: bytes) -> WrappingKey:  # noqa: ARG002  its signature
        return WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
            wrapping_key=self._wrapping_key,
            wrapping_key_type=EncryptionKeyType.SYMMETRIC,
        )


class AwsEncryptionSdk:
    """aws-encryption-sdk with a static wrapping key."""

    def __init__(self, algorithm: Algorithm, *, caching: bool = False) -> None:
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self._algorithm = algorithm
        provider = _StaticKey()
        provider.add_master_key("static")
        self._keys: dict[str, Any] = {"key_provider": provider}
        if caching:
            manager = CachingCryptoMaterialsManager(
                master_key_provider=provider, cache=LocalCryptoMaterialsCache(2000), max_age=3600.0
            )
            self._keys = {"materials_manager": manager}

    def encrypt(self, value: bytes, context: dict[str, str] = CONTEXT) -> bytes:
        sealed, _ = self._client.encrypt(
            source=value, **self._keys, algorithm=self._algorithm, encryption_context=context
        )
        return bytes(sealed)

    def decrypt(self, sealed: bytes) -> bytes:
        value, _ = self._client.decrypt(source=sealed, **self._keys)
        return bytes(value)

    def encrypt_stream(self, block: bytes, count: int) -> None:
        self._pump(
            mode="e",
            source=io.BufferedReader(Source(block, count), MIB),
            algorithm=self._algorithm,
            encryption_context=CONTEXT,
            source_length=len(block) * count,
        )

    def decrypt_stream(self, sealed: bytes) -> None:
        self._pump(mode="d", source=io.BytesIO(sealed))

    def _pump(self, **options: Any) -> None:
        sink = Sink()
        with self._client.stream(**self._keys, **options) as stream:
            while part := stream.read(MIB):
                sink.write(part)

    def seal_stream(self, block: bytes, count: int) -> bytes:
        return self.encrypt(block * count)


class Tink:
    """tink with one keyset for everything."""

    def __init__(self) -> None:
        aead.register()
        streaming_aead.register()
        self._values = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
        self._streams = tink.new_keyset_handle(
            streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
        ).primitive(streaming_aead.StreamingAead)

    def encrypt(self, value: bytes) -> bytes:
        return self._values.encrypt(value, _AAD)

    def decrypt(self, sealed: bytes) -> bytes:
        return self._values.decrypt(sealed, _AAD)

    def _encrypt_to(self, sink: Any, block: bytes, count: int) -> None:
        with self._streams.new_encrypting_stream(sink, _AAD) as stream:
            for _ in range(count):
                stream.write(block)

    def encrypt_stream(self, block: bytes, count: int) -> None:
        self._encrypt_to(Sink(), block, count)

    def decrypt_stream(self, sealed: bytes) -> None:
        sink = Sink()
        with self._streams.new_decrypting_stream(io.BytesIO(sealed), _AAD) as stream:
            while part := stream.read(MIB):
                sink.write(part)

    def seal_stream(self, block: bytes, count: int) -> bytes:
        kept = _Kept()
        self._encrypt_to(kept, block, count)
        return kept.value


class _Kept(io.BytesIO):
    """Keeps its value when it is closed, which tink does."""

    value = b""

    def close(self) -> None:
        if not self.closed:
            self.value = self.getvalue()
        super().close()


class Age:
    """pyrage to one X25519 recipient."""

    def __init__(self) -> None:
        self._identity = pyrage.x25519.Identity.generate()
        self._recipient = self._identity.to_public()

    def encrypt(self, value: bytes) -> bytes:
        return pyrage.encrypt(value, [self._recipient])

    def decrypt(self, sealed: bytes) -> bytes:
        return pyrage.decrypt(sealed, [self._identity])

    def encrypt_stream(self, block: bytes, count: int) -> None:
        pyrage.encrypt_io(io.BufferedReader(Source(block, count), MIB), Sink(), [self._recipient])

    def decrypt_stream(self, sealed: bytes) -> None:
        pyrage.decrypt_io(io.BytesIO(sealed), Sink(), [self._identity])

    def seal_stream(self, block: bytes, count: int) -> bytes:
        return self.encrypt(block * count)


def all_peers() -> dict[str, Peer]:
    return {
        "Cobblestone": Cobblestone(),
        "aws-encryption-sdk unsigned": AwsEncryptionSdk(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY),
        "aws-encryption-sdk default": AwsEncryptionSdk(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384),
        "tink": Tink(),
        "pyrage": Age(),
    }


def caching_peers() -> dict[str, Peer]:
    """Those that need no call for a new data key, or no data key at all."""
    return {
        "Cobblestone": Cobblestone(),
        "aws-encryption-sdk caching, unsigned": AwsEncryptionSdk(
            Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY, caching=True
        ),
        "aws-encryption-sdk caching, default": AwsEncryptionSdk(
            Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384, caching=True
        ),
        "tink": Tink(),
    }
