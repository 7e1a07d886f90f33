"""An open envelope is not copied: a copy would close the original's file."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path

import pytest

import sealwax


def test_writers_and_readers_are_not_copied_or_pickled(sealer: sealwax.Sealer, tmp_path: Path) -> None:
    path, context = tmp_path / "a.swx", {"a": "b"}
    data = os.urandom(100_000)
    with sealer.open(path, "wb", context=context) as writer:
        for refused in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                refused(writer)
        writer.write(data)
    anywhere = sealer.open(path, context=context)
    once = sealer.read_once(io.BytesIO(path.read_bytes()), context=context)
    for reader in (anywhere.raw, once):
        for refused in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                refused(reader)
    assert anywhere.read() == data
    assert once.readall() == data
    anywhere.close()
    once.close()
