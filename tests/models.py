"""botocore's models, read once for all sessions of this process; each would take a tenth of a second for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import botocore.loaders
import botocore.session
import pytest
from botocore.loaders import Loader


@contextlib.contextmanager
def open_stream() -> Iterator[None]:
    """Lend every session of botocore one loader, but where a folder of other models is named."""
    create = botocore.loaders.create_loader
    shared = create()

    def lend(search_path_string: str | None = None) -> Loader:
        return create(search_path_string) if search_path_string else shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lend)
        yield
