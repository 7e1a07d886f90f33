"""Where envelopes are stored: folders of files, S3, and key stores of records.

``sealwax.stores.s3`` reads and writes single S3 objects; ``sealwax.stores.key_rows`` makes a key store a location.

Example:
    >>> store = stores.open_store("backups")
    >>> for entry in store.list():
    ...     print(entry)
"""

from sealwax._core.rewrap import Rewrap
from sealwax.stores._open import open_store
from sealwax.stores._store import Change, Entry, Store

__all__ = ["Change", "Entry", "Rewrap", "Store", "open_store"]
