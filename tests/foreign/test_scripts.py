"""Files of ENVKMS01 and of the boto3 guide, as a sealer and the command line read them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sealwax
from sealwax import NO_CONTEXT
from sealwax._core import moving
from sealwax._core.foreign import passes
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.foreign.scripts import OpenScript, ScriptHeader, read_header
from sealwax._core.keyring import DataKey
from sealwax.cli import run
from sealwax.errors import (
    ContextError,
    DamagedHeaderError,
    HeaderError,
    NotAnEnvelopeError,
    SealwaxError,
    TamperedError,
    UnsupportedEnvelopeError,
)
from sealwax.lab import Lab
from tests.foreign.scripts import envkms, guide, sized

CONTEXT = {"purpose": "backup"}
NAMES = ("envkms01", "boto3-fernet")
# Around what one step decrypts: 1 MiB of ciphertext, and of base64.
SIZES = (0, 1, 15, 16, 17, 32, 1000, 786_360, 786_432, (1 << 20) - 1, 1 << 20, (1 << 20) + 17, 3_000_001)

Make = Callable[[Lab, bytes], tuple[bytes, dict[str, str] | sealwax.NoContext]]
MAKERS: dict[str, Make] = {
    "envkms01": lambda lab, data: (envkms(lab, "alias/k", data, CONTEXT), CONTEXT),
    "boto3-fernet": lambda lab, data: (guide(lab, "alias/k", data), NO_CONTEXT),
}


class Pipe(io.RawIOBase):
    """A file that is read once, front to back."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(memoryview(buffer)[:5000])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab") / "lab") as lab:
        lab.create_key(alias="k")
        lab.create_key(alias="other")
        yield lab


def sealer(lab: Lab, *names: str, key: str = "alias/k") -> sealwax.Sealer:
    return sealwax.Sealer(sealwax.KmsKeyring(key, session=lab.session()), allow_legacy=names)


def calls(lab: Lab) -> int:
    return len(list(lab.trail.events()))


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_reads_every_size(lab: Lab, name: str, tmp_path: Path) -> None:
    reader = sealer(lab, name)
    for size in SIZES:
        data = os.urandom(size)
        sealed, context = MAKERS[name](lab, data)
        path = tmp_path / "x"
        path.write_bytes(sealed)
        assert reader.decrypt(sealed, context=context) == data, size
        with reader.open(path, context=context) as file:
            assert file.read() == data, size
        with reader.open_stream(Pipe(sealed), context=context) as stream:  # type: ignore[arg-type]
            assert stream.read() == data, size
        assert reader.verify(path, context=context) == size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 40, 2_000_000])
def test_nothing_is_released_of_what_was_changed(lab: Lab, name: str, size: int) -> None:
    sealed, context = MAKERS[name](lab, os.urandom(size))
    reader = sealer(lab, name)
    flipped = bytearray(sealed)
    flipped[-20] = ord("B") if flipped[-20] == ord("A") else ord("A")  # a letter of base64 too
    cut = [sealed[: -(1 << 20)]] if size > 40 else []
    for bad in (bytes(flipped), sealed[:-1], sealed[:-4], *cut, sealed + b"x", sealed + b"xxxx"):
        with pytest.raises((TamperedError, NotAnEnvelopeError)):  # a token is known by its form
            reader.open(io.BytesIO(bad), context=context)
        with pytest.raises(TamperedError):
            reader.open_stream(Pipe(bad), context=context)  # type: ignore[arg-type]


def test_a_token_may_end_with_a_newline(lab: Lab, tmp_path: Path) -> None:
    """The guide's own program reads that too, as an editor may leave it; two newlines are none of an editor's."""
    reader, path = sealer(lab, "boto3-fernet"), tmp_path / "x"
    for size in (0, 40, 2_000_000):
        data = os.urandom(size)
        sealed = guide(lab, "alias/k", data) + b"\n"
        path.write_bytes(sealed)
        assert reader.decrypt(sealed, context=NO_CONTEXT) == data
        with reader.open(path, context=NO_CONTEXT) as file:
            assert file.read() == data
        with reader.open_stream(Pipe(sealed), context=NO_CONTEXT) as stream:  # type: ignore[arg-type]
            assert stream.read() == data
        with path.open("rb") as source:
            moving.look(source, ForeignRules(frozenset({"boto3-fernet"})))
        for bad in (sealed + b"\n", sealed[:-2] + b"\n"):
            with pytest.raises(TamperedError):
                reader.decrypt(bad, context=NO_CONTEXT)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_to_be_named(lab: Lab, name: str) -> None:
    sealed, context = MAKERS[name](lab, b"data")
    before = calls(lab)
    kind = UnsupportedEnvelopeError if name == "envkms01" else NotAnEnvelopeError
    others = [other for other in NAMES if other != name]
    for reader in (sealer(lab), sealer(lab, *others)):
        for source in (io.BytesIO(sealed), Pipe(sealed)):
            with pytest.raises(kind if name == "envkms01" or source.seekable() else HeaderError):
                reader.open_stream(source, context=context)  # type: ignore[arg-type]
        with pytest.raises(kind):
            reader.decrypt(sealed, context=context)
    assert calls(lab) == before


@pytest.mark.parametrize("name", NAMES)
def test_one_inside_something_else_is_not_damaged(lab: Lab, name: str, tmp_path: Path) -> None:
    """Its bytes are not where a script's are: what it is in has to be undone first."""
    data, context = MAKERS[name](lab, b"x" * 300)
    text = base64.b64encode(data)
    for number, (bad, advice) in enumerate(
        (
            (text, "decode it first"),
            (gzip.compress(data), "decompress it first"),
            (json.dumps({"a": text.decode()}).encode(), "extract each value|another kind"),
        )
    ):
        path = tmp_path / str(number)
        path.write_bytes(bad)
        sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/k", session=lab.session()), allow_legacy=[name])
        with pytest.raises(NotAnEnvelopeError, match=advice):
            sealer.decrypt(bad, context=context)
        with path.open("rb") as file, pytest.raises(NotAnEnvelopeError, match=advice):
            moving.look(file, ForeignRules(frozenset({name})))


def test_wrong_contexts_and_keys(lab: Lab) -> None:
    named = sealer(lab, *NAMES)
    old, token = envkms(lab, "alias/k", b"data", CONTEXT), guide(lab, "alias/k", b"data")
    before = calls(lab)
    for sealed, context in ((old, {"purpose": "x"}), (old, NO_CONTEXT), (old, {**CONTEXT, "a": "b"}), (token, CONTEXT)):
        with pytest.raises(ContextError):
            named.decrypt(sealed, context=context)
    assert calls(lab) == before
    assert named.decrypt(old, context=sealwax.AcceptStoredContext()) == b"data"
    for sealed, context in ((old, CONTEXT), (token, NO_CONTEXT)):
        with pytest.raises(sealwax.KmsError):
            sealer(lab, *NAMES, key="alias/other").decrypt(sealed, context=context)


MAGIC = b"ENVKMS01"
BAD_HEADERS = [
    MAGIC,
    MAGIC + sized(b""),
    MAGIC + (6145).to_bytes(4, "big") + bytes(6145),
    MAGIC + (1 << 31).to_bytes(4, "big"),
    MAGIC + sized(b"b" * 100),
    MAGIC + sized(b"b" * 100) + (65_537).to_bytes(4, "big") + bytes(65_537),
    MAGIC + sized(b"b" * 100) + sized(b"{}") + bytes(11),
    *(
        MAGIC + sized(b"b" * 100) + sized(text) + bytes(100)
        for text in (b"x", b"[]", b'{"a": 1}', b'{"a": "b", "a": "b"}', b"[" * 60_000, b"\xff", b'"a"')
    ),
    # Text that KMS takes in no request, and encodings that are not UTF-8.
    *(
        MAGIC + sized(b"b" * 100) + sized(text) + bytes(100)
        for text in (b'{"a": "\\ud800"}', b'{"\\ud800": "a"}', b'{"a": "\xed\xa0\x80"}', '{"a": "b"}'.encode("utf-16"))
    ),
]


@pytest.mark.parametrize("bad", BAD_HEADERS)
def test_headers_that_are_damaged(lab: Lab, bad: bytes) -> None:
    before = calls(lab)
    for source in (io.BytesIO(bad), Pipe(bad)):
        with pytest.raises(HeaderError) as caught:
            sealer(lab, *NAMES).open_stream(source, context=CONTEXT)  # type: ignore[arg-type]
        assert isinstance(caught.value, DamagedHeaderError | NotAnEnvelopeError)
    assert calls(lab) == before


def test_a_token_that_is_authentic_and_wrong() -> None:
    """Fernet's own class refuses these too; here it must not be by chance."""
    from cryptography.fernet import Fernet

    with DataKey(bytearray(32)) as key:
        header = ScriptHeader("boto3-fernet", b"b", {}, b"", 5)
        token = Fernet("A" * 43 + "=").encrypt(b"text")
        for changed, fine in ((token, True), (b"=" + token[1:], False), (b"gQ" + token[2:], False)):
            opened = OpenScript(header, key)
            opened.size = len(changed)
            if fine:
                assert passes.check(io.BytesIO(changed), opened).plaintext_bytes == 4
            else:
                with pytest.raises(TamperedError):
                    passes.check(io.BytesIO(changed), opened)


def test_mutations_end_in_typed_errors(lab: Lab) -> None:
    chosen = random.Random(21)
    reader = sealer(lab, *NAMES)
    samples = [MAKERS[name](lab, b"some data" * 20) for name in NAMES]
    refused = 0
    for _ in range(600):
        sealed, context = chosen.choice(samples)
        changed = bytearray(sealed)
        at = chosen.randrange(len(changed))
        kind = chosen.randrange(3)
        if kind == 0:
            changed[at] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            del changed[at : at + chosen.randrange(1, 40)]
        else:
            changed[at:at] = chosen.randbytes(chosen.randrange(1, 40))
        try:
            plaintext = reader.decrypt(bytes(changed), context=context)
        except SealwaxError:
            refused += 1
        else:  # base64 has bits that mean nothing
            assert plaintext == b"some data" * 20
    assert refused > 590


def test_any_header_ends_in_a_header_or_an_error() -> None:
    chosen = random.Random(22)
    for _ in range(2000):
        data = chosen.choice((MAGIC, b"", b"\0\0")) + chosen.randbytes(chosen.randrange(60))
        file = io.BytesIO(data)
        with contextlib.suppress(HeaderError):
            assert read_header(file.read).size <= len(data)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_command_line(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", str(lab.path))
    sealed, context = MAKERS[name](lab, b"text\n")
    Path("x").write_bytes(sealed)
    given = ["-k", "alias/k", *(["--no-context"] if context is NO_CONTEXT else ["-c", "purpose=backup"]), "x"]
    allow = ["--allow-legacy", name] if name == "envkms01" else ["--format", name]
    assert run(["verify", *given]) == 4
    assert f"to read it, use {' '.join(allow)}" in capfd.readouterr().err
    for command in (["inspect", "x"], ["rewrap", "--to", "alias/other", *given]):
        assert run(command) == 4
        assert f"decrypt, verify and migrate read it with {' '.join(allow)}" in capfd.readouterr().err
    assert run(["verify", *allow, *given]) == 0
    assert run(["decrypt", *allow, *given, "-o", "y"]) == 0
    assert Path("y").read_bytes() == b"text\n"
    Path("x").write_bytes(sealed[:-4])
    assert run(["decrypt", *allow, *given, "-o", "z"]) == 5
    assert not Path("z").exists()
