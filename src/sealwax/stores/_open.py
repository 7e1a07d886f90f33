"""Opening a store by the name of its location."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sealwax.stores._files import FileStore
from sealwax.stores._store import S3_SCHEME, Store, check_path, is_key_store

if TYPE_CHECKING:
    from sealwax._aws.session import Session


def open_store(location: str, session: Session | None = None) -> Store:
    """Open the store at a location.

    Args:
        location: a folder, one file, ``s3://bucket/prefix``, an S3 Inventory's ``s3://bucket/.../manifest.json``, or
            a key store of records: ``sql+`` and the URL of its database, without a password.
        session: a boto3 Session for S3; an ordinary one by default.

    Returns:
        The store. Opening one in S3 sends no request, except to read an inventory's manifest; opening a key store
        does not connect to the database.

    Raises:
        FileError: the folder or file does not exist, or the location is not a valid S3 name.
        KeyStoreError: the driver of the database is not installed, or its SQLite file does not exist.
        ValueError: the URL of the database is not valid, or has a password; or the location is another URL or an ARN.

    Example:
        >>> store = open_store("s3://vault/backups/")
        >>> store.rewrap("s3://vault/backups/a.swx", sealer.rewrapper(to="alias/new", context=context))
    """
    if location.startswith(S3_SCHEME):
        from sealwax.stores.s3._store import open_location

        return open_location(location, session)
    if is_key_store(location):
        from sealwax.stores import key_rows

        return key_rows.open_location(location)
    if not os.path.lexists(location):
        check_path(location)
    return FileStore(location)
