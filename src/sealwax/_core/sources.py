"""The types that public functions take: values, paths and file objects."""

from __future__ import annotations

import os
from typing import BinaryIO

AnyPath = str | os.PathLike[str]
BytesLike = bytes | bytearray | memoryview
AnySource = BytesLike | AnyPath | BinaryIO
