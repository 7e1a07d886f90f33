"""The pair of the encryption context that says what the data keys of records are for."""

from __future__ import annotations

from typing import Final

USE: Final = "sealwax-use"
