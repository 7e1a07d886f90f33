"""``python -m fuzz.seeds``: write the seeds of the kept corpus, real envelopes and the edges of each form again."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.foreign import samples
from tests.foreign.s3ec import CBC
from tests.foreign.s3ec import make as make_object
from tests.foreign.scripts import sized
from tests.records.make_vectors import VALUES

from fuzz import CORPUS, TARGETS, esdk, s3ec, scripts
from fuzz import payload as payloads
from fuzz.key_row import made
from fuzz.record import sealed
from sealwax._core import context as ctx
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.foreign.rules import ENVKMS_MAGIC
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.format.armor import armor
from sealwax._core.keyring import WrappedKey
from sealwax.records._form import to_text
from sealwax.records._values import encode

_ARN: Final = "arn:aws:kms:eu-central-1:111122223333:key/mrk-0a0a0a0a00004000800000000000000a"
_KEYS: Final = (
    WrappedKey(_ARN, bytes(184), bytes(range(32)), 1_800_000_000),
    WrappedKey(_ARN.replace("eu-central-1", "us-east-1"), b"short"),
    WrappedKey("who knows", b"", b"any length", hdr.MAX_TIME + 1, provider=9),
)
_CONTEXTS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"purpose": "backup"},
    {"Größe": "\u202edlrow", "id": "", "tenant": "a" * 300},
    {f"name {number:02}": str(number) for number in range(64)},
    {"Case": "1", "case": "2"},
)


def _headers() -> Iterator[bytes]:
    for count in range(1, 4):
        for slot_count in (1, 2):
            for kind in (hdr.ATTACHED, hdr.DETACHED):
                yield hdr.lay_out(
                    envelope_id=bytes(range(16)),
                    kms_context=ctx.encode(_CONTEXTS[count]),
                    local_pairs=count - 1,
                    wrapped_keys=_KEYS[:count],
                    slot_count=slot_count,
                    kind=kind,
                ).to_bytes()
    header = hdr.lay_out(
        envelope_id=bytes(16),
        kms_context=ctx.encode({"a": "b"}),
        local_pairs=0,
        wrapped_keys=_KEYS[:1],
        slot_count=2,
    )
    first, other = header.slot, replace(header.slot, wrapped_keys=_KEYS[1:2])
    newer = replace(other, sequence=hdr.MAX_SEQUENCE)
    for slots in ((first, newer), (newer, first), (first, other)):
        yield replace(header, slots=slots).to_bytes()
    torn = bytearray(header.to_bytes())
    torn[header.preamble.slot_offset + 50] ^= 1
    yield bytes(torn)


def _payloads() -> Iterator[bytes]:
    for size in payloads.SIZES[:6]:
        yield b"\0" + payloads.sealed(payloads.PLAINTEXT[:size], bytes(range(payload.SALT_BYTES)))
    for number in range(len(payloads.SIZES)):
        yield bytes((1, number))
        for what in range(7):
            yield bytes((1, number, what, 0x41, 0x50, 7))


def _records() -> Iterator[bytes]:
    frozen = json.loads((CORPUS.parents[1] / "tests/vectors/records.json").read_text("utf-8"))["groups"][0]["records"]
    yield from (value for value in map(encode, VALUES) if len(value) < 100)
    for vector in frozen[:3]:
        yield bytes.fromhex(vector["binary"])
        yield vector["text"].encode()
    for plaintext in (b"", b"\1value", b"\x08null", b"\x08" + b"[" * 2000, b"\x03\0\1", b"\x041e999999999999"):
        yield sealed(plaintext)
        yield plaintext
    yield to_text(sealed(b"\2text")).encode()


def _objects() -> Iterator[bytes]:
    for how in (
        {"version": 2},
        {"version": 2, "wrapping": "kms"},
        {"version": 2, "cipher": CBC},
        {"version": 3},
    ):
        for instructions in (False, True):
            made = make_object(_Kms(), _ARN, b"hello", {"tenant": "acme"}, instructions=instructions, **how)
            file = b"" if made.instructions is None else json.dumps(made.instructions).encode()
            yield b"\0".join((json.dumps(made.metadata).encode(), file, made.body))
            if made.instructions:
                upper = {name.upper(): value for name, value in made.instructions.items()}
                yield b"\0".join((json.dumps(made.metadata).encode(), json.dumps(upper).encode(), made.body))
                yield b"\0".join((json.dumps({**made.metadata, **made.instructions}).encode(), file, made.body))
    yield json.dumps({"x-amz-key": "AAAA", "x-amz-iv": "AAAA"}).encode()


class _Kms:
    """A KMS whose every data key is the fuzzer's."""

    def generate_data_key(self, **_: object) -> dict[str, bytes]:
        return {"Plaintext": s3ec.KEY, "CiphertextBlob": b"wrapped"}


def _files_of_scripts() -> Iterator[bytes]:
    blob = sized(b"wrapped")
    for text in (b"{}", b"null", b"", b'{"a": "b"}', b'{"a": "b", "a": "c"}', b'{"a": 1}', b'{"\\ud800": "NaN"}'):
        yield ENVKMS_MAGIC + blob + sized(text) + bytes(12) + AESGCM(scripts.KEY).encrypt(bytes(12), b"hello", None)
    token = Fernet(base64.urlsafe_b64encode(scripts.KEY))
    for size in (0, 1, 15, 16, 100):
        yield blob + token.encrypt(bytes(size))


def _seeds(target: str) -> Iterator[bytes]:
    if target == "header":
        yield from _headers()
        # A whole envelope, payload and all.
        yield payloads.HEADER.replace(b"\x02\x01\x01", b"\x01\x01\x01", 1) + payloads.sealed(b"hello", bytes(24))
    elif target == "payload":
        yield from _payloads()
    elif target == "armor":
        for envelope in (b"", b"a", b"ab", b"abc", bytes(range(256)), payloads.HEADER):
            yield armor(envelope).encode()
            yield armor(envelope).encode() + b"="
        yield "swx1:é".encode()
    elif target == "foreign":
        for data in samples.everything(samples.aws_blob()).values():
            yield from (data, base64.b64encode(data), samples.zipped(data))
        for form in (samples.sops_json, samples.sops_yaml, samples.sops_dotenv, samples.sops_ini):
            yield form(samples.ARN, samples.OTHER)
        yield json.dumps(samples.s3ec(3, samples.aws_blob())).encode()
        yield f"A=1\nB={armor(payloads.HEADER)}\n".encode("utf-16")
    elif target == "record":
        yield from _records()
    elif target == "key_row":
        yield made().blob
        yield from (bytes((0, at, flag)) + b"\0\1" for at in range(0, 256, 17) for flag in (0, 1))
        yield payloads.HEADER
    elif target == "esdk":
        for number in SUITES:
            for size, length in ((0, 16), (48, 16), (100, 64), (100, 0)):
                yield esdk.message(number, esdk.PLAINTEXT[:size], length)
    elif target == "s3ec":
        yield from _objects()
    elif target == "scripts":
        yield from _files_of_scripts()
    elif target == "context":
        for pairs in _CONTEXTS:
            yield ctx.encode(pairs)
    else:
        for pairs in _CONTEXTS:
            yield json.dumps(pairs).encode()
            yield json.dumps(pairs, ensure_ascii=False, indent=1).encode()
        yield b'{"a": "\\ud800", "b": "{name}/{relpath}", "c": 1e999, "c": [NaN, -0]}'
        yield b'\xef\xbb\xbf{"a": "b"}'
        yield b"[" * 3000
        yield b"9" * 5000


def main() -> None:
    for target in TARGETS:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for seed in _seeds(target):
            (folder / f"seed-{hashlib.sha256(seed).hexdigest()[:12]}").write_bytes(seed)


if __name__ == "__main__":
    main()
