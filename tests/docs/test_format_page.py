"""The worked example of docs/explanation/format.md is what the library makes; a program without it opens it."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from sealwax import Sealer
from tests.docs.blocks import ROOT, blocks_of
from tests.fakes import FakeKeyring

PAGE = ROOT / "docs/explanation/format.md"


def load(source: str, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__file__"] = str(ROOT / "docs" / f"{name}.py")
    exec(compile(source, name, "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def unseal() -> ModuleType:
    (block,) = [b for b in blocks_of(ROOT / "docs/how-to/open-without-sealwax.md") if b.file == "unseal.py"]
    imported = {
        name
        for node in ast.walk(ast.parse(block.text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not [name for name in imported if name.startswith("sealwax")]
    return load(block.text, "unseal")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load((ROOT / "docs/make_format_dump.py").read_text(encoding="utf-8"), "make_format_dump")


def opened(
    unseal: ModuleType,
    envelope: bytes,
    data_key: bytes,
    context: Mapping[str, str],
    local: Mapping[str, str],
) -> bytes:
    read = cast("Callable[..., Iterator[bytes]]", unseal.open_envelope)

    def unwrap(wrapped_keys: Iterator[tuple[str, bytes]], _: Mapping[str, str]) -> bytes:
        assert list(wrapped_keys)
        return data_key

    return b"".join(read(io.BytesIO(envelope), unwrap, context, local))


def shown() -> tuple[bytes, dict[str, bytes]]:
    """Return the example as the page shows it: the bytes of the dump, and the facts above it."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- worked example: begin -->")[2]
    facts, dump = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    named = dict(re.findall(r"^(\w+(?: \w+)?) +([0-9a-f]+)$", facts, re.MULTILINE))
    envelope = bytearray()
    for line in dump.splitlines():
        assert int(line[:4]) == len(envelope)
        envelope += bytes.fromhex(line[6:53])
    return bytes(envelope), {name: bytes.fromhex(value) for name, value in named.items()}


def test_the_dump_is_what_the_library_makes(maker: ModuleType) -> None:
    envelope, facts = shown()
    assert envelope == maker.build()
    assert facts["data key"] == maker.DATA_KEY
    assert facts["plaintext"] == maker.PLAINTEXT
    assert maker.page() == PAGE.read_text(encoding="utf-8"), "run docs/make_format_dump.py"


def test_a_program_without_sealwax_opens_the_dump(unseal: ModuleType) -> None:
    envelope, facts = shown()
    context, local = {"purpose": "backup"}, {"id": "7"}
    assert unseal.encode(context) == facts["KMS context"]
    assert unseal.encode(local) == facts["local context"]
    assert opened(unseal, envelope, facts["data key"], context, local) == facts["plaintext"]


def test_that_program_refuses_what_is_not_authentic(unseal: ModuleType) -> None:
    envelope, facts = shown()
    context, local = {"purpose": "backup"}, {"id": "7"}
    for at in range(len(envelope)):
        broken = bytearray(envelope)
        broken[at] ^= 1
        with pytest.raises((SystemExit, unseal_errors())):
            opened(unseal, bytes(broken), facts["data key"], context, local)
    with pytest.raises((SystemExit, unseal_errors())):
        opened(unseal, envelope[:-1], facts["data key"], context, local)
    with pytest.raises((SystemExit, unseal_errors())):
        opened(unseal, envelope + b"\0", facts["data key"], context, local)
    with pytest.raises(SystemExit, match="another context"):
        opened(unseal, envelope, facts["data key"], {"purpose": "other"}, local)
    with pytest.raises(SystemExit, match="does not belong"):
        opened(unseal, envelope, facts["data key"], context, {"id": "8"})


def unseal_errors() -> Any:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_that_program_opens_every_size_and_both_layouts(unseal: ModuleType, size: int, tmp_path: Path) -> None:
    key = bytes(range(32))
    sealer = Sealer(FakeKeyring(new_key=lambda _: key), local_context=("id",))
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "a.swx"
    with sealer.open(path, "wb", context={"purpose": "backup", "id": "7"}) as file:
        file.write(data)
    sealed = path.read_bytes()
    assert sealed[11] == (2 if size >= 1 << 20 else 1)
    assert opened(unseal, sealed, key, {"purpose": "backup"}, {"id": "7"}) == data
