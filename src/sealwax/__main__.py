"""``python -m sealwax``, for when the ``sealwax`` script is not on the path."""

from __future__ import annotations

from sealwax.cli import main

if __name__ == "__main__":
    main()
