"""A program that uses sealwax, and then waits while its memory is read: ``program.py SCENARIO COUNT DIR [BREAK]``.

BREAK doctors the library in this process: ``all`` takes the whole hygiene out, the others one part of it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sealwax
from sealwax import keyring
from sealwax.format import payload
from sealwax.kms import hygiene

CONTEXT = {"purpose": "scan"}
KEYS = ["alias/one", "alias/two", "alias/three"]
TEXT = b"plaintext is not what is looked for"


def sealer(*keys: str) -> sealwax.Sealer:
    return sealwax.Sealer(sealwax.KmsKeyring(keys or KEYS[:1]))


def encrypt(files: list[Path], *keys: str) -> None:
    tool = sealer(*keys)
    for file in files:
        file.write_bytes(tool.encrypt(TEXT, context=CONTEXT))


def empty(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        file.write_bytes(tool.encrypt(b"", context=CONTEXT))
        assert tool.decrypt(file.read_bytes(), context=CONTEXT) == b""


def encrypt_cut(files: list[Path]) -> None:
    tool = sealer("alias/cut")
    for file in files:
        try:
            sealed = tool.encrypt(TEXT, context=CONTEXT)
        except sealwax.RequestRefusedError as error:  # plain botocore takes half an answer for an answer
            held.append(error)
            sealed = tool.encrypt(TEXT, context=CONTEXT)
        file.write_bytes(sealed)


def encrypt_chunked(files: list[Path]) -> None:
    encrypt(files, "alias/chunked")


def several(files: list[Path]) -> None:
    encrypt(files, *KEYS)
    for key in KEYS:
        tool = sealwax.Sealer(sealwax.KmsKeyring(KEYS, decrypt_with=[key]))
        for file in files:
            assert tool.decrypt(file.read_bytes(), context=CONTEXT) == TEXT


def second_refused(files: list[Path]) -> None:
    tool = sealer("alias/one", "alias/denied")
    for _ in files:
        try:
            tool.encrypt(TEXT, context=CONTEXT)
        except sealwax.AccessDeniedError as error:
            held.append(error)


def stream(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        with tool.open(file, "wb", context=CONTEXT) as writer:
            for _ in range(5):
                writer.write(bytes(300_000))
        with tool.read_once(file, context=CONTEXT) as reader:
            while reader.read(1 << 16):
                pass


def decrypt(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        assert tool.decrypt(file.read_bytes(), context=CONTEXT) == TEXT


def random_access(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        with tool.open(file, context=CONTEXT) as reader:
            reader.seek(10)
            assert reader.read(5) == TEXT[10:15]


def bad_payload(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        for use in (
            lambda data: tool.decrypt(data, context=CONTEXT),
            lambda data: tool.open(io.BytesIO(data), context=CONTEXT),
        ):
            try:
                use(damaged)
            except sealwax.TamperedError as error:
                held.append(error)


SCENARIOS: dict[str, Callable[[list[Path]], None]] = {
    "encrypt": encrypt,
    "empty": empty,
    "encrypt_cut": encrypt_cut,
    "encrypt_chunked": encrypt_chunked,
    "several": several,
    "second_refused": second_refused,
    "stream": stream,
    "decrypt": decrypt,
    "random_access": random_access,
    "bad_payload": bad_payload,
}
NEEDS_FILES = ("decrypt", "random_access", "bad_payload")

# A program that keeps an error keeps its traceback's frames, and what their variables hold.
held: list[Exception] = []


unwiped: list[bytearray] = []


def nothing(*_: object, **__: object) -> None:
    pass


def take_out_hygiene() -> None:
    exchange: Any = hygiene.Exchange
    hygiene.attach = nothing
    exchange.stand_in = lambda self: bytes(self._secret)
    exchange.check_sent = nothing
    take_out_wipe()


def take_out_wipe() -> None:
    # Kept besides, since what takes the place of a freed buffer is chance.
    for module in (keyring, hygiene, payload):
        module.wipe = unwiped.append  # type: ignore[attr-defined]


def take_out_registers() -> None:
    payload._leave_no_registers = lambda: None


def main() -> None:
    scenario, count, folder, *broken = sys.argv[1:]
    for name in broken:
        {
            "all": take_out_hygiene,
            "wipe": take_out_wipe,
            "registers": take_out_registers,
        }[name]()
    SCENARIOS[scenario]([Path(folder) / f"{index}.swx" for index in range(int(count))])
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
