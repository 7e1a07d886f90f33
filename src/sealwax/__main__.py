"""The program: the ``sealwax`` script, and ``python -m sealwax`` for when the script is not on the path."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the program."""
    try:
        # Here, since it takes long enough for a Ctrl-C to meet it.
        from sealwax import cli

        cli.main()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("sealwax: interrupted", file=sys.stderr)  # noqa: T201  the console may be half imported
        sys.exit(130)


if __name__ == "__main__":
    main()
