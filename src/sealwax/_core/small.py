"""Small values under a data key that is already held: the same bytes and checks, in far fewer steps.

Most of the time for such a value is spent on what was done before: encoding the same context, parsing a header with the
same wrapped keys. The results are kept in the note of the held data key, and go when it goes.

Everything unusual takes the ordinary path in the caller: a data key that is missing, too old or used up, and a context
or header that is refused. So those errors are raised in one place only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import Final

from sealwax._core import context as ctx
from sealwax._core import envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import Holder
from sealwax.errors import ContextError, HeaderError

_Pairs = frozenset[tuple[str, str]]

_LEAST_PAYLOAD_BYTES: Final = payload.HEAD_BYTES + payload.TAG_BYTES
_DRAWN_BYTES: Final = hdr.ENVELOPE_ID_BYTES + payload.SALT_BYTES


class SmallValues:
    """Encrypts and decrypts values of less than a chunk, from any number of threads at once.

    Args:
        local_names: see ``Sealer``.
    """

    def __init__(self, holder: Holder, local_names: Collection[str]) -> None:
        self._holder = holder
        self._local_names = local_names
        # Most sealers have one local pair. An impossible name is refused when it is used.
        self._starts: dict[str, bytes] = {}
        for name in local_names:
            if type(name) is str:
                with contextlib.suppress(ContextError):
                    self._starts[name] = ctx.start_of_pair(name)

    def encrypt(self, plaintext: object, context: object) -> bytes | None:
        """Return an envelope, or None if it needs the ordinary path."""
        if type(plaintext) is not bytes or len(plaintext) >= payload.CHUNK_BYTES or type(context) is not dict:
            return None
        pairs, local, local_pairs = self._split(context)
        if pairs is None:
            return None
        loan = self._holder.take(pairs, len(plaintext))
        if loan is None:
            self._mark_for_encrypting(pairs)
            loan = self._holder.take(pairs, len(plaintext))
            if loan is None:
                return None
        try:
            template, kms = loan.note
            # From the kernel each time (see operations.begin), and in one call, since that is most of the cost.
            drawn = os.urandom(_DRAWN_BYTES)
            envelope_id, salt = drawn[: hdr.ENVELOPE_ID_BYTES], drawn[hdr.ENVELOPE_ID_BYTES :]
            header = template.parts(envelope_id, local_pairs)
            return payload.seal_small(loan.key, header, envelope_id, salt, kms, local, plaintext)
        finally:
            self._holder.give_back(loan)

    def decrypt(self, sealed: object, context: object) -> bytes | None:
        """Return the plaintext, or None if it needs the ordinary path.

        Raises:
            CommitmentError, TamperedError: as for ``Sealer.decrypt``.
        """
        if type(sealed) is not bytes or type(context) is not dict or (parts := hdr.outline(sealed)) is None:
            return None
        outline, envelope_id, stored_local_pairs, start = parts
        if not _LEAST_PAYLOAD_BYTES <= len(sealed) - start < payload.HEAD_BYTES + payload.SEALED_CHUNK_BYTES:
            return None
        pairs, local, local_pairs = self._split(context)
        if pairs is None or local_pairs != stored_local_pairs:
            return None
        mark = outline, pairs
        loan = self._holder.take(mark, None)
        if loan is None:
            self._mark_for_decrypting(mark, sealed)
            loan = self._holder.take(mark, None)
            if loan is None:
                return None
        try:
            return payload.open_small(loan.key, envelope_id, loan.note, local, sealed, start)
        finally:
            self._holder.give_back(loan)

    def _split(self, context: dict[str, str]) -> tuple[_Pairs | None, bytes, int]:
        """Return the pairs of the KMS context, the canonical form of the local context, and its number of pairs.

        The pairs are None if they need the ordinary path: an empty map, anything but plain str, or a local context that
        is refused.
        """
        names = self._local_names
        kms: list[tuple[str, str]] = []
        local: list[tuple[str, str]] = []
        for pair in context.items():
            name, value = pair
            if type(name) is not str or type(value) is not str:
                return None, b"", 0
            (local if name in names else kms).append(pair)
        if not local:
            return frozenset(kms) if kms else None, ctx.EMPTY, 0
        try:
            start = self._starts.get(local[0][0]) if len(local) == 1 else None
            encoded = ctx.encode(dict(local)) if start is None else ctx.encode_pair(start, local[0][1])
        except ContextError:
            return None, b"", 0
        return frozenset(kms), encoded, len(local)

    def _mark_for_encrypting(self, pairs: _Pairs) -> None:
        """Mark the data key that is held for a KMS context, if there is one, with its pairs."""
        loan = self._holder.find(pairs, pairs)
        if loan is None:
            return
        stored = dict(pairs)
        with contextlib.suppress(ContextError, HeaderError):
            ctx.check_new_keys(stored)
            kms = ctx.encode(stored)
            template = hdr.HeaderTemplate(kms, loan.wrapped_keys, 1, hdr.ATTACHED)
            self._holder.mark(loan, pairs, (template, payload.framed(kms)))

    def _mark_for_decrypting(self, mark: tuple[bytes, _Pairs], sealed: bytes) -> None:
        """Mark the data key that is held for a header, if there is one, with the header's outline and stored pairs."""
        with contextlib.suppress(HeaderError):
            header = envelope.header_of_value(sealed)
            envelope.refuse_kind(header, hdr.ATTACHED)
            kms, pairs = header.preamble.kms_context, mark[1]
            if frozenset(ctx.decode(kms).items()) != pairs:
                return
            loan = self._holder.find(mark, pairs, header.slot.wrapped_keys)
            if loan is not None:
                self._holder.mark(loan, mark, payload.framed(kms))
