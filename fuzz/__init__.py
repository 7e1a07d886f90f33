"""Coverage-guided fuzzing of everything that reads bytes from strangers.

Each module but ``__main__`` and ``seeds`` is one target: its ``check(data)`` returns where all is well and raises where
it is not. What holds for all of them:

- only a typed error of sealwax ends a reading, or the command line's usage error where it is the command line's;
- what was read, written again, is what was read: there is one form of everything;
- different ways to read the same bytes come to the same end.

``make fuzz`` runs each with atheris (``python -m fuzz TARGET`` with libFuzzer's options); ``tests/fuzz`` runs the kept
corpus, and changed copies of it, through the same functions without atheris.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

TARGETS: Final = (
    "header",
    "payload",
    "armor",
    "context",
    "context_file",
    "foreign",
    "record",
    "key_row",
    "esdk",
    "s3ec",
    "scripts",
)
CORPUS: Final = Path(__file__).parent / "corpus"
