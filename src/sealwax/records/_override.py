"""Test doubles for the ``Records`` of an application."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sealwax.records._records import Records


@contextlib.contextmanager
def override_records(records: Records, other: Records) -> Iterator[Records]:
    """Let an application's ``Records``, and the fields made from it, use the KMS and the key store of another one.

    The application keeps its objects, its scopes and its fields. What it seals within the block opens within the block
    only, and nothing reaches its own KMS keys and its own key store. Wait for its threads before the block ends. If the
    application closes its ``Records`` within the block, as at its own end, it is open again afterwards.

    Args:
        records: the one that the application holds.
        other: whose keyring and key store it uses meanwhile, such as the pytest fixture ``sealwax_records``.

    Returns:
        A context manager, which yields ``records``.

    Raises:
        TypeError: one of the two is no ``Records``.

    Example:
        ::

            @pytest.fixture(autouse=True)
            def lab_records(sealwax_records):
                with override_records(app.records, sealwax_records):
                    yield
    """
    for given in (records, other):
        if not isinstance(given, Records):
            raise TypeError(f"override_records takes two Records, not {type(given).__name__}")
    closed = records.closed
    before = records.keyring, records.store
    try:
        records._exchange(other.keyring, other.store, closed=closed)
        yield records
    finally:
        records._exchange(*before, closed=closed)
