"""``python -m fuzz TARGET [libFuzzer's options] [corpus folders]``: one target under atheris, until told to stop."""

from __future__ import annotations

import importlib
import sys

import atheris

from fuzz import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [libFuzzer's options] [corpus folders]")
    name = sys.argv[1]
    with atheris.instrument_imports(include=["sealwax"]):
        target = importlib.import_module(f"fuzz.{name}")
    atheris.Setup([f"fuzz-{name}", *sys.argv[2:]], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
