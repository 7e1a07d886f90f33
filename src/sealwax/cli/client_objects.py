"""Objects of the S3 Encryption Client, as ``rewrap`` meets them among envelopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from sealwax._core.foreign.s3ec.fields import ObjectFields
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax._core.objects import is_object
from sealwax._core.rewrap import Rewrap, RewrapsObjects
from sealwax.cli import contents
from sealwax.errors import NotAnEnvelopeError

if TYPE_CHECKING:
    from sealwax.stores.s3 import ObjectReader


class Noting:
    """A ``Rewrap`` that notes what it met.

    Attributes:
        met: whether it was such an object.
        already: whether KMS says that the object needs nothing.
    """

    def __init__(self, rewrap: Rewrap) -> None:
        self._rewrap = rewrap
        self._objects = cast("RewrapsObjects", rewrap)  # as each of a sealer is
        self.met = False
        self.already = False

    def __call__(self, header: Header, head: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        return self._rewrap(header, head)

    def fields_before_kms(self, fields: ObjectFields) -> dict[str, str]:
        self.met = True
        return self._objects.fields_before_kms(fields)

    def rewrap_object(self, fields: ObjectFields, file: Callable[[], BinaryIO]) -> dict[str, str]:
        self.met = True
        changed = self._objects.rewrap_object(fields, file)
        self.already = not changed
        return changed


def check(source: contents.Source, rewrap: Rewrap, error: NotAnEnvelopeError) -> None:
    """Refuse what a re-wrap in place would refuse before KMS is asked.

    Raises:
        NotAnEnvelopeError: ``error``; it is no such object.
        SealwaxError: the refusal.
    """
    if not is_object(error, source.file):
        raise error
    from sealwax.stores.s3._s3ec import check_object

    check_object(cast("ObjectReader", source.file), cast("RewrapsObjects", rewrap))
