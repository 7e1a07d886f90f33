"""A framed message that is not signed, as a file that is open for reading at any position."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag

from sealwax._core.foreign.esdk.opening import FINAL_OVERHEAD, FRAME_OVERHEAD, Frames, OpenMessage
from sealwax._core.format.io import SeekableSource
from sealwax._core.format.payload import GROUP_BYTES, tampered
from sealwax._core.format.random_access import PositionedReader
from sealwax.errors import TamperedError


class FrameReader(PositionedReader):
    """Reads any position of a framed message in a seekable file; each frame is authenticated before it is used.

    Opening reads the final frame, so that the size is authenticated.

    Args:
        source: the file that holds the message.
        offset: where in the file the body begins, in bytes.
        size: the size of the body in bytes.
        message: the open message, for which ``early`` is true; closed with this, and if this raises.
        on_close: called once.

    Raises:
        TamperedError: the final frame does not authenticate, or no body has that size.
    """

    def __init__(
        self,
        source: SeekableSource,
        offset: int,
        size: int,
        message: OpenMessage,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._message = message
        self._frames: Frames | None = Frames(message)
        length, step = self._frames.length, self._frames.step
        super().__init__(source, offset, length, max(1, GROUP_BYTES // step))
        if not message.early:
            self._give_up()
            raise ValueError("nothing of a message that is signed, or not framed, is authentic before its end")
        # The final frame is longer than the others, but by less than a frame.
        self._whole, rest = divmod(size - FINAL_OVERHEAD, step)
        if size < FINAL_OVERHEAD or rest > length:
            self._give_up()
            raise TamperedError(f"the message is cut off or extended: no body in its frames has {max(size, 0)} bytes")
        self._body_size = size
        self.size = self._whole * length + rest
        self._sealed = bytearray(min(size, self._most_parts * step + FINAL_OVERHEAD - FRAME_OVERHEAD))
        self._plain = bytearray(min(self._most_parts * length, max(self.size, 1)))
        # What is in the private buffer: reads of a large frame part by part decrypt it once.
        self._first = self._held = self._bytes = 0
        self._open_last(self._whole)
        self._on_close = on_close

    def _open_parts(self, first: int, count: int) -> int:
        if self._frames is None:
            raise tampered(first * self._part_bytes)
        if first == self._first and self._held >= count:
            return self._bytes
        self._held = 0
        step = self._frames.step
        whole = min(count, self._whole - first)
        start = first * step
        end = start + whole * step if whole == count else self._body_size
        try:
            with self._read(start, end - start) as sealed, memoryview(self._plain) as plain:
                if self._frames.open(first + 1, sealed[: whole * step], plain) != whole:
                    raise InvalidTag
                size = whole * self._part_bytes
                if whole < count:
                    final = self._frames.open_final(self._whole + 1, sealed[whole * step :], plain[size:])
                    if final is None or final[0] != end - start - whole * step:
                        raise InvalidTag
                    size += final[1]
        except (InvalidTag, TamperedError):
            self._give_up()
            raise tampered(first * self._part_bytes) from None
        self._first, self._held, self._bytes = first, count, size
        return size

    def _drop_keys(self) -> None:
        self._frames = None
        self._message.close()
