"""A program that reads and writes other formats, and then waits: ``foreign.py SCENARIO FOLDER [MODULE ...]``.

The folder has objects and files that another process has made. In each MODULE, nothing is wiped.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import sealwax
from sealwax._core.messages import MessageSealer
from sealwax._core.objects import fields_of
from sealwax._core.rewrap import RewrapsObjects
from tests.memory.program import CONTEXT, TEXT

KEY = "alias/one"
LEGACY = ["s3ec-v2", "envkms01"]
# Programs that keep errors keep their frames, and what their variables hold.
held: list[Exception] = []
unwiped: list[bytearray] = []
Act = Callable[[], object]


class Object(io.BytesIO):
    """An object that is open as a file, as a store opens it."""

    def __init__(self, data: bytes, metadata: dict[str, str]) -> None:
        super().__init__(data)
        self.metadata = metadata

    def instructions(self) -> None:
        return None


def refused(act: Act) -> None:
    try:
        act()
    except sealwax.SealwaxError as error:
        held.append(error)
    else:
        raise AssertionError("a damaged one was read")


def read(tool: sealwax.Sealer, make: Callable[[], io.BytesIO]) -> None:
    """Read it in each way."""
    with tool.open(make(), context=CONTEXT) as file:
        assert file.read() == TEXT
    with tool.open_stream(make(), context=CONTEXT) as file:
        assert file.read() == TEXT
    assert tool.verify(make(), context=CONTEXT) == len(TEXT)


def s3ec(folder: Path) -> None:
    tool = sealwax.Sealer(sealwax.KmsKeyring(KEY), allow_legacy=LEGACY)
    rewrap = cast("RewrapsObjects", tool.rewrapper(to="alias/two", context=CONTEXT, verify=True))
    for path in sorted(folder.glob("*.json")):
        metadata, body = json.loads(path.read_text()), path.with_suffix("").read_bytes()
        read(tool, lambda: Object(body, metadata))  # noqa: B023
        fields = fields_of(Object(body, metadata))
        assert rewrap.rewrap_object(fields, lambda: Object(body, metadata))  # noqa: B023
        damaged = body[:-1] + bytes((body[-1] ^ 1,))
        refused(lambda: tool.verify(Object(damaged, metadata), context=CONTEXT))  # noqa: B023
        refused(lambda: tool.open_stream(Object(damaged, metadata), context=CONTEXT).read())  # noqa: B023
        if "x-amz-d" in metadata:
            other = {**metadata, "x-amz-i": metadata["x-amz-i"].translate(str.maketrans("AB", "BA"))}
            other["x-amz-d"] = "A" * 38 + "=="
            refused(lambda: rewrap.rewrap_object(fields_of(Object(body, other)), lambda: Object(body, other)))  # noqa: B023


def esdk(folder: Path) -> None:
    keyring = sealwax.KmsKeyring(KEY)
    tool, writer = sealwax.Sealer(keyring), MessageSealer(keyring)
    value = writer.encrypt(TEXT, context=CONTEXT)
    (folder / "1.esdk").write_bytes(value)
    sink = io.BytesIO()
    with writer.open(sink, context=CONTEXT) as file:
        file.write(TEXT)
    (folder / "2.esdk").write_bytes(sink.getvalue())
    for message in (value, sink.getvalue()):
        assert tool.decrypt(message, context=CONTEXT) == TEXT
        read(tool, lambda: io.BytesIO(message))  # noqa: B023
        damaged = message[:-1] + bytes((message[-1] ^ 1,))
        refused(lambda: tool.decrypt(damaged, context=CONTEXT))  # noqa: B023
        refused(lambda: tool.open(io.BytesIO(damaged), context=CONTEXT).read())  # noqa: B023
        refused(lambda: tool.open_stream(io.BytesIO(damaged), context=CONTEXT).read())  # noqa: B023


def scripts(folder: Path) -> None:
    for name, context in (("envkms01", CONTEXT), ("boto3-fernet", sealwax.NO_CONTEXT)):
        tool = sealwax.Sealer(sealwax.KmsKeyring(KEY), allow_legacy=[name])
        data = (folder / name).read_bytes()
        damaged = data[:-8] + b"AAAA" + data[-4:]
        assert tool.decrypt(data, context=context) == TEXT
        refused(lambda: tool.decrypt(damaged, context=context))  # noqa: B023
        if name == "envkms01":  # as a file, the other one needs a wrapped key that looks like one of AWS
            read(tool, lambda: io.BytesIO(data))  # noqa: B023
            refused(lambda: tool.open(io.BytesIO(damaged), context=context).read())  # noqa: B023


SCENARIOS: dict[str, Callable[[Path], None]] = {"s3ec": s3ec, "esdk": esdk, "scripts": scripts}


def main() -> None:
    scenario, folder, *modules = sys.argv[1:]
    for name in modules:
        vars(importlib.import_module(name))["wipe"] = unwiped.append
    SCENARIOS[scenario](Path(folder))
    print("done", os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
